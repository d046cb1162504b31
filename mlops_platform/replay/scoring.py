"""Scores of a replay: each week and fault against the expected decisions, and a summary of all histories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from mlops_platform.replay.fault_injection import deal
from mlops_platform.replay.history import Row
from mlops_platform.replay.loop import Week, play
from mlops_platform.replay.scenario import Fault, Scenario


@dataclass(frozen=True)
class FaultOutcome:
    """What followed from a fault.

    Attributes:
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
    """One history, played and scored, and whether all expectations were met."""

    title: str
    seed: int
    weeks: list[ScoredWeek]
    faults: list[FaultOutcome]
    met: bool


def play_all(rows: Sequence[Row], scenario: Scenario, seeds: Sequence[int]) -> list[Played]:
    """Play a scenario with each seed: its faults together, or one history per fault."""
    groups = [scenario.faults] if scenario.together or not scenario.faults else [[fault] for fault in scenario.faults]
    return [_play(rows, scenario, faults, seed) for seed in seeds for faults in groups]


def _play(rows: Sequence[Row], scenario: Scenario, faults: Sequence[Fault], seed: int) -> Played:
    world = deal(rows, scenario, faults, seed)
    weeks, last_f1 = play(world, scenario, seed)
    # the first week since each fault whose decision is neither `continue` nor one allowed on the way
    decisive = [
        next(
            (week for week in weeks if week.week >= fault.week and week.decision not in ("continue", *fault.also)), None
        )
        for fault in world.faults
    ]
    pairs = list(zip(world.faults, decisive, strict=True))
    title = ", ".join(fault.kind for fault in faults) or scenario.description or "no fault"
    scored = [_score(week, pairs) for week in weeks]
    outcomes = [_outcome(fault, first, weeks, last_f1) for fault, first in pairs]
    met = all(week.met for week in scored) and all(outcome.right and outcome.recovered for outcome in outcomes)
    return Played(title, seed, scored, outcomes, met)


def _score(week: Week, faults: Sequence[tuple[Fault, Week | None]]) -> ScoredWeek:
    """Score a week, given the faults, each with the week that decided on it."""
    allowed, due, late = {"continue"}, [], False
    begun = [(fault, first) for fault, first in faults if fault.week <= week.week]
    for fault, first in begun:
        allowed |= {fault.expected, *fault.also}
        done = first is not None and first.decision == fault.expected and first.week < week.week
        if not done and week.week <= fault.deadline:
            due.append(f"{fault.expected} by week {fault.deadline}")
        undecided = first is None or first.week > week.week
        late |= undecided and week.week == fault.deadline and fault.expected != "continue"
    scheduled = week.decision == "improve" and week.rule == "old"
    expected = "; ".join(due) or " or ".join(sorted(allowed, key=lambda decision: decision != "continue"))
    return ScoredWeek(week, expected, (week.decision in allowed or scheduled) and not late, quiet=not begun)


def _outcome(fault: Fault, first: Week | None, weeks: Sequence[Week], last_f1: float | None) -> FaultOutcome:
    right = first is not None and first.decision == fault.expected and first.week <= fault.deadline
    if fault.expected == "continue":
        right = first is None
    before = weeks[max(fault.week - 2, 0)].pool_f1
    since = [week.pool_f1 for week in weeks if week.week >= fault.week and week.pool_f1 is not None]
    recovered = not fault.recovers or before is None or (last_f1 is not None and last_f1 >= before - fault.tolerance)
    return FaultOutcome(
        kind=fault.kind,
        expected=fault.expected,
        decided=first.decision if first else None,
        week=first.week if first else None,
        f1_before=before,
        f1_during=min(since, default=None),
        f1_after=last_f1,
        right=right,
        recovered=recovered,
    )


@dataclass(frozen=True)
class Summary:
    """All histories together: false alarms in the weeks before any fault, and faults by kind.

    Attributes:
        false_alarms: Quiet weeks with a decision other than `continue` or a scheduled retraining.
        low: Lower end of the 95% interval of the share of false alarms (Clopper & Pearson 1934).
        high: Its upper end. Weeks whose windows overlap are not independent, so the interval is somewhat too narrow.
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
    faults = [fault for history in played for fault in history.faults]
    by_kind = {
        kind: [fault for fault in faults if fault.kind == kind] for kind in dict.fromkeys(f.kind for f in faults)
    }
    few_alarms = alarms <= scenario.max_false_alarms * len(quiet)
    return Summary(
        quiet_weeks=len(quiet),
        false_alarms=alarms,
        low=float(interval.low) if interval else 0.0,
        high=float(interval.high) if interval else 1.0,
        right={kind: sum(fault.right for fault in group) for kind, group in by_kind.items()},
        recovered={kind: sum(fault.recovered for fault in group) for kind, group in by_kind.items()},
        played={kind: len(group) for kind, group in by_kind.items()},
        met=all(history.met for history in played) if scenario.faults else few_alarms,
    )
