"""Your own definitions; `dg scaffold defs` writes them here, and `mlops_platform.definitions` loads them."""
