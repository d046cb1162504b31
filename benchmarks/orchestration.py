"""What Dagster adds: the whole graph beside a plain script, and the code location beside its bare imports."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Goal, Row, Section, Size, compare, in_turns, measure

_TICK = Goal(0.2, of="ours")
# without the process's end, where a bare import has its objects looked through and freed, and ours does not
_LOAD = "import {}; import os; os._exit(0)"


def run(size: Size) -> Section:
    """Measure; "quick" takes about two minutes, "full" about five."""
    rounds = 1 if size == "quick" else 5
    python = sys.executable
    whole = in_turns(
        [
            lambda home: ["/usr/bin/env", f"MLOPS_HOME={home}", python, "-m", "mlops_platform.cli.main", "run"],
            lambda home: [python, "-m", "benchmarks.plain", str(home)],
        ],
        rounds,
    )
    with tempfile.TemporaryDirectory(prefix="mlops-bench-kept-") as folder:
        # the manifest is made once in a checkout's life: not part of a load
        kept, ours = Path(folder), _LOAD.format("mlops_platform.definitions")
        loading = in_turns(
            [
                lambda _: ["/usr/bin/env", f"MLOPS_HOME={kept}", python, "-c", ours],
                lambda _: [python, "-c", _LOAD.format("dagster, dagster_dbt")],
            ],
            3 * rounds,
        )
    said = measure([python, "-W", "ignore", "-m", "benchmarks.ticks", "--ticks", str(4 * rounds)]).output
    ticks = json.loads(said.splitlines()[-1])
    return Section(
        title="Orchestration",
        about="The plain script (`benchmarks/plain.py`, `steps.py`) calls the same functions in one process.",
        rows=[
            *compare("`mlops run` (end_to_end, empty home) / plain script", 1.2, *whole),
            *compare("load the code location / `import dagster, dagster_dbt`", 1.15, *loading),
            *(
                Row(f"tick of the partition sensor, 10,000 partitions, {name}, cpu", "s", ticks[way], goal=_TICK)
                for name, way in (("nothing changed", "unchanged"), ("one changed", "changed"))
            ),
        ],
        notes=(
            "Part of what Dagster adds is won back: `mlops` collects garbage rarely, leaves without freeing each"
            " object, and keeps the SQLite files of a run open; the script does not. On an empty home two processes"
            " work beside it: one parses dbt's project, the other makes MLflow's database. The code location loads"
            " without collecting garbage, which the bare import does, so it can be the faster of the two; the end of"
            " the process is not counted. A tick's time is that of the real sensor with Google's client (BigQuery is"
            " a process on this machine that answers the one query)."
        ),
    )
