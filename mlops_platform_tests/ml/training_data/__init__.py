"""Tests of mlops_platform.ml.training_data."""
