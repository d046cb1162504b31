"""Tests of mlops_platform.ml.evaluation."""
