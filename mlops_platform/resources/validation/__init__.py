"""TODO mlops_platform/resources/validation."""
