"""What starts runs from outside the graph."""
