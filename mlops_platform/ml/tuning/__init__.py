"""TODO mlops_platform/ml/tuning."""
