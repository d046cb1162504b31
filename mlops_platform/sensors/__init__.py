"""What starts runs or reports problems from outside the graph; automation conditions are in ``automation``."""
