"""RSPP, the Real-time Speech Pipeline Platform: who may speak in a live call, and what happened."""
