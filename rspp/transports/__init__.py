"""Transports map a room, or files, to a session."""
