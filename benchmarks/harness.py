"""What every section measures with: commands run in turns, their costs, and the rows, curves and sections of a report.

Two things that are compared run in turns, so that a noisy machine disturbs both alike; what counts is the ratio of
their medians. Seconds depend on the machine and the hour. Drawing and writing belong in `benchmarks.report`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mlops_platform.settings import PROJECT_ROOT

REAL_DATA = PROJECT_ROOT.parent / "shared" / "data" / "made_with_ml"
Size = Literal["quick", "full"]


class Unavailable(Exception):  # noqa: N818 - nothing went wrong
    """The peer of a section is not installed; the message says how to install it."""


@dataclass(frozen=True)
class Cost:
    """The cost of one run of a command, its children included.

    Attributes:
        wall: Seconds.
        cpu: Seconds of user and system time.
        peak_mb: Largest resident memory of one of its processes, in MiB.
        output: What it printed.
    """

    wall: float
    cpu: float
    peak_mb: float
    output: str = ""


@dataclass(frozen=True)
class Goal:
    """A bound that a row should keep.

    Attributes:
        limit: The bound.
        at: Whether it is an upper or a lower one.
        of: Whether it bounds the ratio of the medians (ours / theirs) or the median of ours.
    """

    limit: float
    at: Literal["most", "least"] = "most"
    of: Literal["ratio", "ours"] = "ratio"


@dataclass(frozen=True)
class Row:
    """A line of the table: what was measured, ours and, where there is one, a peer's.

    Attributes:
        what: In words; names the peer.
        unit: Such as "s" or "MB"; empty for a score.
        ours: One value a turn.
        theirs: One value a turn, or none.
        goal: The target, if any.
    """

    what: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    goal: Goal | None = None

    @property
    def ratio(self) -> float | None:
        """The median of ours divided by that of theirs; None without a peer."""
        return statistics.median(self.ours) / statistics.median(self.theirs) if self.theirs else None

    @property
    def met(self) -> bool | None:
        """Whether the goal holds; None where there is none.

        Raises:
            ValueError: The goal is a ratio and there is no peer.
        """
        if self.goal is None:
            return None
        value = self.ratio if self.goal.of == "ratio" else statistics.median(self.ours)
        if value is None:
            raise ValueError(f"{self.what} has a ratio for a goal and no peer.")
        return value <= self.goal.limit if self.goal.at == "most" else value >= self.goal.limit


@dataclass(frozen=True)
class Curve:
    """A picture: a cost against the number of rows, log-log, one line for each variant.

    Attributes:
        title: Of the picture.
        unit: Of the cost, "s" or "MB".
        lines: By the name of the variant, cost by number of rows; ours first.
    """

    title: str
    unit: str
    lines: Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class Section:
    """The results of one module of `benchmarks/`.

    Attributes:
        title: Its heading.
        about: How it was measured, in Markdown; says what a ratio includes.
        rows: The table.
        curves: The pictures.
        notes: What the figures don't say by themselves, in Markdown.
    """

    title: str
    about: str
    rows: Sequence[Row]
    curves: Sequence[Curve] = field(default=())
    notes: str = ""


def set_up(script: str, *arguments: str) -> None:
    """Create an environment that a section needs with a script of `scripts/`, unless it is there.

    Raises:
        Unavailable: The script failed.
    """
    command = [str(PROJECT_ROOT / "scripts" / script), *arguments]
    completed = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if completed.returncode:
        raise Unavailable(f"scripts/{script} failed: {completed.stderr.strip()[-2000:]}")


def measure(command: Sequence[str], env: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end.

    Args:
        command: Program and arguments.
        env: Variables beside those of this process, of which MLOPS_*, DAGSTER_HOME and PYTHON* are left out.

    Raises:
        RuntimeError: It failed; the message holds the end of what it printed.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_HOME", "PYTHON"))}
    with tempfile.TemporaryDirectory(prefix="mlops-meter-") as folder:
        result = Path(folder) / "cost.json"
        ran = subprocess.run(
            [sys.executable, "-S", "-E", str(Path(__file__).with_name("meter.py")), str(result), *command],
            env={**inherited, **(env or {})},
            cwd=PROJECT_ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        cost = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {"exit": ran.returncode or 1}
    if cost["exit"]:
        raise RuntimeError(f"{' '.join(command)} failed with {cost['exit']}:\n{ran.stdout[-2000:]}")
    return Cost(cost["wall"], cost["cpu"], cost["peak_mb"], ran.stdout)


def in_turns(
    commands: Sequence[Callable[[Path], Sequence[str]]], rounds: int, *, warm: bool = True
) -> list[list[Cost]]:
    """Run commands in turns, each in a new empty folder.

    Args:
        commands: Each gets its folder and returns what to run; `/usr/bin/env NAME=VALUE ...` sets variables.
        rounds: Measured runs of each.
        warm: Whether a round that is not measured goes first, to warm the caches.

    Returns:
        The costs of each command.
    """
    costs: list[list[Cost]] = [[] for _ in commands]
    for turn in range(-warm, rounds):
        for command, measured in zip(commands, costs, strict=True):
            with tempfile.TemporaryDirectory(prefix="mlops-bench-") as folder:
                cost = measure(command(Path(folder)))
            if turn >= 0:
                measured.append(cost)
    return costs


def compare(title: str, goal: float | None, ours: Sequence[Cost], theirs: Sequence[Cost]) -> list[Row]:
    """Return the rows for wall and CPU time of two commands.

    Args:
        title: What is compared with what.
        goal: Upper bound of the ratio, if any.
        ours: Costs of ours.
        theirs: Costs of the peer.
    """
    bound = None if goal is None else Goal(goal)
    return [
        Row(f"{title}, {name}", "s", [getattr(c, name) for c in ours], [getattr(c, name) for c in theirs], bound)
        for name in ("wall", "cpu")
    ]


def reported(costs: Sequence[Cost], name: str) -> list[float]:
    """Return a figure that each run printed as JSON in its last line."""
    return [json.loads(cost.output.strip().splitlines()[-1])[name] for cost in costs]


def peaks(title: str, most_mb: float, ours: Sequence[Cost], theirs: Sequence[Cost]) -> Row:
    """Return the row for peak memory, with an upper bound for ours."""
    return Row(title, "MB", [c.peak_mb for c in ours], [c.peak_mb for c in theirs], Goal(most_mb, of="ours"))


def curves(title: str, names: Sequence[str], costs: Mapping[int, Sequence[Sequence[Cost]]]) -> list[Curve]:
    """Return the pictures of time and memory against rows.

    Args:
        title: Of both.
        names: Of the variants.
        costs: By number of rows, the costs of each variant in the order of the names.
    """

    def lines(value: str) -> dict[str, dict[int, float]]:
        return {
            name: {
                rows: statistics.median(getattr(cost, value) for cost in variants[at])
                for rows, variants in costs.items()
            }
            for at, name in enumerate(names)
        }

    return [Curve(f"{title}: time", "s", lines("wall")), Curve(f"{title}: memory", "MB", lines("peak_mb"))]
