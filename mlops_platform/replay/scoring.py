"""Scores of a replay: each week and fault against the expected decisions, and a summary of all histories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy.stats import binomtest

from mlops_platform.replay.fault_injection import deal
from mlops_platform.replay.history import Row
from mlops_platform.replay.loop import Week, play
from mlops_platform.replay.scenario import Fault, Scenario


@dataclass(frozen=True)
class FaultOutcome:
    """What followed from a fault.

    Attributes:
        kind: Kind of the fault.
        expected: The decision that should follow.
        decided: The first decision since the fault other than `continue` and those allowed on the way.
        week: The week of that decision.
        f1_before: Weighted F1 on the pool in the week before the fault.
        f1_during: The lowest weighted F1 on the pool since the fault.
        f1_after: Weighted F1 on the pool after the last week.
        right: Whether the decision was the expected one, and in time.
        recovered: Whether F1 recovered to within the tolerance, if the scenario requires it.
    """

    kind: str
    expected: str
    decided: str | None
    week: int | None
    f1_before: float | None
    f1_during: float | None
    f1_after: float | None
    right: bool
    recovered: bool


@dataclass(frozen=True)
class ScoredWeek:
    """A week with the expected decisions, whether its decision is one of them, and whether it precedes all faults."""

    week: Week
    expected: str
    met: bool
    quiet: bool


@dataclass(frozen=True)
class Played:
    """One history, played and scored."""

    title: str
    seed: int
    weeks: list[ScoredWeek]
    faults: list[FaultOutcome]

    @property
    def met(self) -> bool:
        """Return whether all expectations were met."""
        return all(week.met for week in self.weeks) and all(fault.right and fault.recovered for fault in self.faults)

    def to_dict(self) -> dict[str, Any]:
        """Return the history as JSON-serializable values."""
        return {**asdict(self), "met": self.met}


def play_all(rows: Sequence[Row], scenario: Scenario, seeds: Sequence[int]) -> list[Played]:
    """Play a scenario with each seed: its faults together, or one history per fault.

    Raises:
        PlatformError: There are too few rows for the scenario.
    """
    groups = [scenario.faults] if scenario.together or not scenario.faults else [[fault] for fault in scenario.faults]
    played = []
    for seed in seeds:
        for faults in groups:
            world = deal(rows, scenario, faults, seed)
            weeks, last = play(world, scenario, seed)
            scored = _score(weeks, world.faults)
            outcomes = [_outcome(fault, weeks, last) for fault in world.faults]
            title = ", ".join(fault.kind for fault in faults) or scenario.description or "no fault"
            played.append(Played(title, seed, scored, outcomes))
    return played


def _deadline(fault: Fault) -> int:
    return fault.week + fault.within_weeks


def _first(fault: Fault, weeks: Sequence[Week]) -> Week | None:
    """Return the first week since the fault whose decision is neither `continue` nor one allowed on the way."""
    return next((w for w in weeks if w.week >= fault.week and w.decision not in ("continue", *fault.also)), None)


def _score(weeks: Sequence[Week], faults: Sequence[Fault]) -> list[ScoredWeek]:
    scored = []
    for week in weeks:
        allowed, due = {"continue"}, []
        for fault in faults:
            if week.week < fault.week:
                continue
            allowed |= {fault.expected, *fault.also}
            first = _first(fault, weeks)
            done = first is not None and first.decision == fault.expected and first.week < week.week
            if not done and week.week <= _deadline(fault):
                due.append(f"{fault.expected} by week {_deadline(fault)}")
        late = any(
            week.week == _deadline(fault) and ((first := _first(fault, weeks)) is None or first.week > week.week)
            for fault in faults
        )
        quiet = all(week.week < fault.week for fault in faults)
        scheduled = week.decision == "improve" and week.rule == "old"
        expected = "; ".join(due) or " or ".join(sorted(allowed, key=lambda decision: decision != "continue"))
        scored.append(ScoredWeek(week, expected, (week.decision in allowed or scheduled) and not late, quiet))
    return scored


def _outcome(fault: Fault, weeks: Sequence[Week], last: float | None) -> FaultOutcome:
    first = _first(fault, weeks)
    right = first is not None and first.decision == fault.expected and first.week <= _deadline(fault)
    if fault.expected == "continue":
        right = first is None
    before = next((week.pool_f1 for week in weeks if week.week == fault.week - 1), None)
    if fault.week == 1:
        before = weeks[0].pool_f1
    since = [week.pool_f1 for week in weeks if week.week >= fault.week and week.pool_f1 is not None]
    recovered = not fault.recovers or before is None or (last is not None and last >= before - fault.tolerance)
    return FaultOutcome(
        fault.kind,
        fault.expected,
        first.decision if first else None,
        first.week if first else None,
        before,
        min(since, default=None),
        last,
        right,
        recovered,
    )


@dataclass(frozen=True)
class Summary:
    """All histories together.

    Attributes:
        quiet_weeks: Weeks before any fault.
        false_alarms: Quiet weeks with a decision other than `continue` or a scheduled retraining.
        low: Lower end of the 95% interval of the share of false alarms (Clopper & Pearson 1934).
        high: Its upper end. Weeks whose windows overlap are not independent, so the interval is somewhat too narrow.
        right: Faults of each kind that were decided correctly.
        recovered: Faults of each kind after which F1 recovered.
        played: Faults of each kind.
        met: Whether all expectations were met.
    """

    quiet_weeks: int
    false_alarms: int
    low: float
    high: float
    right: dict[str, int]
    recovered: dict[str, int]
    played: dict[str, int]
    met: bool

    @property
    def share(self) -> float:
        """Return the share of false alarms among quiet weeks."""
        return self.false_alarms / max(self.quiet_weeks, 1)


def summarize(played: Sequence[Played], scenario: Scenario) -> Summary:
    """Count over all histories; without faults, the share of false alarms decides whether the scenario is met."""
    quiet = [week for history in played for week in history.weeks if week.quiet]
    alarms = sum(not week.met for week in quiet)
    interval = binomtest(alarms, len(quiet)).proportion_ci() if quiet else None
    counts: list[dict[str, int]] = [{}, {}, {}]
    for fault in (fault for history in played for fault in history.faults):
        for count, yes in zip(counts, (fault.right, fault.recovered, True), strict=True):
            count[fault.kind] = count.get(fault.kind, 0) + yes
    met = (
        all(history.met for history in played) if scenario.faults else alarms <= scenario.max_false_alarms * len(quiet)
    )
    low, high = (float(interval.low), float(interval.high)) if interval else (0.0, 1.0)
    return Summary(len(quiet), alarms, low, high, counts[0], counts[1], counts[2], met)
