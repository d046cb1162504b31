"""The asset graph, one stage a file."""
