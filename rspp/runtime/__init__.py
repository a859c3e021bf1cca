"""The process: joins rooms, serves dispatches, runs files; many sessions, health and drain."""
