"""The shell around one kernel: runs nodes and provider calls, performs effects, decides nothing."""
