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
        empty: Id of a row to its column that is empty.
        flipped: Id of a row to its wrong label.
    """

    first: list[Row]
    weeks: list[list[Row]]
    pool: list[Row]
    faults: Sequence[Fault]
    repaired: set[str] = field(default_factory=set)
    empty: dict[int, str] = field(default_factory=dict)
    flipped: dict[int, str] = field(default_factory=dict)

    def observed(self, row: Row) -> Row:
        """Return a row as it arrives: with its fault, unless that was repaired."""
        if "null_column" in self.repaired or row.id not in self.empty:
            return row
        return replace(row, **{self.empty[row.id]: None})  # type: ignore[arg-type]

    def label(self, row: Row) -> str:
        """Return the label that arrives for a row: flipped, unless that was repaired."""
        return row.tag if "label_flips" in self.repaired else self.flipped.get(row.id, row.tag)

    def pool_in(self, week: int) -> list[Row]:
        """Return the pool as of a week: without later topics, and with empty columns."""
        later = {fault.tag for fault in self.faults if fault.kind == "new_topic" and week < fault.week}
        columns = {fault.column for fault in self.faults if fault.kind == "null_column" and fault.active(week)}
        rows = [row for row in self.pool if row.tag not in later]
        return [self.observed(row) if self.empty.get(row.id) in columns else row for row in rows]


def deal(rows: Sequence[Row], scenario: Scenario, faults: Sequence[Fault], seed: int) -> World:
    """Deal labeled rows, ordered by time, into a history as the scenario says, with these faults.

    Raises:
        PlatformError: There are too few rows for the scenario.
    """
    draw = random.Random(f"replay {seed}")  # noqa: S311 - not for secrets
    counts = Counter(row.tag for row in rows)
    faults = [_with_tag(fault, counts) for fault in faults]
    texts = [(text, str(fault.tag)) for fault in faults for text in fault.texts]
    lowest = min(row.id for row in rows)
    extra = [Row(lowest - 1 - i, None, *_title_and_description(text), tag) for i, (text, tag) in enumerate(texts)]
    order = [*rows]
    if scenario.order == "shuffled":
        draw.shuffle(order)
    pool_ids = set(draw.sample([row.id for row in order], round(scenario.pool_share * len(order))))
    pool_ids |= {row.id for row in draw.sample(extra, round(scenario.pool_share * len(extra)))}
    pool = [row for row in [*order, *extra] if row.id in pool_ids]
    rest = [row for row in [*order, *extra] if row.id not in pool_ids]
    new_tags = {str(fault.tag) for fault in faults if fault.kind == "new_topic"}
    withheld = {tag: [row for row in rest if row.tag == tag] for tag in new_tags}
    common = [row for row in rest if row.tag not in new_tags]
    train_rows = scenario.train_rows or round(scenario.train_share * len(common))
    queue = common[train_rows:]
    weeks = _weeks(queue, withheld, _sizes(queue, scenario), faults)
    world = World(common[:train_rows], weeks, pool, faults)
    _check(world, scenario)
    for fault in faults:
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
        active = [fault for fault in faults if fault.kind in ("new_topic", "class_shift") and fault.active(week)]
        rows: list[Row] = []
        for fault in active:
            source = withheld[str(fault.tag)] if fault.kind == "new_topic" else remaining
            candidates = [row for row in source if row.tag == fault.tag]
            rows += _take(source, candidates[: min(round(fault.share * size), size - len(rows))])
        # the other rows of a week have none of a shifted tag
        shifted = {fault.tag for fault in active if fault.kind == "class_shift"} if rows else set()
        others = [row for row in remaining if row.tag not in shifted][: size - len(rows)]
        if len(rows) + len(others) < size:
            break
        weeks.append(rows + _take(remaining, others))
    return weeks


def _take(source: list[Row], rows: list[Row]) -> list[Row]:
    """Remove rows from a list, and return them."""
    ids = {row.id for row in rows}
    source[:] = [row for row in source if row.id not in ids]
    return rows


def _check(world: World, scenario: Scenario) -> None:
    tags = {row.tag for row in world.first}
    if len(world.first) < scenario.min_rows or len(tags) < 2:
        raise PlatformError(
            f"Only {len(world.first)} rows with {len(tags)} tags are left to train on before the first week, but"
            f" {scenario.min_rows} rows with two tags are needed: add labeled rows, or raise train_share."
        )
    last = max((fault.deadline for fault in world.faults), default=1)
    if len(world.weeks) < last:
        size = f"{scenario.rows_per_week} rows" if scenario.rows_per_week else "the calendar"
        needed = "a week" if not world.faults else f"week {last}, by which its last fault should be decided"
        raise PlatformError(
            f"The history has rows for {len(world.weeks)} weeks of {size} after training, but the scenario needs"
            f" {needed}: lower rows_per_week, train_share or pool_share, or use a longer history."
        )


def _inject(world: World, fault: Fault, tags: Sequence[str], draw: random.Random) -> None:
    arriving = [row for rows in world.weeks[fault.week - 1 : fault.until] for row in rows]
    if fault.kind == "null_column":
        for row in [*arriving, *world.pool]:
            if draw.random() < fault.share:
                world.empty[row.id] = fault.column
    if fault.kind == "label_flips":
        for row in arriving:
            if draw.random() < fault.share:
                world.flipped[row.id] = draw.choice([tag for tag in tags if tag != row.tag])
