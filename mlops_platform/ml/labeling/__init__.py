"""TODO mlops_platform/ml/labeling."""
