"""Airbyte: syncs by dagster-airbyte."""
