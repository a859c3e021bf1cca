"""Telemetry: spans, metrics and logs of live calls, made from the evidence they leave."""
