"""The `mlops` command: one verb a module, and `main`, which declares them all."""
