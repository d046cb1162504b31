"""Snapshots by version: read by split, viewed in SQL, and sentences for what is missing or damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from mlops_platform.errors import PlatformError
from mlops_platform.resources.datasets.dataset_store import DatasetStore

ROWS = 6000


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    """A store in a folder with a quote and a space in its name, with one snapshot `v1`."""
    folder = tmp_path / "Jane's data"
    folder.mkdir()
    with duckdb.connect() as connection:
        connection.execute(
            f"copy (select {ROWS} - i as id, now()::timestamp as created_on, md5(i::varchar) as title, "
            "case when i % 7 = 0 then null else md5((i + 1)::varchar) end as description, 'mlops' as tag, "
            "case when i % 3 = 0 then 'test' else 'train' end as split "
            f"from range({ROWS}) as numbers(i)) to '{tmp_path}/v1.parquet' (format parquet, compression zstd)"
        )
    (tmp_path / "v1.parquet").rename(folder / "v1.parquet")
    return DatasetStore(base_dir=str(folder))


def test_a_split_is_read_whole_and_ordered_by_id(store: DatasetStore) -> None:
    train, test = store.load("v1", "train"), store.load("v1", "test")
    assert set(train["split"]) == {"train"}
    assert set(test["split"]) == {"test"}
    assert sorted([*train["id"], *test["id"]]) == list(range(1, ROWS + 1))
    assert train["id"].is_monotonic_increasing
    assert list(train.index) == list(range(len(train)))
    assert list(train.columns) == ["id", "created_on", "title", "description", "tag", "split"]


def test_a_view_is_the_snapshot_in_sql_and_leaves_it_alone(store: DatasetStore) -> None:
    before = store.path("v1").read_bytes()
    with store.view("v1", "labeled_projects", "raw") as connection:
        assert connection.execute("select count(*) from raw.labeled_projects").fetchall() == [(ROWS,)]
        assert connection.execute("select count(*) from labeled_projects where split = 'test'").fetchall() == [(2000,)]
    assert store.path("v1").read_bytes() == before
    with pytest.raises(duckdb.ConnectionException):
        connection.execute("select 1")


def test_a_query_that_is_wrong_is_not_called_a_damaged_snapshot(store: DatasetStore) -> None:
    with store.view("v1", "snapshot", "main") as connection, pytest.raises(duckdb.BinderException):
        connection.execute("select colour from snapshot")


def test_a_missing_snapshot_is_a_sentence(store: DatasetStore) -> None:
    with pytest.raises(PlatformError, match=r"v2.parquet .* is missing: materialize validated_dataset again"):
        store.load("v2", "train")
    with pytest.raises(PlatformError, match=r"v2.parquet .* is missing"), store.view("v2", "snapshot", "main"):
        pass
    assert not store.holds("v2", 0)


def _zero(_: bytes) -> bytes:
    return b""


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _page(content: bytes) -> bytes:
    """The footer stays, so the file opens: only reading it through tells."""
    middle = len(content) // 2
    return content[:middle] + b"\xff" * 4000 + content[middle + 4000 :]


@pytest.mark.parametrize("damage", [_zero, _half, lambda _: b"PAR1 this is no Parquet PAR1"])
def test_a_file_that_is_no_parquet_is_a_sentence(store: DatasetStore, damage: Callable[[bytes], bytes]) -> None:
    store.path("v1").write_bytes(damage(store.path("v1").read_bytes()))
    with pytest.raises(PlatformError, match=r"v1.parquet .* is damaged: materialize validated_dataset again") as caught:
        store.load("v1", "train")
    assert "\n" not in str(caught.value)
    with pytest.raises(PlatformError, match=r"v1.parquet .* is damaged"), store.view("v1", "snapshot", "main"):
        pass


def test_a_damaged_page_is_a_sentence_where_rows_are_read_in_batches(store: DatasetStore) -> None:
    store.path("v1").write_bytes(_page(store.path("v1").read_bytes()))
    with pytest.raises(PlatformError, match=r"v1.parquet .* is damaged"):
        list(store.batches("v1", "train", ("id", "title", "description")))


def test_a_page_that_is_damaged_is_a_sentence_where_rows_are_loaded(store: DatasetStore) -> None:
    store.path("v1").write_bytes(_page(store.path("v1").read_bytes()))
    with pytest.raises(PlatformError, match=r"v1.parquet .* is damaged"):
        store.load("v1", "train")


def test_only_a_whole_file_with_all_its_rows_is_held(store: DatasetStore) -> None:
    assert store.holds("v1", ROWS)
    assert not store.holds("v1", ROWS + 1)
    whole = store.path("v1").read_bytes()
    for damage in (_zero, _half, _page):
        store.path("v1").write_bytes(damage(whole))
        assert not store.holds("v1", ROWS), damage
    store.path("v1").write_bytes(whole)
    assert store.holds("v1", ROWS)
