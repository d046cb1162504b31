"""Training data: splits, class balance and augmented copies."""
