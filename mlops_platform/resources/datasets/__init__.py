"""Snapshots of the training data as Parquet files, and the holdout sets."""
