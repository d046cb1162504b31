"""TODO mlops_platform_tests/ml/evaluation."""
