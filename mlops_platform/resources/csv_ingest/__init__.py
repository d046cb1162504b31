"""CSV ingestion: fetching a source, inspecting it, and loading it with its rejects."""
