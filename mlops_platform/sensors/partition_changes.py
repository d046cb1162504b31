"""What changed between two looks at the partitions of a table, and what to remember of a look: no Dagster here.

A memory has to fit into a sensor's cursor, which Dagster stores with each tick. Whether anything changed is told by
one digest of all partitions; two bytes a partition tell which. 10,000 daily partitions take 25 KB.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlops_platform.resources.partitions import Partition

_MARK_BYTES = 2


@dataclass(frozen=True)
class Memory:
    """What is kept of a look at a table, as texts for JSON.

    `ids` and `marks` are compressed: the sorted partition ids and, in their order, two bytes of each one's state.
    """

    created: str
    digest: str
    ids: str
    marks: str

    @classmethod
    def of(cls, partitions: Sequence[Partition]) -> Memory:
        """Return the memory of a table's partitions, in any order.

        Args:
            partitions: All partitions of one table; at least one.
        """
        ordered = sorted(partitions, key=lambda each: each.partition_id)
        digest = hashlib.sha256()
        for each in ordered:
            digest.update(f"{each.partition_id} {each.modified} {each.rows};".encode())
        ids = _shorten([each.partition_id for each in ordered]).encode()
        marks = b"".join(_mark(each) for each in ordered)
        return cls(ordered[0].created, digest.hexdigest()[:32], _pack(ids), _pack(marks))

    def states(self) -> dict[str, bytes]:
        """Return the two bytes that were kept of each partition, by its id."""
        ids = _lengthen(_unpack(self.ids).decode())
        marks = _unpack(self.marks)
        return {name: marks[n * _MARK_BYTES : (n + 1) * _MARK_BYTES] for n, name in enumerate(ids)}


@dataclass(frozen=True)
class Change:
    """What is different in a table: sorted ids of new or changed partitions, and of those that are gone.

    Of 65,536 changed partitions one, on average, goes unnamed; that something changed is seen all the same.
    """

    changed: Sequence[str]
    gone: Sequence[str]
    made_again: bool = False


def change(before: Memory | None, partitions: Sequence[Partition], now: Memory | None = None) -> Change | None:
    """Compare a table with what was remembered of it.

    Args:
        before: The memory of the last look; None where there was none.
        partitions: All partitions of the table now; at least one.
        now: Their memory, if it is known.

    Returns:
        The difference, or None if there is none. A table that was made again counts as changed in all its partitions.
    """
    now = now or Memory.of(partitions)
    if before is not None and (before.created, before.digest) == (now.created, now.digest):
        return None
    made_again = before is not None and before.created != now.created
    kept: Mapping[str, bytes] = before.states() if before is not None else {}
    known = {} if made_again else kept
    ids = {each.partition_id for each in partitions}
    return Change(
        changed=sorted(each.partition_id for each in partitions if known.get(each.partition_id) != _mark(each)),
        gone=sorted(kept.keys() - ids),
        made_again=made_again,
    )


def _mark(partition: Partition) -> bytes:
    # without the id: partitions that one load wrote share their state, and compress to nothing
    state = f"{partition.modified} {partition.rows}" if not partition.created else partition.modified
    return hashlib.blake2b(state.encode(), digest_size=_MARK_BYTES).digest()


def _shorten(ids: Sequence[str]) -> str:
    """Write each id as the length of what it shares with the one before, and the rest: days become a few bits."""
    lines, last = [], ""
    for each in ids:
        shared = next(
            (n for n, (a, b) in enumerate(zip(last, each, strict=False)) if a != b), min(len(last), len(each))
        )
        lines.append(f"{shared} {each[shared:]}")
        last = each
    return "\n".join(lines)


def _lengthen(text: str) -> list[str]:
    ids: list[str] = []
    last = ""
    for line in text.split("\n"):
        shared, rest = line.split(" ", 1)
        last = last[: int(shared)] + rest
        ids.append(last)
    return ids


def _pack(content: bytes) -> str:
    return base64.b85encode(zlib.compress(content, 9)).decode()


def _unpack(text: str) -> bytes:
    return zlib.decompress(base64.b85decode(text))
