"""TODO mlops_platform/resources/registry."""
