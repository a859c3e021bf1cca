"""Built-in nodes of a session: recognition, replying, segmenting, speaking."""
