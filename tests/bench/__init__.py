"""Measurements; run by `make bench`, skipped by an ordinary test run."""
