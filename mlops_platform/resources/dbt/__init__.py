"""dbt: the project with its manifest, its runs in this process or in dbt Cloud, and column lineage."""
