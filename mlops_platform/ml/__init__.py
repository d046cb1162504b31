"""Text classification without orchestration: nothing here imports Dagster or MLflow."""
