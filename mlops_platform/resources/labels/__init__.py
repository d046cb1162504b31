"""TODO mlops_platform/resources/labels."""
