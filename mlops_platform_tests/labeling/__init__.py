"""Tests of the labeling page's server and of the CSV files."""
