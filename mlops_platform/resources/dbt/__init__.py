"""TODO mlops_platform/resources/dbt."""
