"""Airflow 3 in an environment of its own, for `benchmarks.beside_airflow`."""
