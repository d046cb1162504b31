"""Tests of mlops_platform.cli."""
