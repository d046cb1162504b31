"""Tests of mlops_platform.resources."""
