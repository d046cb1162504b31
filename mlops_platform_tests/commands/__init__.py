"""Tests of mlops_platform.commands."""
