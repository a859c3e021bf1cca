"""Evidence on disk: the timeline of a call."""
