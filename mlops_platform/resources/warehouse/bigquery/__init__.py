"""TODO mlops_platform/resources/warehouse/bigquery."""
