"""The warehouse on BigQuery; SQL comes in DuckDB's dialect and is transpiled."""
