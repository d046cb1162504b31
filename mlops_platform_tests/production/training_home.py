"""The fixtures of `training_graph`, as a plugin that test modules here name."""

from mlops_platform_tests.training_graph import fresh, trained, trained_once, untouched_home

__all__ = ["fresh", "trained", "trained_once", "untouched_home"]
