"""TODO mlops_platform/resources/datasets."""
