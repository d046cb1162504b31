"""Sentence encoders: export from sentence-transformers, the store, and the cache of vectors."""
