"""TODO mlops_platform/ml/classifier."""
