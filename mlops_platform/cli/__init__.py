"""The `mlops` command, one verb a module; ``cli`` only parses and prints errors."""
