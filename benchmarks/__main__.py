"""`make bench`: measures, prints, and writes benchmarks/results.md.

Two commands that are compared run in turns, so that a noisy machine disturbs both alike; what counts is the ratio of
their medians. Seconds are of this machine and this hour.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from mlops_platform.commands.doctor import PACKAGES
from mlops_platform.settings import PROJECT_ROOT, SAMPLE_DIR

REAL_DATA = PROJECT_ROOT.parent / "shared" / "data" / "made_with_ml"
RESULTS = PROJECT_ROOT / "benchmarks" / "results.md"


@dataclass(frozen=True)
class Cost:
    """Seconds of one run of a command, its children included."""

    wall: float
    cpu: float


def measure(command: Sequence[str]) -> Cost:
    """Run a command to its end.

    Args:
        command: Program and arguments.

    Returns:
        Wall and CPU seconds (user and system) of it and of the children it has waited for.

    Raises:
        RuntimeError: It failed.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_HOME", "PYTHON"))}
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        actions = [(os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)]
        pid = os.posix_spawn(command[0], list(command), environment, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - started
        if status:
            log.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{log.read().decode()[-2000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def in_turns(commands: Sequence[Callable[[Path], Sequence[str]]], rounds: int) -> list[list[Cost]]:
    """Run commands in turns, each in a new empty folder; the first round only warms the caches.

    Args:
        commands: Each gets its folder and returns what to run.
        rounds: Measured runs of each.

    Returns:
        The costs of each command.
    """
    costs: list[list[Cost]] = [[] for _ in commands]
    for turn in range(rounds + 1):
        for command, seen in zip(commands, costs, strict=True):
            with tempfile.TemporaryDirectory(prefix="mlops-bench-") as folder:
                cost = measure(command(Path(folder)))
            if turn:
                seen.append(cost)
    return costs


def compare(title: str, goal: float, ours: list[Cost], theirs: list[Cost]) -> list[str]:
    """Make the rows of the table for wall and CPU time.

    Args:
        title: What is compared with what.
        goal: Ratio that is not to be passed.
        ours: Costs of ours.
        theirs: Costs of what it is measured against.
    """
    rows = []
    for name in ("wall", "cpu"):
        mine, other = ([getattr(cost, name) for cost in costs] for costs in (ours, theirs))
        ratio = statistics.median(mine) / statistics.median(other)
        spread = [a / b for a, b in zip(mine, other, strict=True)]
        met = "yes" if ratio <= goal else "no"
        rows.append(
            f"| {title}, {name} | {statistics.median(mine):.2f} s | {statistics.median(other):.2f} s | "
            f"**{ratio:.2f}** ({min(spread):.2f} to {max(spread):.2f}) | {goal:.2f} | {met} |"
        )
    return rows


def quality(folder: Path) -> list[str]:
    """Measure five-fold F1, calibration and fit time with the default parameters.

    Args:
        folder: Holds projects.csv and tags.csv.
    """
    from mlops_platform.ml import model as models

    def read(name: str) -> list[dict[str, str]]:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    tags = {row["id"]: row["tag"] for row in read("tags.csv")}
    rows = [row for row in read("projects.csv") if row["id"] in tags]
    frame = models.frame([row["title"] for row in rows], [row["description"] for row in rows])
    labels = [tags[row["id"]] for row in rows]
    seconds = []
    for _ in range(5):
        started = time.process_time()
        models.fit(frame, labels)
        seconds.append(time.process_time() - started)
    scores = models.cross_validate(frame[models.TEXT].tolist(), labels, repeats=4)
    return [
        f"| {folder.name} | {len(rows)} | {scores.score:.4f} | {scores.ece:.4f} | {statistics.median(seconds):.2f} s |"
    ]


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measured runs of each command")
    rounds = parser.parse_args().rounds
    python = sys.executable
    end_to_end = in_turns(
        [
            lambda home: ["/usr/bin/env", f"MLOPS_HOME={home}", python, "-m", "mlops_platform.cli", "run"],
            lambda home: [python, "-m", "benchmarks.plain", str(home)],
        ],
        rounds,
    )
    # the manifest is made once in a checkout's life: not part of a load
    kept = Path(tempfile.mkdtemp(prefix="mlops-bench-kept-"))
    loading = in_turns(
        [
            lambda _: [
                "/usr/bin/env",
                f"MLOPS_HOME={kept}",
                python,
                "-c",
                "import mlops_platform.definitions",
            ],
            lambda _: [python, "-c", "import dagster, dagster_dbt"],
        ],
        2 * rounds,
    )
    lines = [
        "# Results",
        "",
        f"Written by `make bench` on {datetime.now(tz=UTC):%Y-%m-%d}: medians of {rounds} runs in turns "
        f"({2 * rounds} for loading), after one that warms the caches.",
        "",
        f"Machine: {platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}. Versions: {', '.join(f'{each} {version(each)}' for each in PACKAGES)}.",
        "",
        "## Orchestration",
        "",
        "| what | ours | plain | ratio (lowest to highest pair) | goal | met |",
        "|---|---|---|---|---|---|",
        *compare("`mlops run` (end_to_end, empty home) / plain script", 1.2, *end_to_end),
        *compare("load the code location / `import dagster, dagster_dbt`", 1.15, *loading),
        "",
        "The plain script (`benchmarks/plain.py`) calls the same functions in one process. Part of what Dagster adds",
        "is won back: `mlops` collects garbage rarely, and leaves without freeing each object; the script does not.",
        "",
        "## Model",
        "",
        "Default parameters, 4 times 5 folds; fit is CPU time, the median of 5.",
        "",
        "| data | rows | weighted F1 | expected calibration error | fit |",
        "|---|---|---|---|---|",
        *(row for folder in (REAL_DATA, SAMPLE_DIR) if folder.is_dir() for row in quality(folder)),
    ]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
