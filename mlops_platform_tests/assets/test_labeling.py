"""`label_issues` and `labeling_queue` on a real champion."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pytest

from mlops_platform.assets.labeling import build_queue_asset, label_issues
from mlops_platform.checks.labels import build_label_check
from mlops_platform.resources.labels.label_log import Label, append, now
from mlops_platform.resources.registry.model_registry import CHAMPION
from mlops_platform_tests.training_graph import Run, TrainingHome

SIZE = 10
UNLABELED = """
    create table unlabeled_projects as select 100000 + id as id, created_on, title || ' again' as title, description
    from labeled_projects order by id limit 60
"""


class Labeling:
    """The labeling assets on a home that has a champion, and one label that is plainly wrong."""

    def __init__(self, home: TrainingHome) -> None:
        self.home, self.warehouse = home, home.warehouse
        self.warehouse.execute(UNLABELED)

    def run(self, *names: str, max_share: float = 0.5) -> Run:
        upstream = [dg.AssetSpec(name) for name in ("validated_dataset", "tuned_params")]
        queue = build_queue_asset(SIZE, self.home.settings.event_log_path)
        assets: list[Any] = [*upstream, label_issues, queue, build_label_check(max_share)]
        with dg.DagsterInstance.ephemeral() as instance:
            return Run(
                dg.materialize(
                    assets,
                    selection=list(names),
                    resources=self.home.resources,
                    instance=instance,
                    raise_on_error=False,
                )
            )

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self.warehouse.fetch_arrow(f"select * from {table} order by rank").to_pylist()


@pytest.fixture
def labeling(trained: TrainingHome) -> Labeling:
    return Labeling(trained)


def test_a_flipped_label_is_suspect_shown_and_queued(labeling: Labeling) -> None:
    home = labeling.home
    ((key, tag),) = labeling.warehouse.fetch_rows(
        "select id, tag from labeled_projects where tag = 'computer-vision' and title || description ilike '%object%' "
        "order by id limit 1"
    )
    labeling.warehouse.execute("update labeled_projects set tag = 'natural-language-processing' where id = ?", [key])
    assert home.run("validated_dataset").success
    ran = labeling.run("label_issues", "labeling_queue")
    assert ran.success, ran.failure
    issues = {row["id"]: row for row in labeling.rows("label_issues")}
    assert (issues[key]["given"], issues[key]["suggested"]) == ("natural-language-processing", tag)
    assert [row["rank"] for row in issues.values()] == list(range(1, len(issues) + 1))
    scores = [row["score"] for row in issues.values()]
    assert scores == sorted(scores)
    for row in issues.values():
        near = json.loads(row["neighbours"])
        assert len(near) == 3
        assert row["id"] not in {each["id"] for each in near}
    value = home.value("label_issues")
    assert value["share"] == pytest.approx(len(issues) / value["judged"])
    queue = labeling.rows("labeling_queue")
    assert len(queue) == SIZE
    assert {row["id"] for row in queue if row["reason"] == "suspect"} <= set(issues)
    unlabeled = {each for (each,) in labeling.warehouse.fetch_rows("select id from unlabeled_projects")}
    assert {row["id"] for row in queue if row["reason"] != "suspect"} <= unlabeled
    assert {row["reason"] for row in queue} == {"suspect", "random", "diverse", "uncertain"}
    # a label that has been mended is doubted no longer
    labeling.warehouse.execute("update labeled_projects set tag = ? where id = ?", [tag, key])
    assert labeling.run("labeling_queue").success
    assert key not in {row["id"] for row in labeling.rows("labeling_queue")}


def test_twice_is_once(labeling: Labeling) -> None:
    first = labeling.run("label_issues", "labeling_queue")
    tables = {name: labeling.rows(name) for name in ("label_issues", "labeling_queue")}
    second = labeling.run("label_issues", "labeling_queue")
    for name, rows in tables.items():
        assert labeling.rows(name) == rows
        assert first.data_version(name) == second.data_version(name)


def test_what_people_have_said_is_not_asked_again(labeling: Labeling) -> None:
    assert labeling.run("label_issues", "labeling_queue").success
    rows = labeling.rows("labeling_queue")
    first, second = [row for row in rows if row["reason"] == "uncertain"][:2]
    # the random sample is drawn first and stays
    third = next(row for row in rows if row["reason"] == "random")
    suspect = next(row for row in rows if row["reason"] == "suspect")
    log = labeling.home.settings.event_log_path
    for row, tag, who in (
        (first, "mlops", "ann"),
        (second, "mlops", "ann"),
        (second, "other", "bob"),
        (suspect, "mlops", "ann"),
        (third, "mlops", "ann"),
        (third, "", "ann"),
    ):
        append(log, [Label(row["id"], tag, now(), who, "page")])
    assert labeling.run("labeling_queue").success
    asked = {row["id"] for row in labeling.rows("labeling_queue")}
    assert len(asked) == SIZE
    assert not asked & {first["id"], second["id"], suspect["id"]}
    assert third["id"] in asked  # it was taken back


def test_too_many_suspects_are_a_warning(labeling: Labeling) -> None:
    ran = labeling.run("label_issues", max_share=0.0)
    assert ran.success
    (check,) = ran.result.get_asset_check_evaluations()
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert "labels (" in str(check.description)


def test_what_is_missing_is_a_sentence(labeling: Labeling) -> None:
    assert labeling.run("label_issues").success
    labeling.warehouse.execute("delete from unlabeled_projects")
    assert labeling.run("labeling_queue").success
    assert {row["reason"] for row in labeling.rows("labeling_queue")} <= {"suspect"}
    labeling.warehouse.execute("drop table unlabeled_projects")
    assert "has no table unlabeled_projects" in labeling.run("labeling_queue").failure
    labeling.home.client().delete_registered_model_alias("project-tagger", CHAMPION)
    assert "There is no champion yet" in labeling.run("labeling_queue").failure
