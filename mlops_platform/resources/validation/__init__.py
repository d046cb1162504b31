"""Great Expectations: suites, their run on a table, and the Data Docs."""
