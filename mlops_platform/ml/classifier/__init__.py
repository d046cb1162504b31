"""The text classifier: its pipeline, how it is trained in and out of core, and how it predicts."""
