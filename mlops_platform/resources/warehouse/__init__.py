"""The warehouse: what the graph asks of it, on DuckDB and on BigQuery."""
