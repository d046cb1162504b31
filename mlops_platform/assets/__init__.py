"""The asset graph, one stage a file; computations belong in ``ml``, systems in ``resources``, guards in ``checks``."""
