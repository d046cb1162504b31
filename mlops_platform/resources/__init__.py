"""What the assets run on: warehouse, dbt, expectations, experiment tracking, stores of values."""
