"""What should have happened, week by week, beside what did."""

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
    """Whether a fault was met as it should.

    Attributes:
        kind: The fault's.
        expected: The decision that should follow.
        decided: What the first decision in the allowed weeks was that is not waiting; None where there was none.
        week: When.
        f1_before: Weighted F1 on the pool in the week before the fault.
        f1_during: The lowest from the fault on.
        f1_after: After the last week.
        right: Whether it was decided rightly and in time.
        recovered: Whether F1 is back within the tolerance, where the scenario asks for it.
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
class Judged:
    """A week with what was expected of it, whether it was met, and whether nothing was wrong yet."""

    week: Week
    expected: str
    met: bool
    quiet: bool


@dataclass(frozen=True)
class Played:
    """One history, played and judged."""

    title: str
    seed: int
    weeks: list[Judged]
    faults: list[FaultOutcome]

    @property
    def met(self) -> bool:
        """Whether all was as expected."""
        return all(each.met for each in self.weeks) and all(each.right and each.recovered for each in self.faults)

    def to_dict(self) -> dict[str, Any]:
        """Return all as JSON-able values."""
        return {**asdict(self), "met": self.met}


def play_all(rows: Sequence[Row], scenario: Scenario, seeds: Sequence[int]) -> list[Played]:
    """Play a scenario with each seed; its faults together, or each in a history of its own.

    Raises:
        PlatformError: The history cannot hold what the scenario asks for.
    """
    groups = [scenario.faults] if scenario.together or not scenario.faults else [[each] for each in scenario.faults]
    played = []
    for seed in seeds:
        for faults in groups:
            world = deal(rows, scenario, faults, seed)
            weeks, last = play(world, scenario, seed)
            judged = _judge(weeks, world.faults)
            outcomes = [_outcome(fault, weeks, last) for fault in world.faults]
            title = ", ".join(each.kind for each in faults) or scenario.description or "no fault"
            played.append(Played(title, seed, judged, outcomes))
    return played


def _deadline(fault: Fault) -> int:
    return fault.week + fault.within_weeks


def _first(fault: Fault, weeks: Sequence[Week]) -> Week | None:
    """The first decision from the fault on that is neither waiting nor a step that is allowed on the way."""
    return next((w for w in weeks if w.week >= fault.week and w.decision not in ("continue", *fault.also)), None)


def _judge(weeks: Sequence[Week], faults: Sequence[Fault]) -> list[Judged]:
    judged = []
    for week in weeks:
        allowed, open_ = {"continue"}, []
        for fault in faults:
            if week.week < fault.week:
                continue
            allowed |= {fault.expected, *fault.also}
            first = _first(fault, weeks)
            done = first is not None and first.decision == fault.expected and first.week < week.week
            if not done and week.week <= _deadline(fault):
                open_.append(f"{fault.expected} by week {_deadline(fault)}")
        late = any(
            week.week == _deadline(fault) and ((first := _first(fault, weeks)) is None or first.week > week.week)
            for fault in faults
        )
        quiet = all(week.week < fault.week for fault in faults)
        scheduled = week.decision == "improve" and week.rule == "old"
        expected = "; ".join(open_) or " or ".join(sorted(allowed, key=lambda each: each != "continue"))
        judged.append(Judged(week, expected, (week.decision in allowed or scheduled) and not late, quiet))
    return judged


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
        quiet_weeks: Weeks in which nothing was wrong (before any fault).
        false_alarms: Of them, those with a decision other than continue or a scheduled retraining.
        low: Lower end of the 95 % interval of the share of false alarms (Clopper & Pearson 1934).
        high: Its upper end. Weeks whose windows overlap are not independent, so it is somewhat too short.
        right: Of each kind of fault, how many were decided rightly.
        recovered: Likewise, F1 back.
        played: Likewise, how many there were.
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
        """False alarms among quiet weeks."""
        return self.false_alarms / max(self.quiet_weeks, 1)


def summarize(played: Sequence[Played], scenario: Scenario) -> Summary:
    """Count over all histories; a quiet scenario is met by its share of false alarms, another by every fault."""
    quiet = [each for one in played for each in one.weeks if each.quiet]
    alarms = sum(not each.met for each in quiet)
    interval = binomtest(alarms, len(quiet)).proportion_ci() if quiet else None
    counts: list[dict[str, int]] = [{}, {}, {}]
    for fault in (fault for one in played for fault in one.faults):
        for count, yes in zip(counts, (fault.right, fault.recovered, True), strict=True):
            count[fault.kind] = count.get(fault.kind, 0) + yes
    met = all(one.met for one in played) if scenario.faults else alarms <= scenario.max_false_alarms * len(quiet)
    low, high = (float(interval.low), float(interval.high)) if interval else (0.0, 1.0)
    return Summary(len(quiet), alarms, low, high, counts[0], counts[1], counts[2], met)
