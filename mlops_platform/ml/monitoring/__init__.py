"""TODO mlops_platform/ml/monitoring."""
