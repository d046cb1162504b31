"""Tests of mlops_platform.checks."""
