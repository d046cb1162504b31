"""Tests of mlops_platform.ml.tuning."""
