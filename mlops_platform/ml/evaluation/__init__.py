"""TODO mlops_platform/ml/evaluation."""
