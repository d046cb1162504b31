"""What the `mlops` command does, one verb a module; ``cli`` only parses and prints errors."""
