"""Tests of mlops_platform.ml.labeling."""
