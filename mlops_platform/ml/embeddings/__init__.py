"""TODO mlops_platform/ml/embeddings."""
