"""A labeled history played through the learning loop in simulated time, for `mlops replay`; no Dagster here."""
