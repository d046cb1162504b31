"""Which partitions of a table count as changed, and how much of them a cursor keeps."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

from mlops_platform.resources.warehouse.partitions import Partition
from mlops_platform.sensors.new_partitions import RECENT, Change, TableState, change

START = dt.date(1999, 1, 1)


def days(count: int, created: str = "1") -> list[Partition]:
    ids = [(START + dt.timedelta(n)).strftime("%Y%m%d") for n in range(count)]
    return [Partition("projects", day, f"{1_600_000_000_000_000 + 7_919 * n}", n, created) for n, day in enumerate(ids)]


def stored(partitions: Sequence[Partition]) -> TableState:
    """A state that has been through JSON, as in a cursor."""
    return TableState.model_validate_json(TableState.of(partitions).model_dump_json())


def test_ten_thousand_partitions_fit_into_a_cursor() -> None:
    assert len(TableState.of(days(10_000)).model_dump_json()) < 27_000


def test_the_order_of_partitions_is_no_change() -> None:
    many = days(1_000)
    assert change(stored(many), many[::-1]) is None


def test_new_changed_and_gone_partitions_are_named() -> None:
    many = days(300)
    early = Partition("projects", "19980101", "9", 1, "1")
    late = Partition("projects", "__NULL__", "9", 1, "1")
    now = [*many[1:200], replace(many[200], modified="9"), *many[201:], late, early]
    assert change(stored(many), now) == Change(["19980101", "19990720", "__NULL__"], ["19990101"])


def test_a_change_before_the_recent_partitions_is_named_as_a_whole() -> None:
    many = days(10_000)
    first = many[-RECENT].partition_id
    for now in (many[1:], [replace(many[0], modified="9"), *many[1:]]):
        assert change(stored(many), now) == Change([f"before {first}"], [])
    # new days move the oldest recent ones on, and the older ones are still the same
    assert change(stored(many), days(10_005)) == Change([day.partition_id for day in days(10_005)[-5:]], [])


def test_all_of_a_first_poll_is_new() -> None:
    assert change(TableState(), days(3)) == Change(["19990101", "19990102", "19990103"], [])


def test_a_recreated_table_is_changed_in_all_its_partitions() -> None:
    # the same times and rows: only the table's own time differs
    difference = change(stored(days(4)), days(3, created="2"))
    assert difference == Change(["19990101", "19990102", "19990103"], ["19990104"], recreated=True)


def test_a_change_of_the_number_of_rows_is_a_change() -> None:
    many = days(3)
    assert change(stored(many), [replace(many[0], rows=999), *many[1:]]) == Change(["19990101"], [])


def test_a_table_that_is_emptied_has_lost_its_partitions() -> None:
    difference = change(stored(days(2)), [Partition("projects", "__UNPARTITIONED__", "0", 0, "1")])
    assert difference == Change(["__UNPARTITIONED__"], ["19990101", "19990102"])
