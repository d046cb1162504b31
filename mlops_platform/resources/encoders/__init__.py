"""TODO mlops_platform/resources/encoders."""
