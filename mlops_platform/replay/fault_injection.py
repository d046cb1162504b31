"""The simulated world: which rows come in which week, what they look like, and what is wrong with them.

Everything is dealt before the first week from a seed; the loop sees rows and labels only as the world shows them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mlops_platform.errors import PlatformError
from mlops_platform.replay.history import Row
from mlops_platform.replay.scenario import Fault, Scenario

MENDED_BY_A_PERSON = ("null_column", "label_flips")


@dataclass
class World:
    """A dealt history.

    Attributes:
        first: Rows that are there, with labels, before week 1.
        weeks: Rows of each week, the first being week 1.
        pool: Rows that neither come in nor are ever trained on: what F1 is measured on.
        faults: What goes wrong.
        mended: Kinds of faults that a person has mended.
    """

    first: list[Row]
    weeks: list[list[Row]]
    pool: list[Row]
    faults: Sequence[Fault]
    mended: set[str] = field(default_factory=set)
    _blank: dict[int, str] = field(default_factory=dict)
    _flipped: dict[int, str] = field(default_factory=dict)

    def seen(self, row: Row) -> Row:
        """A row as it comes in; mended rows are as they should have been."""
        if "null_column" in self.mended or row.id not in self._blank:
            return row
        return replace(row, **{self._blank[row.id]: None})  # type: ignore[arg-type]

    def label(self, row: Row) -> str:
        """The label that comes in for a row."""
        return row.tag if "label_flips" in self.mended else self._flipped.get(row.id, row.tag)

    def pool_in(self, week: int) -> list[Row]:
        """The pool as the world is in a week: with the topics that are there, and columns that are empty."""
        absent = {fault.tag for fault in self.faults if fault.kind == "new_topic" and week < fault.week}
        now = {fault.column for fault in self.faults if fault.kind == "null_column" and self._active(fault, week)}
        rows = [row for row in self.pool if row.tag not in absent]
        return [row if self._blank.get(row.id) not in now else self.seen(row) for row in rows]

    def bad_deployment(self, week: int) -> Fault | None:
        """The bad deployment of a week, if there is one."""
        return next((each for each in self.faults if each.kind == "bad_deployment" and each.week == week), None)

    def _active(self, fault: Fault, week: int) -> bool:
        return fault.week <= week and (fault.until is None or week <= fault.until) and fault.kind not in self.mended


def deal(rows: Sequence[Row], scenario: Scenario, faults: Sequence[Fault], seed: int) -> World:
    """Deal a history.

    Args:
        rows: The labelled rows, by time.
        scenario: How.
        faults: What goes wrong.
        seed: Of the order, the pool and the faults' draws.

    Raises:
        PlatformError: The history cannot hold what the scenario asks for.
    """
    draw = random.Random(f"replay {seed}")  # noqa: S311 - not for secrets
    counts = Counter(row.tag for row in rows)
    known = [_with_tag(fault, counts) for fault in faults]
    given = [(text, str(fault.tag)) for fault in known for text in fault.texts]
    lowest = min(row.id for row in rows)
    extra = [Row(lowest - 1 - i, None, *_parted(text), tag) for i, (text, tag) in enumerate(given)]
    order = [*rows]
    if scenario.order == "shuffled":
        draw.shuffle(order)
    pool_ids = set(draw.sample([row.id for row in order], round(scenario.pool_share * len(order))))
    pool_ids |= {row.id for row in draw.sample(extra, round(scenario.pool_share * len(extra)))}
    pool = [row for row in [*order, *extra] if row.id in pool_ids]
    new = {str(fault.tag): fault for fault in known if fault.kind == "new_topic"}
    rest = [row for row in [*order, *extra] if row.id not in pool_ids]
    withheld = {tag: [row for row in rest if row.tag == tag] for tag in new}
    common = [row for row in rest if row.tag not in new]
    wanted = scenario.train_rows or round(scenario.train_share * len(common))
    first, queue = common[:wanted], common[wanted:]
    sizes = _sizes(queue, scenario)
    world = World(first, _weeks(queue, withheld, sizes, known), pool, known)
    _check(world, scenario)
    for fault in known:
        _spoil(world, fault, sorted(counts), draw)
    return world


def _parted(text: str) -> tuple[str, str]:
    """Title and description of a given text; without either, a row would look damaged in place of new."""
    title, colon, description = text.partition(": ")
    return (title, description) if colon else (" ".join(text.split()[:5]), text)


def _with_tag(fault: Fault, counts: Counter[str]) -> Fault:
    """Fill in the tag of a fault: the most frequent shifts; the second is new, so that the first is there before."""
    if fault.kind not in ("new_topic", "class_shift"):
        return fault
    if fault.tag is None:
        return fault.model_copy(update={"tag": counts.most_common(1 if fault.kind == "class_shift" else 2)[-1][0]})
    if fault.tag not in counts and not fault.texts:
        raise PlatformError(
            f"No row has the tag {fault.tag!r} that the scenario's {fault.kind} names; there are"
            f" {', '.join(sorted(counts))}."
        )
    return fault


def _sizes(queue: Sequence[Row], scenario: Scenario) -> list[int]:
    """Rows of each week: as many as the scenario says, or as the calendar has."""
    most = scenario.weeks or 1000
    if scenario.rows_per_week is not None:
        return [scenario.rows_per_week] * most
    times = [row.created_on for row in queue if row.created_on is not None]
    if len(times) < 2:
        raise PlatformError("Fewer than two rows have a time to cut weeks by: say rows_per_week in the scenario.")
    by_week = Counter((time - times[0]).days // 7 for time in times)
    return [by_week[number] for number in range(max(by_week) + 1)][:most]


def _weeks(
    queue: Sequence[Row], withheld: dict[str, list[Row]], sizes: Sequence[int], faults: Sequence[Fault]
) -> list[list[Row]]:
    """Deal the weeks until the rows are at an end; a last week that is not full is left out."""
    left, weeks = [*queue], []
    for week, size in enumerate(sizes, 1):
        rows: list[Row] = []
        for fault in faults:
            if fault.kind not in ("new_topic", "class_shift") or week < fault.week:
                continue
            if fault.until is not None and week > fault.until:
                continue
            source = withheld[str(fault.tag)] if fault.kind == "new_topic" else left
            taken = [row for row in source if row.tag == fault.tag][: round(fault.share * size)]
            taken = taken[: max(0, size - len(rows))]
            ids = {row.id for row in taken}
            source[:] = [row for row in source if row.id not in ids]
            rows += taken
        # what is beside a shifted tag has less of it
        shifted = {f.tag for f in faults if f.kind == "class_shift" and f.week <= week <= (f.until or week)}
        others = [row for row in left if row.tag not in shifted] if rows else left
        others = others[: size - len(rows)]
        if len(rows) + len(others) < size:
            break
        ids = {row.id for row in others}
        left[:] = [row for row in left if row.id not in ids]
        weeks.append([*rows, *others])
    return weeks


def _check(world: World, scenario: Scenario) -> None:
    tags = Counter(row.tag for row in world.first)
    if len(world.first) < scenario.min_rows or len(tags) < 2:
        raise PlatformError(
            f"Only {len(world.first)} rows with {len(tags)} tags are left to train on before the first week, and"
            f" {scenario.min_rows} rows with two tags are needed: give more labelled rows, or another train_share."
        )
    last = max((fault.week + fault.within_weeks for fault in world.faults), default=1)
    if len(world.weeks) < last:
        size = f"{scenario.rows_per_week} rows" if scenario.rows_per_week else "the calendar"
        what = "a week" if not world.faults else f"week {last}, by which its last fault should be decided"
        raise PlatformError(
            f"The history has rows for {len(world.weeks)} weeks of {size} after training, and the scenario needs"
            f" {what}: lower rows_per_week, train_share or pool_share, or give a longer history."
        )


def _spoil(world: World, fault: Fault, tags: Sequence[str], draw: random.Random) -> None:
    until = fault.until or len(world.weeks)
    coming = [row for rows in world.weeks[fault.week - 1 : until] for row in rows]
    if fault.kind == "null_column":
        for row in [*coming, *world.pool]:
            if draw.random() < fault.share:
                world._blank[row.id] = fault.column
    if fault.kind == "label_flips":
        for row in coming:
            if draw.random() < fault.share:
                world._flipped[row.id] = draw.choice([tag for tag in tags if tag != row.tag])
