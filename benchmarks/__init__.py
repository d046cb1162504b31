"""Measurements, each beside what a user would do instead; `make bench` runs them and writes results.md."""
