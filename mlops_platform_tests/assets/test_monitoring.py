"""`drift_report` and `retraining_decision` on a real champion, and what the sensor and the job make of a decision."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from mlops_platform.assets.decision import DECISION, DECISION_TAG
from mlops_platform.assets.monitoring import REPORT
from mlops_platform.jobs import build_jobs
from mlops_platform.resources.registry import deployment_history, inspections
from mlops_platform.resources.registry.model_registry import CHAMPION
from mlops_platform.sensors.decisions import build_decision_sensor
from mlops_platform_tests.monitored import TODAY, Monitored, label_quality
from mlops_platform_tests.training_graph import ROWS, WORSE, TrainingHome

CRON = "0 */6 * * *"


@pytest.fixture
def monitored(trained: TrainingHome) -> Iterator[Monitored]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Monitored(trained, instance)


def _tick(monitored: Monitored, cursor: str | None = None) -> Any:
    training = next(job for job in build_jobs() if job.name == "mlops")
    sensor = build_decision_sensor(CRON, training)
    with dg.build_sensor_context(instance=monitored.instance, cursor=cursor) as context:
        return sensor.evaluate_tick(context)


def _act(monitored: Monitored, request: Any) -> dg.ExecuteInProcessResult:
    return monitored.defs.resolve_job_def(request.job_name).execute_in_process(
        instance=monitored.instance, run_config=request.run_config, tags=request.tags, raise_on_error=False
    )


def test_a_quiet_day_is_reported_once_and_again_the_same(monitored: Monitored) -> None:
    first, again = monitored.run(), monitored.run()
    assert first.success
    assert monitored.found() == set()
    assert first.data_version(REPORT) == again.data_version(REPORT)
    assert first.metadata(REPORT)["detected"] == "nothing"
    assert first.metadata(REPORT)["picture"].startswith("![")
    assert first.metadata(DECISION)["decision"] == "continue"
    assert first.metadata(REPORT)["window_rows"] == 325
    names = [name for (name,) in monitored.warehouse.fetch_rows("select name from drift_report order by name")]
    assert len(names) == len(set(names)) == 8
    assert monitored.warehouse.row_count(DECISION) == 1
    assert _tick(monitored).run_requests == []


def test_too_little_data_is_said(monitored: Monitored) -> None:
    monitored.warehouse.execute("delete from predictions where id not in (from (select id from predictions limit 30))")
    ran = monitored.run()
    assert ran.metadata(REPORT)["tests_run"] == 0
    assert ran.metadata(DECISION)["reason"] == "There is too little data for any test of drift."
    details = {detail for (detail,) in monitored.warehouse.fetch_rows("select detail from drift_report")}
    assert all(detail.startswith("not run: has ") for detail in details)


def test_a_column_gone_null_is_inspected_and_holds_promotion_until_an_answer(monitored: Monitored) -> None:
    tracking = monitored.home.tracking
    monitored.warehouse.execute(f"update predictions set description = null where day > date '{TODAY}' - 10")
    assert monitored.decide() == ("inspect", "damaged")
    assert "null_descriptions" in monitored.found()
    data = _tick(monitored)
    (request,) = data.run_requests
    assert request.job_name == "act_on_decision"
    assert _tick(monitored, data.cursor).run_requests == []
    for _ in range(2):
        assert _act(monitored, request).success
    (opened,) = inspections.inspections(tracking)
    assert (opened.day, opened.version, opened.is_open) == (TODAY.isoformat(), "1", True)

    # another model that passes waits, and so does the next decision
    home = monitored.home
    home.put("tuned_params", params=WORSE)
    assert home.run("trained_model", "model_evaluation", "champion_model").success
    home.put("model_evaluation", comparison=None)
    tracking.set_alias(CHAMPION, "1", {})
    home.put("model_evaluation", comparison={"champion": "1", "value": 0.1, "low": 0.0, "high": 0.2})
    assert home.run("champion_model").success
    assert "an inspection of" in home.value("champion_model")["reason"]
    assert home.value("champion_model")["version"] == "1"
    assert monitored.decide() == ("continue", "held")

    inspections.answer(tracking, "continue", by="me", reason="The column is back.")
    assert home.run("champion_model").success
    assert home.value("champion_model")["version"] == "2"
    with pytest.raises(Exception, match="no inspection is open"):
        inspections.answer(tracking, "continue", by="me", reason="Again.")


def test_what_a_person_has_looked_at_is_not_looked_at_again(monitored: Monitored) -> None:
    tracking = monitored.home.tracking
    monitored.warehouse.execute("update predictions set description = null")
    day = TODAY - dt.timedelta(days=3)
    inspections.ask(tracking, day=day.isoformat(), version="1", problems=("null_descriptions",), reason="Nulls.")
    inspections.answer(tracking, "continue", by="me", reason="Mended.")
    ran = monitored.run()
    assert ran.metadata(REPORT)["window"] == f"{TODAY} to {TODAY}"
    assert ran.metadata(DECISION)["decision"] == "continue"


def test_a_bad_deployment_is_rolled_back(monitored: Monitored) -> None:
    home, tracking = monitored.home, monitored.home.tracking
    monitored.feedback()
    assert monitored.decide()[0] == "continue"
    home.put("tuned_params", params=WORSE)
    assert home.run("trained_model", "model_evaluation").success
    deployment_history.promote(tracking, "2", by="me", reason="Forced.", forced=True)
    assert monitored.decide() == ("rollback", "bad_deployment")
    (gap,) = monitored.warehouse.fetch_rows("select high from drift_report where name = 'against_previous'")
    assert gap[0] < 0
    (request,) = _tick(monitored).run_requests
    for _ in range(2):
        assert _act(monitored, request).success
        champion = tracking.by_alias(CHAMPION)
        assert champion is not None
        assert champion.version == "1"
    moves = deployment_history.history(tracking)
    assert [move.action for move in moves] == ["promote", "promote", "rollback"]
    assert moves[-1].dagster_run_id
    # the day's first decision and the one about the version that came back are both kept
    assert monitored.decide()[0] == "continue"
    kept = monitored.warehouse.fetch_rows("select decision, model_version from retraining_decision order by all")
    assert kept == [("continue", "1"), ("rollback", "2")]


def test_drift_asks_for_labels_and_with_labels_for_training_once_in_a_window(monitored: Monitored) -> None:
    home = monitored.home
    monitored.warehouse.execute(
        "update predictions set title = 'Sourdough number ' || id, description = "
        f"'knead flour water salt ' || id || ', proof overnight and bake' where day > date '{TODAY}' - 8"
    )
    assert monitored.decide() == ("inspect", "unlabeled")
    assert "text" in monitored.found()
    # labels that came since the training: 30 rows of the present snapshot are new to the champion
    monitored.warehouse.execute(
        "insert into labeled_projects select 900000 + id, created_on, title || ' once more', description, tag "
        "from labeled_projects order by id limit 30"
    )
    assert home.run("validated_dataset").success
    home.put_value("label_issues", label_quality(home))
    yesterday = TODAY - dt.timedelta(days=1)
    assert monitored.decide(yesterday) == ("improve", "learnable")
    assert monitored.decide() == ("continue", "acted_upon")
    data = _tick(monitored)
    keys = [(request.job_name, request.run_key.split(" ")[0]) for request in data.run_requests]
    assert keys == [("act_on_decision", "inspect"), ("mlops", "improve")]
    improve = data.run_requests[1]
    assert improve.tags[DECISION_TAG] == yesterday.isoformat()

    # a retraining that failed has done nothing about the problem
    failed = dg.DagsterRun("mlops", tags=improve.tags, status=dg.DagsterRunStatus.FAILURE)
    monitored.instance.add_run(failed)
    assert monitored.decide() == ("improve", "learnable")
    again = _tick(monitored, data.cursor).run_requests
    assert [request.run_key for request in again] == [improve.run_key]  # Dagster drops it within the window


def test_flipped_labels_are_not_learnt_from(monitored: Monitored) -> None:
    home = monitored.home
    monitored.warehouse.execute(
        "insert into labeled_projects select 900000 + id, created_on, title || ' once more', description, tag "
        "from labeled_projects order by id limit 60"
    )
    assert home.run("validated_dataset").success
    suspects = [
        {"id": 900000 + key}
        for (key,) in monitored.warehouse.fetch_rows(
            "select id from labeled_projects where id < 900000 order by id limit 30"
        )
    ]
    home.put_value("label_issues", label_quality(home) | {"suspects": suspects, "judged": ROWS + 60})
    assert monitored.decide() == ("inspect", "doubtful_labels")
    evidence = json.loads(monitored.warehouse.fetch_rows("select evidence from retraining_decision")[0][0])
    assert evidence["evaluation"]["new_labels"] == 60
    assert evidence["evaluation"]["doubt"] == {"suspects": 30, "judged": 60, "old_suspects": 0, "old_judged": ROWS}


def test_a_backfill_is_one_run_that_decides_day_by_day(monitored: Monitored) -> None:
    first, last = TODAY - dt.timedelta(days=30), TODAY - dt.timedelta(days=27)
    monitored.warehouse.execute("update predictions set description = null, day = day - 27")
    tags = {
        "dagster/asset_partition_range_start": first.isoformat(),
        "dagster/asset_partition_range_end": last.isoformat(),
    }
    job = monitored.defs.resolve_job_def("watch")
    ran = job.execute_in_process(instance=monitored.instance, tags=tags)
    told = {
        event.partition: (event.metadata["decision"].value, event.metadata["rule"].value)
        for event in ran.asset_materializations_for_node(DECISION)
    }
    days = [(first + dt.timedelta(days=number)).isoformat() for number in range(4)]
    assert told == {days[0]: ("inspect", "damaged"), **dict.fromkeys(days[1:], ("continue", "damaged"))}
    kept = monitored.warehouse.fetch_rows("select cast(day as varchar), decision from retraining_decision order by day")
    assert kept == [(day, told[day][0]) for day in days]


def test_an_old_day_is_recorded_and_not_acted_upon(monitored: Monitored) -> None:
    old = TODAY - dt.timedelta(days=5)
    monitored.warehouse.execute("update predictions set description = null")
    assert monitored.decide(old)[0] == "inspect"
    assert _tick(monitored).run_requests == []


def test_truth_is_the_latest_feedback_and_leaves_out_what_was_trained_on(monitored: Monitored) -> None:
    monitored.feedback()
    monitored.warehouse.execute("insert into feedback select id, day, 'other', timestamp '2024-03-01' from feedback")
    assert monitored.run().success
    ((value, rows),) = monitored.warehouse.fetch_rows(
        "select statistic, window_rows from drift_report where name = 'online_f1'"
    )
    assert value < 0.4
    assert rows == 325
    # a tag that no project has is no truth
    monitored.warehouse.execute("insert into feedback select id, day, 'ohter', timestamp '2024-04-01' from feedback")
    assert monitored.run().metadata(REPORT)["labelled_rows"] == 0
    # projects of the train split are no evidence, those of the test split are
    monitored.warehouse.execute("drop table feedback")
    monitored.warehouse.execute(
        "insert into predictions select cast(id as varchar), 'batch', "
        f"date '{TODAY}', created_on, title, description, tag, 1, '{{}}', '1' from labeled_projects"
    )
    ran = monitored.run()
    known = monitored.home.value("validated_dataset")["test_rows"]
    assert ran.metadata(REPORT)["labelled_rows"] == known
    # what people labeled because the champion was unsure of it says nothing of the other rows
    version = monitored.home.value("validated_dataset")["version"]
    tested = monitored.home.resources["datasets"].load(version, "test")["id"].tolist()[:-3]
    monitored.warehouse.execute(
        f"create table labels as select unnest({tested}) as id, 'other' as tag, current_timestamp as labeled_at, "
        "'ann' as labeled_by, 'page' as source"
    )
    monitored.warehouse.execute(f"update labels set source = 'page-random' where id in ({tested[0]}, {tested[1]})")
    assert monitored.run().metadata(REPORT)["labelled_rows"] == known - len(tested) + 2


def test_what_is_missing_is_a_sentence(monitored: Monitored) -> None:
    home = monitored.home
    monitored.warehouse.execute("alter table predictions rename to gone")
    assert monitored.run().failure == "The warehouse has no table predictions: materialize predictions first."
    monitored.warehouse.execute("alter table gone rename to predictions")
    home.snapshot().unlink()
    assert "is missing: materialize validated_dataset again." in monitored.run().failure
    home.client().delete_registered_model_alias("project-tagger", CHAMPION)
    assert monitored.run().failure == "There is no champion yet: materialize champion_model first."
