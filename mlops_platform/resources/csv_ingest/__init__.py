"""TODO mlops_platform/resources/csv_ingest."""
