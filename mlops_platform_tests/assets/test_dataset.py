"""The snapshot: its name is its content, its splits are stable, and a damaged file is written again."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from mlops_platform.assets.dataset import dataset_version
from mlops_platform_tests.training_graph import ROWS, TEST_SHARE, TrainingHome

COLUMNS = "id, created_on, title, description, tag"


def _version(home: TrainingHome, test_share: float = TEST_SHARE) -> str:
    ran = home.run("validated_dataset", test_share=test_share)
    assert ran.success, ran.failure
    assert home.value("validated_dataset")["version"] == ran.data_version("validated_dataset")
    return ran.data_version("validated_dataset")


def _splits(path: Path) -> dict[int, str]:
    with duckdb.connect() as connection:
        return dict(connection.execute("select id, split from read_parquet(?)", [str(path)]).fetchall())


def test_the_same_content_in_another_order_is_the_same_dataset(fresh: TrainingHome) -> None:
    before = _version(fresh)
    fresh.warehouse.execute(
        "create or replace table labeled_projects as from labeled_projects order by md5(title), id desc"
    )
    assert _version(fresh) == before


def test_one_changed_row_is_another_dataset_beside_the_old_one(fresh: TrainingHome) -> None:
    versions = [_version(fresh)]
    old = fresh.snapshot()
    kept = old.read_bytes()
    for change in ("update labeled_projects set tag = 'science'", "delete from labeled_projects"):
        fresh.warehouse.execute(f"{change} where id = (select min(id) from labeled_projects)")
        versions.append(_version(fresh))
    assert len(set(versions)) == len({file.stem for file in fresh.settings.datasets_dir.iterdir()}) == 3
    assert old.read_bytes() == kept


def test_another_test_share_is_another_dataset(fresh: TrainingHome) -> None:
    wide, narrow = _version(fresh), _version(fresh, 0.1)
    assert wide != narrow
    assert fresh.value("validated_dataset")["test_rows"] < 0.2 * ROWS


def test_the_name_depends_on_content_and_share_alone() -> None:
    # spelled out: a change of the rule orphans every snapshot and model, so it must be meant
    assert dataset_version("content", 0.1) == "48ec7bc8f63be0e6"
    assert len({dataset_version(content, share) for content in ("a", "b") for share in (0.1, 0.2)}) == 4


def test_the_snapshot_holds_the_table_and_is_written_once(fresh: TrainingHome) -> None:
    _version(fresh)
    path = fresh.snapshot()
    with duckdb.connect() as connection:
        stored = connection.execute(f"select {COLUMNS} from read_parquet(?)", [str(path)]).fetchall()
    assert sorted(stored) == fresh.warehouse.fetch_rows(f"select {COLUMNS} from labeled_projects order by id")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    before = path.stat()
    _version(fresh)
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_write_that_fails_leaves_nothing_under_the_name(fresh: TrainingHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has its name only once it is whole: until then a reader finds none."""
    replace = Path.replace
    moved = []

    def fail(self: Path, target: Path) -> Path:
        if target.suffix == ".parquet":
            moved.append((self.stat().st_size > 0, target.exists()))
            raise OSError("no space left on the device")
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fail)
        assert not fresh.run("validated_dataset").success
    assert moved == [(True, False)]
    assert list(fresh.settings.datasets_dir.iterdir()) == []
    _version(fresh)


def test_what_a_kill_left_half_written_is_cleared_away(fresh: TrainingHome) -> None:
    version = _version(fresh)
    path = fresh.settings.datasets_dir / f"{version}.parquet"
    path.unlink()
    path.with_name(f".{path.name}.4711.partial").write_bytes(b"PAR1")
    assert _version(fresh) == version
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_row_keeps_its_split_when_others_come_and_go(fresh: TrainingHome) -> None:
    _version(fresh)
    before = _splits(fresh.snapshot())
    fresh.warehouse.execute(
        f"insert into labeled_projects select id + 100000, created_on, title || '!', description, tag "
        f"from labeled_projects limit {ROWS // 2}; delete from labeled_projects where id % 5 = 0"
    )
    _version(fresh)
    after = _splits(fresh.snapshot())
    both = before.keys() & after.keys()
    assert len(after) > len(both) > ROWS / 2
    assert {before[each] for each in both} == {"train", "test"}
    assert {each: before[each] for each in both} == {each: after[each] for each in both}


def test_the_ui_has_counts_schema_and_picture(fresh: TrainingHome) -> None:
    ran = fresh.run("validated_dataset")
    shown, value = ran.metadata("validated_dataset"), fresh.value("validated_dataset")
    splits = list(_splits(fresh.snapshot()).values())
    assert shown["dagster/row_count"] == value["rows"] == len(splits) == ROWS
    assert shown["test_rows"] == value["test_rows"] == splits.count("test")
    assert shown["train_rows"] == value["train_rows"] == splits.count("train")
    assert TEST_SHARE - 0.1 < splits.count("test") / ROWS < TEST_SHARE + 0.1
    per_tag = dict(fresh.warehouse.fetch_rows("select tag, count(*) from labeled_projects group by tag"))
    records = ran.table("validated_dataset", "classes")
    assert {record["tag"]: record["rows"] for record in records} == per_tag
    assert all(record["train"] + record["test"] == record["rows"] for record in records)
    assert shown["class_balance_over_time"].startswith("![")
    assert "data:image/png;base64," in shown["class_balance_over_time"]
    assert shown["snapshot"] == str(fresh.snapshot())


def test_the_declared_schema_is_the_snapshots(trained_once: TrainingHome) -> None:
    from mlops_platform.assets.dataset import build_dataset_asset

    (declared,) = build_dataset_asset(0.5).metadata_by_key.values()
    with duckdb.connect() as connection:
        stored = connection.execute("describe from read_parquet(?)", [str(trained_once.snapshot())]).fetchall()
    schema = declared["dagster/column_schema"]
    assert [(column.name, column.type) for column in schema.columns] == [(name, kind) for name, kind, *_ in stored]


def test_no_labeled_projects_is_a_sentence_and_leaves_no_snapshot(fresh: TrainingHome) -> None:
    fresh.warehouse.execute("delete from labeled_projects")
    assert "no labeled projects" in fresh.run("validated_dataset").failure
    assert not fresh.settings.datasets_dir.exists()


def test_a_table_that_is_missing_is_a_sentence(fresh: TrainingHome) -> None:
    fresh.warehouse.execute("drop table labeled_projects")
    assert "has no table raw.labeled_projects" in fresh.run("validated_dataset").failure


def test_rows_without_a_date_are_the_checks_business(fresh: TrainingHome) -> None:
    fresh.warehouse.execute("update labeled_projects set created_on = null")
    assert "class_balance_over_time" not in fresh.run("validated_dataset").metadata("validated_dataset")


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:9000] + b"\xff" * 50 + content[9050:],
    ],
    ids=["empty", "half", "a page overwritten"],
)
def test_a_damaged_snapshot_is_written_again(fresh: TrainingHome, damage) -> None:  # type: ignore[no-untyped-def]
    before = _version(fresh)
    whole = _splits(fresh.snapshot())
    fresh.snapshot().write_bytes(damage(fresh.snapshot().read_bytes()))
    assert _version(fresh) == before
    assert _splits(fresh.snapshot()) == whole
    assert len(fresh.datasets.load(before, "train")) + len(fresh.datasets.load(before, "test")) == ROWS


def test_a_snapshot_that_lacks_rows_is_written_again(fresh: TrainingHome) -> None:
    before = _version(fresh)
    path = fresh.snapshot()
    with duckdb.connect() as connection:
        connection.execute(f"copy (from read_parquet('{path}') limit 3) to '{path}.cut' (format parquet)")
    Path(f"{path}.cut").replace(path)
    assert _version(fresh) == before
    assert len(_splits(path)) == ROWS
