"""The labels that people give, as events."""
