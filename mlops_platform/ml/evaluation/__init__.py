"""Evaluation of a model: metrics, the holdout set, slices, promotion gates and their plots."""
