"""Tools around the runtime: the demo, the caller that judges it, benches and drills."""
