"""Tests of mlops_platform.assets."""
