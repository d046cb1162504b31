"""The graph without a graph: a script that calls the same functions, in the same order, in one process.

It is the peer of `end_to_end`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks import steps
from mlops_platform.settings import Settings

if __name__ == "__main__":
    settings = Settings(home=Path(sys.argv[1]))
    for step in (*steps.DATAOPS, *steps.MLOPS):
        step(settings)
