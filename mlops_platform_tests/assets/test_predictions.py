"""`predictions`: by day, idempotent, from the warehouse and from the service's log."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import dagster as dg
import pytest

from mlops_platform.assets.predictions import build_predictions_asset
from mlops_platform.resources.event_log import Event, EventLog
from mlops_platform.resources.prediction_log import LocalLog
from mlops_platform.resources.registry.model_registry import CHAMPION
from mlops_platform_tests.training_graph import Run, TrainingHome

FIRST = dt.date(2024, 1, 1)
PROJECTS = """
    create table unlabeled_projects as select * from (values
        (1, timestamp '2024-01-01 00:00:00', 'YOLO', 'object detection'),
        (2, timestamp '2024-01-01 23:59:59.999999', 'BERT', null),
        (3, timestamp '2024-01-03 12:00:00', null, 'monitoring of pipelines'))
        as rows(id, created_on, title, description)
"""


class Days:
    """The asset on a home that has a champion."""

    def __init__(self, home: TrainingHome) -> None:
        self.home, self.event_log = home, EventLog(home.settings.event_log_path)
        self.asset = build_predictions_asset(FIRST, LocalLog(self.event_log))

    def run(self, first: str, last: str | None = None) -> Run:
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
        with dg.DagsterInstance.ephemeral() as instance:
            job = dg.Definitions(
                assets=[self.asset],
                jobs=[dg.define_asset_job("days", selection=[self.asset])],
                resources=self.home.resources,
            ).resolve_job_def("days")
            return Run(job.execute_in_process(instance=instance, tags=tags, raise_on_error=False))

    def rows(self) -> list[tuple[Any, ...]]:
        """Id, source, day and version of each prediction."""
        return self.home.warehouse.fetch_rows(
            "select id, source, cast(day as varchar), model_version from predictions order by day, id, model_version"
        )

    def log(self, *records: dict[str, Any]) -> None:
        events = [Event(record.pop("kind"), dt.datetime.fromisoformat(record.pop("at")), record) for record in records]
        self.event_log.append(events)


@pytest.fixture
def days(trained: TrainingHome) -> Days:
    trained.warehouse.execute(PROJECTS)
    return Days(trained)


def _record(key: str, at: str, **changes: Any) -> dict[str, Any]:
    told = {"tag": "mlops", "probability": 0.75, "probabilities": {"mlops": 0.75, "other": 0.25}}
    texts = {"title": "a", "description": ""}
    return {"kind": "prediction", "id": key, "at": at, "model_version": "1", **texts, **told, **changes}


def test_a_backfill_gives_each_project_its_day(days: Days) -> None:
    ran = days.run("2024-01-01", "2024-01-05")
    assert ran.success
    assert days.rows() == [
        ("1", "batch", "2024-01-01", "1"),
        ("2", "batch", "2024-01-01", "1"),
        ("3", "batch", "2024-01-03", "1"),
    ]
    stored = days.home.warehouse.fetch_rows("select tag, probability, probabilities, title from predictions")
    for tag, probability, probabilities, _ in stored:
        every = json.loads(probabilities)
        assert sum(every.values()) == pytest.approx(1)
        assert every[tag] == probability == max(every.values())
    assert {title for *_, title in stored} == {"YOLO", "BERT", None}


def test_a_day_without_rows_makes_an_empty_table(days: Days) -> None:
    assert days.run("2024-02-01").success
    assert days.rows() == []


def test_a_day_twice_is_once_and_another_version_comes_beside(days: Days) -> None:
    days.run("2024-01-01", "2024-01-05")
    before = days.rows()
    assert days.run("2024-01-01").success
    assert days.rows() == before
    # one project has gone to the labeled ones, another has come
    days.home.warehouse.execute(
        "update unlabeled_projects set created_on = timestamp '2024-01-02 01:00:00' where id = 2"
    )
    assert days.run("2024-01-01", "2024-01-02").success
    assert [(row[0], row[2]) for row in days.rows()] == [("1", "2024-01-01"), ("2", "2024-01-02"), ("3", "2024-01-03")]
    client = days.home.client()
    first = client.get_model_version("project-tagger", "1")
    client.create_model_version("project-tagger", first.source, run_id=first.run_id)
    days.home.tracking.set_alias(CHAMPION, "2", {})
    assert days.run("2024-01-01").success
    assert [(row[0], row[3]) for row in days.rows()] == [("1", "1"), ("1", "2"), ("2", "1"), ("3", "1")]


def test_the_service_log_comes_in_by_day_with_its_labels(days: Days) -> None:
    now = dt.datetime.now(dt.UTC)
    today, tomorrow = now.date(), now.date() + dt.timedelta(days=1)
    days.log(
        _record("a.0", f"{today}T23:59:59.999999+00:00"),
        _record("b.0", f"{tomorrow}T00:00:00.000001+00:00", title="x\ny"),
        {"kind": "feedback", "id": "a.0", "at": f"{tomorrow}T01:00:00+00:00", "tag": "other"},
    )
    for _ in range(2):
        assert days.run(str(today)).success
        assert [row for row in days.rows() if row[1] == "service"] == [("a.0", "service", str(today), "1")]
    asset_days = days.asset
    assert asset_days.partitions_def is not None
    assert asset_days.partitions_def.get_last_partition_key() == str(today)
    labels = "select id, tag, cast(day as varchar) from feedback"
    assert days.home.warehouse.fetch_rows(labels) == []
    at = days.home.warehouse.fetch_rows("select predicted_at from predictions where id = 'a.0'")
    assert at == [(dt.datetime.fromisoformat(f"{today}T23:59:59.999999"),)]


def test_what_is_missing_is_a_sentence_and_leaves_the_table(days: Days) -> None:
    days.run("2024-01-01", "2024-01-05")
    before = days.rows()
    days.home.client().delete_registered_model_alias("project-tagger", CHAMPION)
    assert days.run("2024-01-01").failure == "There is no champion yet: materialize champion_model first."
    days.home.warehouse.execute("drop table unlabeled_projects")
    assert "has no table unlabeled_projects" in days.run("2024-01-01").failure
    assert days.rows() == before
