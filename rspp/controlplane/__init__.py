"""The control plane as a runtime sees it: snapshots, received off the turn-open path."""
