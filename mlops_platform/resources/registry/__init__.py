"""The model registry in MLflow: versions, aliases and their history."""
