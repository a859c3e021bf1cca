"""Replay of recordings: the same kernel again, the same call under other rules, and what was heard."""
