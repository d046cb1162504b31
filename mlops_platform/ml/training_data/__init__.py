"""TODO mlops_platform/ml/training_data."""
