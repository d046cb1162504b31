"""Tests of mlops_platform.sensors."""
