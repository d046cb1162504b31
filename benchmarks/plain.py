"""The graph without a graph: a script that calls the same functions, in the same order, in one process.

It is what `end_to_end` is measured against.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks import steps
from mlops_platform.resources.dbt_preparation import prepare_dbt
from mlops_platform.settings import Settings

if __name__ == "__main__":
    settings = Settings(home=Path(sys.argv[1]))
    # as ours does: dbt parses in a process of its own while the first steps import and load
    with prepare_dbt(settings) as preparation:
        for step in (*steps.DATAOPS, *steps.MLOPS):
            if step is steps.transform:
                preparation.finish()
            step(settings)
