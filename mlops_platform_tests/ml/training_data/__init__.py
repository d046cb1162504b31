"""TODO mlops_platform_tests/ml/training_data."""
