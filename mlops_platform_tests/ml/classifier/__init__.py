"""Tests of mlops_platform.ml.classifier."""
