"""Authority over a session: the lease, its store, its renewal."""
