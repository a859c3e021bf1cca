"""The caller: an ordinary LiveKit participant that proves what a person on the line would hear.

It runs as a process of its own and imports nothing of RSPP outside this package, so that it shares no
code path and no clock reading with the runtime that it judges.
"""
