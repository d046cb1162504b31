"""The homes in which the training part of the graph runs, and CSVs to load, for the tests of this folder."""

from mlops_platform_tests.resources.csv_loader import both, loader, no_exact_reader
from mlops_platform_tests.training_graph import fresh, trained, trained_once, untouched_home

__all__ = ["both", "fresh", "loader", "no_exact_reader", "trained", "trained_once", "untouched_home"]
