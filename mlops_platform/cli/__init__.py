"""The `mlops` command: one verb a module, and `main`, which registers them all."""
