"""Training data: splits, and how classes, copies and older rows are weighed."""
