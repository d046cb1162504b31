"""Tests of mlops_platform.ml.monitoring."""
