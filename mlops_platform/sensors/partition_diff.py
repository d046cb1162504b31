"""The cursor of the sensor `new_partitions`, and how a table differs from it; no Dagster here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field

from mlops_platform.resources.warehouse.partitions import Partition

RECENT = 731  # two years of days take 24 KB in the cursor, which Dagster stores with each tick; 10,000 take 330 KB


class TableState(BaseModel):
    """The partitions of a table at one poll: the latest ones by id, all earlier ones as one digest.

    Attributes:
        created: When the table was created.
        recent: Partition id to its last modification and number of rows.
        older: Digest of the partitions before these; empty if there are none.
        load: Storage id of the table's latest materialization at that poll.
    """

    created: str
    recent: dict[str, str] = Field(min_length=1)
    older: str = ""
    load: int | None = None

    @classmethod
    def of(cls, partitions: Sequence[Partition], load: int | None = None) -> TableState:
        """Return the state of a table with these partitions (at least one), last materialized by `load`."""
        states = _states(partitions)
        recent = dict(list(states.items())[-RECENT:])
        older = _digest(states, before=min(recent))
        return cls(created=partitions[0].created, recent=recent, older=older, load=load)


class Cursor(BaseModel):
    """The sensor's cursor, as JSON: the number of runs requested so far, and the state of each table."""

    requests: int = 0
    tables: dict[str, TableState] = {}


@dataclass(frozen=True)
class Change:
    """How a table has changed: sorted ids of new or changed partitions, and of deleted ones.

    A change in the older partitions is one entry, `before ID`.
    """

    changed: Sequence[str]
    gone: Sequence[str] = ()
    recreated: bool = False


def change(before: TableState | None, partitions: Sequence[Partition]) -> Change | None:
    """Compare a table with its state at the last poll.

    Args:
        before: The state; None at the first poll.
        partitions: All current partitions of the table; at least one.

    Returns:
        The change, or None. A recreated table counts as changed in all its partitions.
    """
    states = _states(partitions)
    if before is None:
        return Change(list(states))
    gone = [partition_id for partition_id in before.recent if partition_id not in states]
    if before.created != partitions[0].created:
        return Change(list(states), gone, recreated=True)
    first = min(before.recent) if before.older else ""
    changed = [name for name, state in states.items() if name >= first and before.recent.get(name) != state]
    if _digest(states, first) != before.older:
        changed.insert(0, f"before {first}")
    return Change(changed, gone) if changed or gone else None


def _states(partitions: Sequence[Partition]) -> dict[str, str]:
    ordered = sorted(partitions, key=lambda partition: partition.partition_id)
    return {partition.partition_id: f"{partition.modified} {partition.rows}" for partition in ordered}


def _digest(states: Mapping[str, str], before: str) -> str:
    older = [f"{name} {state}" for name, state in states.items() if name < before]
    return hashlib.sha256(";".join(older).encode()).hexdigest()[:16] if older else ""
