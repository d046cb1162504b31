"""The overhead of Dagster: the whole graph against a plain script, and the code location against its bare imports."""

from __future__ import annotations

import json
import sys
import tempfile

from benchmarks.harness import Goal, Row, Section, Size, compare, in_turns, measure

_TICK = Goal(0.2, of="ours")


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
    with tempfile.TemporaryDirectory(prefix="mlops-bench-load-") as folder:
        # outside the rounds: the first load also writes dbt's manifest, once per checkout
        loading = in_turns(
            [
                lambda _: ["/usr/bin/env", f"MLOPS_HOME={folder}", python, "-c", "import mlops_platform.definitions"],
                lambda _: [python, "-c", "import dagster, dagster_dbt"],
            ],
            3 * rounds,
        )
    output = measure([python, "-W", "ignore", "-m", "benchmarks.ticks", "--ticks", str(4 * rounds)]).output
    ticks = json.loads(output.splitlines()[-1])
    return Section(
        title="Orchestration",
        about="The plain script (`benchmarks/plain.py`, `steps.py`) calls the same functions in one process.",
        rows=[
            *compare("`mlops run` (end_to_end, empty home) / plain script", 1.2, *whole),
            *compare("load the code location / `import dagster, dagster_dbt`", 1.15, *loading),
            *(
                Row(f"tick of the partition sensor, 10,000 partitions, {name}, cpu", "s", ticks[key], goal=_TICK)
                for name, key in (("nothing changed", "unchanged"), ("one changed", "changed"))
            ),
        ],
        notes=(
            "A tick's time is that of the real sensor with Google's client (BigQuery is a process on this machine that"
            " answers the one query)."
        ),
    )
