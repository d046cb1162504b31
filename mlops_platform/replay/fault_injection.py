"""The simulated world: which rows arrive in which week, and which faults are injected into them.

Everything is drawn from a seed before the first week. What the loop does with the rows belongs in ``loop``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mlops_platform.errors import PlatformError
from mlops_platform.replay.history import Row
from mlops_platform.replay.scenario import Fault, Scenario

REPAIRED_BY_PEOPLE = ("null_column", "label_flips")


@dataclass
class World:
    """A history, dealt into weeks.

    Attributes:
        first: Labeled rows that exist before week 1.
        weeks: Rows that arrive in each week from week 1.
        pool: Rows that never arrive and are never trained on, for measuring F1.
        faults: The faults, which have a tag if their kind needs one.
        repaired: Kinds of faults that a person has repaired.
    """

    first: list[Row]
    weeks: list[list[Row]]
    pool: list[Row]
    faults: Sequence[Fault]
    repaired: set[str] = field(default_factory=set)
    _blank: dict[int, str] = field(default_factory=dict)
    _flipped: dict[int, str] = field(default_factory=dict)

    def observed(self, row: Row) -> Row:
        """Return a row as it arrives: with its fault, unless that was repaired."""
        if "null_column" in self.repaired or row.id not in self._blank:
            return row
        return replace(row, **{self._blank[row.id]: None})  # type: ignore[arg-type]

    def label(self, row: Row) -> str:
        """Return the label that arrives for a row: flipped, unless that was repaired."""
        return row.tag if "label_flips" in self.repaired else self._flipped.get(row.id, row.tag)

    def pool_in(self, week: int) -> list[Row]:
        """Return the pool as of a week: without later topics, and with empty columns."""
        later = {fault.tag for fault in self.faults if fault.kind == "new_topic" and week < fault.week}
        empty = {fault.column for fault in self.faults if fault.kind == "null_column" and self._active(fault, week)}
        rows = [row for row in self.pool if row.tag not in later]
        return [row if self._blank.get(row.id) not in empty else self.observed(row) for row in rows]

    def bad_deployment(self, week: int) -> Fault | None:
        """Return the bad deployment of a week, if there is one."""
        return next((fault for fault in self.faults if fault.kind == "bad_deployment" and fault.week == week), None)

    def _active(self, fault: Fault, week: int) -> bool:
        return fault.week <= week and (fault.until is None or week <= fault.until) and fault.kind not in self.repaired


def deal(rows: Sequence[Row], scenario: Scenario, faults: Sequence[Fault], seed: int) -> World:
    """Deal labeled rows, ordered by time, into a history as the scenario says, with these faults.

    Raises:
        PlatformError: There are too few rows for the scenario.
    """
    draw = random.Random(f"replay {seed}")  # noqa: S311 - not for secrets
    counts = Counter(row.tag for row in rows)
    tagged = [_with_tag(fault, counts) for fault in faults]
    texts = [(text, str(fault.tag)) for fault in tagged for text in fault.texts]
    lowest = min(row.id for row in rows)
    extra = [Row(lowest - 1 - i, None, *_title_and_description(text), tag) for i, (text, tag) in enumerate(texts)]
    order = [*rows]
    if scenario.order == "shuffled":
        draw.shuffle(order)
    pool_ids = set(draw.sample([row.id for row in order], round(scenario.pool_share * len(order))))
    pool_ids |= {row.id for row in draw.sample(extra, round(scenario.pool_share * len(extra)))}
    pool = [row for row in [*order, *extra] if row.id in pool_ids]
    new = {str(fault.tag): fault for fault in tagged if fault.kind == "new_topic"}
    rest = [row for row in [*order, *extra] if row.id not in pool_ids]
    withheld = {tag: [row for row in rest if row.tag == tag] for tag in new}
    common = [row for row in rest if row.tag not in new]
    train_rows = scenario.train_rows or round(scenario.train_share * len(common))
    first, queue = common[:train_rows], common[train_rows:]
    sizes = _sizes(queue, scenario)
    world = World(first, _weeks(queue, withheld, sizes, tagged), pool, tagged)
    _check(world, scenario)
    for fault in tagged:
        _inject(world, fault, sorted(counts), draw)
    return world


def _title_and_description(text: str) -> tuple[str, str]:
    """Split a text into title and description: a row that lacks one would be a damaged row, not a new topic."""
    title, colon, description = text.partition(": ")
    return (title, description) if colon else (" ".join(text.split()[:5]), text)


def _with_tag(fault: Fault, counts: Counter[str]) -> Fault:
    """Fill in the tag: the most frequent for a class shift, the second for a new topic, so that the first stays."""
    if fault.kind not in ("new_topic", "class_shift"):
        return fault
    if fault.tag is None:
        return fault.model_copy(update={"tag": counts.most_common(1 if fault.kind == "class_shift" else 2)[-1][0]})
    if fault.tag not in counts and not fault.texts:
        raise PlatformError(
            f"No row has the tag {fault.tag!r} that the scenario's {fault.kind} names; the tags are"
            f" {', '.join(sorted(counts))}."
        )
    return fault


def _sizes(queue: Sequence[Row], scenario: Scenario) -> list[int]:
    """Return the number of rows of each week: as the scenario says, or by the calendar."""
    most = scenario.weeks or 1000
    if scenario.rows_per_week is not None:
        return [scenario.rows_per_week] * most
    times = [row.created_on for row in queue if row.created_on is not None]
    if len(times) < 2:
        raise PlatformError(
            "Fewer than two rows have a time, so there are no calendar weeks: set rows_per_week in the scenario."
        )
    by_week = Counter((time - times[0]).days // 7 for time in times)
    return [by_week[number] for number in range(max(by_week) + 1)][:most]


def _weeks(
    queue: Sequence[Row], withheld: dict[str, list[Row]], sizes: Sequence[int], faults: Sequence[Fault]
) -> list[list[Row]]:
    """Deal full weeks until the rows run out."""
    remaining, weeks = [*queue], []
    for week, size in enumerate(sizes, 1):
        rows: list[Row] = []
        for fault in faults:
            if fault.kind not in ("new_topic", "class_shift") or week < fault.week:
                continue
            if fault.until is not None and week > fault.until:
                continue
            source = withheld[str(fault.tag)] if fault.kind == "new_topic" else remaining
            taken = [row for row in source if row.tag == fault.tag][: round(fault.share * size)]
            taken = taken[: max(0, size - len(rows))]
            ids = {row.id for row in taken}
            source[:] = [row for row in source if row.id not in ids]
            rows += taken
        # the other rows of a week have none of a shifted tag
        shifted = {f.tag for f in faults if f.kind == "class_shift" and f.week <= week <= (f.until or week)}
        others = [row for row in remaining if row.tag not in shifted] if rows else remaining
        others = others[: size - len(rows)]
        if len(rows) + len(others) < size:
            break
        ids = {row.id for row in others}
        remaining[:] = [row for row in remaining if row.id not in ids]
        weeks.append([*rows, *others])
    return weeks


def _check(world: World, scenario: Scenario) -> None:
    tags = Counter(row.tag for row in world.first)
    if len(world.first) < scenario.min_rows or len(tags) < 2:
        raise PlatformError(
            f"Only {len(world.first)} rows with {len(tags)} tags are left to train on before the first week, but"
            f" {scenario.min_rows} rows with two tags are needed: add labeled rows, or raise train_share."
        )
    last = max((fault.week + fault.within_weeks for fault in world.faults), default=1)
    if len(world.weeks) < last:
        size = f"{scenario.rows_per_week} rows" if scenario.rows_per_week else "the calendar"
        needed = "a week" if not world.faults else f"week {last}, by which its last fault should be decided"
        raise PlatformError(
            f"The history has rows for {len(world.weeks)} weeks of {size} after training, but the scenario needs"
            f" {needed}: lower rows_per_week, train_share or pool_share, or use a longer history."
        )


def _inject(world: World, fault: Fault, tags: Sequence[str], draw: random.Random) -> None:
    until = fault.until or len(world.weeks)
    arriving = [row for rows in world.weeks[fault.week - 1 : until] for row in rows]
    if fault.kind == "null_column":
        for row in [*arriving, *world.pool]:
            if draw.random() < fault.share:
                world._blank[row.id] = fault.column
    if fault.kind == "label_flips":
        for row in arriving:
            if draw.random() < fault.share:
                world._flipped[row.id] = draw.choice([tag for tag in tags if tag != row.tag])
