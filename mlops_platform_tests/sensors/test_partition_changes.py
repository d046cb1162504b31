"""What counts as a change of a table's partitions, and how small the memory of a look is."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import asdict, replace

import pytest

from mlops_platform.resources.partitions import Partition
from mlops_platform.sensors.partition_changes import Change, Memory, change

START = dt.date(1999, 1, 1)


def days(count: int, created: str = "1") -> list[Partition]:
    ids = [(START + dt.timedelta(n)).strftime("%Y%m%d") for n in range(count)]
    return [Partition("projects", day, f"{1_600_000_000_000_000 + 7_919 * n}", n, created) for n, day in enumerate(ids)]


def kept(partitions: Sequence[Partition]) -> Memory:
    """A memory that has been through JSON, as in a cursor."""
    return Memory(**json.loads(json.dumps(asdict(Memory.of(partitions)))))


def test_ten_thousand_partitions_fit_into_a_cursor() -> None:
    many = days(10_000)
    assert len(json.dumps(asdict(Memory.of(many)))) < 27_000
    assert len(kept(many).states()) == 10_000
    # partitions that one load wrote
    one_load = [replace(each, modified="1600000000000000") for each in many]
    assert len(json.dumps(asdict(Memory.of(one_load)))) < 1_000


def test_no_change_whatever_the_order() -> None:
    many = days(100)
    assert change(kept(many), many[::-1]) is None


def test_new_changed_and_gone_partitions_are_named() -> None:
    many = days(10_000)
    now = [
        *many[1:5000],
        replace(many[5000], modified="9"),
        *many[5001:],
        Partition("projects", "__NULL__", "9", 1, "1"),
    ]
    assert change(kept(many), now) == Change(["20120909", "__NULL__"], ["19990101"])


def test_all_of_a_first_look_is_new() -> None:
    found = change(None, days(3))
    assert found == Change(["19990101", "19990102", "19990103"], [])


def test_a_table_made_again_is_changed_in_all_its_partitions() -> None:
    # the same times and rows: only the table's own time tells
    found = change(kept(days(4)), days(3, created="2"))
    assert found == Change(["19990101", "19990102", "19990103"], ["19990104"], made_again=True)


def test_a_change_of_rows_alone_is_seen() -> None:
    many = days(3)
    assert change(kept(many), [replace(many[0], rows=999), *many[1:]]) is not None


def test_a_table_that_is_emptied_has_lost_its_partitions() -> None:
    found = change(kept(days(2)), [Partition("projects", "__UNPARTITIONED__", "0", 0, "1")])
    assert found == Change(["__UNPARTITIONED__"], ["19990101", "19990102"])


@pytest.mark.parametrize(
    "ids", [["a"], ["", "a"], ["2024", "20240101", "20240101", "b c", "__NULL__"], ["x\u00e9", "x\u00e8"]]
)
def test_any_ids_survive(ids: list[str]) -> None:
    partitions = [Partition("projects", each, "1", 1) for each in ids]
    assert list(kept(partitions).states()) == sorted(set(ids))
