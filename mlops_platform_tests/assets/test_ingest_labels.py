"""What people's labels do to the asset `tags`, and the check on their conflicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from mlops_platform.assets.ingest import build_ingest_assets
from mlops_platform.checks.labels import build_conflict_check
from mlops_platform.resources.labels.label_log import LABELS_FINGERPRINT, Label, append, fingerprint, read
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse

CV, NLP = "computer-vision", "natural-language-processing"
# 4 is twice there, one row has no id, one no tag
SOURCE = f"id,tag\n1,mlops\n2,other\n4,mlops\n4,other\n,{CV}\n5,\n6,mlops\n"


class Tags:
    """The asset with its check, over a small source and a log of labels."""

    def __init__(self, folder: Path) -> None:
        self.source, self.log = folder / "tags.csv", folder / "events.db"
        self.source.write_text(SOURCE)
        projects = folder / "projects.csv"
        projects.write_text("id,created_on,title,description\n1,2026-01-01,a,b\n")
        self.warehouse = DuckDBWarehouse(path=str(folder / "w.duckdb"))
        self.assets = [*build_ingest_assets(str(projects), str(self.source), 5.0, self.log), build_conflict_check()]

    def said(self, *labels: tuple[int, str, str]) -> None:
        """Append labels of people: id, tag, person; each is a minute later than the one before."""
        minute = len(read(self.log).labels)
        given = [
            Label(key, tag, f"2026-03-01T10:{minute + at:02}:00+00:00", who, "page")
            for at, (key, tag, who) in enumerate(labels)
        ]
        append(self.log, given)

    def run(self) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            self.assets,
            selection=dg.AssetSelection.assets("tags"),
            resources={"warehouse": self.warehouse},
            raise_on_error=False,
        )

    def rows(self, table: str = "tags", columns: str = "id, tag") -> list[tuple[object, ...]]:
        query = f"SELECT {columns} FROM {table} ORDER BY ALL NULLS FIRST"
        return self.warehouse.fetch_rows(query)


@pytest.fixture
def tags(tmp_path: Path) -> Tags:
    return Tags(tmp_path)


def outcome(result: dg.ExecuteInProcessResult) -> tuple[dict[str, object], str, bool]:
    assert result.success
    (event,) = result.asset_materializations_for_node("tags")
    (check,) = result.get_asset_check_evaluations()
    assert check.severity is dg.AssetCheckSeverity.WARN
    found: dict[str, object] = {name: value.value for name, value in event.metadata.items()}
    return found, (event.tags or {})["dagster/data_version"], check.passed


UNTOUCHED = [(None, CV), (1, "mlops"), (2, "other"), (4, "mlops"), (4, "other"), (5, None), (6, "mlops")]


def test_without_labels_nothing_is_different(tags: Tags) -> None:
    found, version, passed = outcome(tags.run())
    assert tags.rows() == UNTOUCHED
    assert version == tags.warehouse.content_version("tags")
    assert passed
    assert not {"labels_by_people", LABELS_FINGERPRINT} & set(found)
    assert not tags.warehouse.has_table("labels")


def test_people_are_heard_and_other_rows_stay_as_they_are(tags: Tags) -> None:
    before = outcome(tags.run())[1]
    tags.said((1, CV, "ann"), (3, NLP, "ann"), (6, "mlops", "ann"), (5, "other", "bob"))
    found, version, passed = outcome(tags.run())
    assert tags.rows() == [
        (None, CV),
        (1, CV),  # a person's word stands against the source's
        (2, "other"),
        (3, NLP),
        (4, "mlops"),  # the source's rows, for the suite to see
        (4, "other"),
        (5, "other"),
        (6, "mlops"),
    ]
    assert version != before
    assert version == tags.warehouse.content_version("tags")
    assert (found["dagster/row_count"], found["labels_by_people"], found["label_conflicts"]) == (8, 4, 1)
    assert found[LABELS_FINGERPRINT] == fingerprint(tags.log)
    assert passed  # one person against the source is settled
    assert tags.rows("label_conflicts", "id, tag, labeled_by, source, won, unresolved") == [
        (1, CV, "ann", "page", True, False),
        (1, "mlops", None, "tags", False, False),
    ]
    assert tags.rows("labels", "id, tag, labeled_by, source") == [
        (1, CV, "ann", "page"),
        (3, NLP, "ann", "page"),
        (5, "other", "bob", "page"),
        (6, "mlops", "ann", "page"),
    ]
    assert outcome(tags.run())[1] == version  # twice is once
    assert len(tags.rows("labels")) == 4


def test_what_was_taken_back_leaves_the_source(tags: Tags) -> None:
    before = outcome(tags.run())[1]
    tags.said((1, CV, "ann"), (4, CV, "ann"), (9, CV, "ann"), (1, "", "ann"), (4, "", "ann"), (9, "", "ann"))
    found, version, _ = outcome(tags.run())
    assert tags.rows() == UNTOUCHED
    assert version == before
    assert found["labels_by_people"] == 0
    assert len(tags.rows("labels")) == 6  # as given


def test_people_who_disagree_are_a_warning_until_a_third_one_settles_it(tags: Tags) -> None:
    tags.said((3, CV, "ann"), (3, NLP, "bob"))
    found, _, passed = outcome(tags.run())
    assert (3, NLP) in tags.rows()
    assert (found["label_conflicts"], found["unresolved_label_conflicts"], passed) == (1, 1, False)
    tags.said((3, CV, "eve"))
    found, _, passed = outcome(tags.run())
    assert (3, CV) in tags.rows()
    assert (found["label_conflicts"], found["unresolved_label_conflicts"], passed) == (1, 0, True)


def test_a_log_that_is_gone_leaves_no_labels_behind(tags: Tags) -> None:
    tags.said((3, CV, "ann"), (3, NLP, "bob"))
    assert not outcome(tags.run())[2]
    tags.log.unlink()
    found, _, passed = outcome(tags.run())
    assert tags.rows() == UNTOUCHED
    assert tags.rows("labels") == tags.rows("label_conflicts") == []
    assert passed
    assert "labels_by_people" not in found


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda log: log.write_bytes(b"nonsense" * 1000), "events.db cannot be read"),
        (
            lambda log: append(log, [Label(1, "gardening", "2026-03-01T10:00:00Z", "ann", "page")]),
            "the label 'gardening' by ann, which is none of the tags",
        ),
    ],
)
def test_a_damaged_log_leaves_the_old_table(tags: Tags, spoil: Callable[[Path], object], says: str) -> None:
    tags.said((3, CV, "ann"))
    assert tags.run().success
    tags.source.write_text("id,tag\n1,other\n")
    spoil(tags.log)
    result = tags.run()
    assert not result.success
    (failure,) = (event for event in result.all_events if event.is_step_failure and event.step_key == "tags")
    data = failure.step_failure_data
    assert data.user_failure_data is not None
    assert says in str(data.user_failure_data.description)
    assert (3, CV) in tags.rows()
    assert (2, "other") in tags.rows()
