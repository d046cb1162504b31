"""What needs the extra `.[sentence]`; skipped where it is not installed."""
