"""Sentence embeddings: the encoder of the pipeline, and the choice of its precision."""
