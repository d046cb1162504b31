"""TODO mlops_platform/resources/airbyte."""
