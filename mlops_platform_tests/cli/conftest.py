"""The homes in which the training part of the graph runs, for the tests of this folder."""

from mlops_platform_tests.training_graph import fresh, trained, trained_once, untouched_home

__all__ = ["fresh", "trained", "trained_once", "untouched_home"]
