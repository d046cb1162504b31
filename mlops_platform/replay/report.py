"""The report of a replay, for a terminal of 120 columns; the figures come from ``scoring``."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlops_platform.replay.scenario import Scenario
from mlops_platform.replay.scoring import FaultOutcome, Played, Summary

SHORT = {"null_titles": "null titles", "null_descriptions": "null descr.", "unknown_words": "unknown words"}


def print_played(played: Sequence[Played], console: Console) -> None:
    """Print a table of weeks and a line per fault for each history."""
    for history in played:
        table = Table(
            title=f"{history.title} (seed {history.seed})", title_justify="left", header_style="bold", pad_edge=False
        )
        for name in ("week", "rows", "F1", "pool", "ver"):
            table.add_column(name, justify="right")
        table.add_column("drift", max_width=14)
        table.add_column("decision")
        table.add_column("expected", max_width=20)
        table.add_column("")
        table.add_column("reason", ratio=1)
        for scored in history.weeks:
            week = scored.week
            reason = week.reason if not week.note else f"{week.reason} [{week.note}]"
            table.add_row(
                str(week.week),
                str(week.rows),
                _figure(week.f1),
                _figure(week.pool_f1),
                week.version,
                ", ".join(SHORT.get(name, name) for name in week.drift) or "-",
                week.decision,
                scored.expected,
                "✓" if scored.met else "✗",
                Text("" if week.rule == "quiet" and not week.note else reason),
            )
        console.print(table)
        for fault in history.faults:
            console.print(Text(_fault_line(fault)))
        console.print()


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _fault_line(fault: FaultOutcome) -> str:
    decided = f"{fault.decided} in week {fault.week}" if fault.decided else "nothing"
    mark, recovery = "✓" if fault.right and fault.recovered else "✗", "" if fault.recovered else ", not recovered"
    f1 = [_figure(value) for value in (fault.f1_before, fault.f1_during, fault.f1_after)]
    return (
        f"{mark} {fault.kind}: expected {fault.expected}, decided {decided}; pool F1 {f1[0]} before, {f1[1]} at worst, "
        f"{f1[2]} after{recovery}"
    )


def summary_lines(summary: Summary, scenario: Scenario) -> list[str]:
    """Return the summary of all histories as lines of text."""
    lines = [
        f"{kind}: {summary.right[kind]} of {count} decided correctly, F1 recovered in {summary.recovered[kind]}"
        for kind, count in summary.played.items()
    ]
    if summary.quiet_weeks:
        limit = "" if scenario.faults else f", at most {scenario.max_false_alarms:.0%} allowed"
        lines.append(
            f"{summary.false_alarms} false alarms in {summary.quiet_weeks} quiet weeks: {summary.share:.1%} "
            f"(95% interval {summary.low:.1%} to {summary.high:.1%}{limit})"
        )
    lines.append("All expectations were met." if summary.met else "Not all expectations were met.")
    return lines
