"""Hyperparameter search: features and scores of folds, the search, and the significance of its gain."""
