"""Uploads of the event log to BigQuery, and `predictions` materialized there: nothing lost, nothing twice."""

from __future__ import annotations

import datetime as dt
import json
import multiprocessing
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests
from google.api_core.exceptions import NotFound

from benchmarks.service_load import Load, served
from mlops_platform.assets.predictions import build_predictions_asset
from mlops_platform.errors import WarehouseError
from mlops_platform.resources.event_log import Event, EventLog
from mlops_platform.resources.factory import bigquery_warehouse
from mlops_platform.resources.prediction_log import BigQueryLog, log_store
from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
from mlops_platform.serving import log_uploader
from mlops_platform.serving.log_uploader import LogUploader
from mlops_platform.settings import Settings
from mlops_platform_tests.production.bigquery_emulator import Emulator
from mlops_platform_tests.production.misbehaving import Fault, proxy_to
from mlops_platform_tests.serving.conftest import make_registry, wait_for
from mlops_platform_tests.training_graph import Run, TrainingHome

pytest_plugins = ["mlops_platform_tests.production.training_home"]

FIRST = dt.date(2024, 1, 1)


def _record(key: str, at: str, **changes: Any) -> dict[str, Any]:
    told = {"tag": "mlops", "probability": 0.75, "probabilities": {"mlops": 0.75, "other": 0.25}}
    return {"kind": "prediction", "id": key, "at": at, "model_version": "1", "title": "a\nü\x00", **told, **changes}


def _event(record: dict[str, Any]) -> Event:
    body = {name: value for name, value in record.items() if name not in ("kind", "at")}
    return Event(record["kind"], dt.datetime.fromisoformat(record["at"]), body)


def _append(log: EventLog, *records: dict[str, Any]) -> None:
    log.append([_event(record) for record in records])


def _uploader(log: EventLog, warehouse: BigQueryLog) -> LogUploader:
    return LogUploader(log, warehouse, 3600, lambda _: None)


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "log" / "events.db")


def _ids(warehouse: BigQueryWarehouse) -> list[str]:
    return [key for (key,) in warehouse.fetch_rows("SELECT id FROM prediction_log ORDER BY id")]


def test_an_upload_is_loaded_once_however_often_it_is_repeated(bigquery: BigQueryWarehouse) -> None:
    events = [
        _event(_record("a.0", "2026-01-01T23:59:59.999999+00:00")),
        _event({"kind": "feedback", "id": "a.0", "at": "2026-01-02T00:00:00+00:00", "tag": "other"}),
    ]
    store = BigQueryLog(bigquery)
    assert store.days(dt.date(2020, 1, 1), dt.date(2030, 1, 1)) == []
    for _ in range(3):
        store.take("log-1-2", events)
        BigQueryLog(bigquery).take("log-1-2", events)
    assert _ids(bigquery) == ["a.0", "a.0"]
    assert store.days(dt.date(2026, 1, 1), dt.date(2026, 1, 3)) == [dt.date(2026, 1, 1), dt.date(2026, 1, 2)]
    assert store.days(dt.date(2026, 1, 2), dt.date(2026, 1, 3)) == [dt.date(2026, 1, 2)]
    (row,) = store.rows("prediction", dt.date(2026, 1, 1))
    assert dict(row) == {
        **_record("a.0", ""),
        "at": dt.datetime.fromisoformat("2026-01-01T23:59:59.999999"),
        "description": None,
        "probabilities": json.dumps({"mlops": 0.75, "other": 0.25}),
        "segment": "log-1-2",
    }
    (label,) = store.rows("feedback", dt.date(2026, 1, 2))
    assert (label["tag"], label["title"], label["probabilities"]) == ("other", None, None)
    assert list(store.rows("feedback", dt.date(2026, 1, 1))) == []
    with bigquery.connect() as client:
        table = client.get_table(f"{bigquery.project}.{bigquery.schema_name}.prediction_log")
    assert (table.time_partitioning.field, table.time_partitioning.type_) == ("at", "DAY")


@pytest.mark.parametrize("pass_on", [False, True])
def test_an_upload_whose_answer_is_lost_is_not_doubled(
    bigquery: BigQueryWarehouse, bigquery_emulator: Emulator, pass_on: bool
) -> None:
    with proxy_to(bigquery_emulator.url) as proxy:
        # every part of the upload in turn: the start of it, and its content
        proxy.faults += [Fault("(POST|PUT) /(resumable/)?upload", 503, "backendError", times=3, pass_on=pass_on)]
        behind = bigquery.model_copy(update={"endpoint": proxy.url})
        BigQueryLog(behind).take("log-1-1", [_event(_record("a.0", "2026-01-01T00:00:00+00:00"))])
        assert all(fault.times == 0 for fault in proxy.faults)
    assert _ids(bigquery) == ["a.0"]


def test_a_load_that_failed_is_repeated_and_its_events_stay_on_the_disk_until_it_succeeds(
    bigquery: BigQueryWarehouse, log: EventLog
) -> None:
    bigquery.execute("CREATE TABLE prediction_log (id INT64)")
    _append(log, _record("a.0", "2026-01-01T00:00:00+00:00"))
    uploader = _uploader(log, BigQueryLog(bigquery))
    for _ in range(2):
        result = uploader.upload()
        assert (result.events, result.errors) == (0, 1)
        assert uploader.waiting() == 1
    assert uploader.problem is not None
    bigquery.execute("DROP TABLE prediction_log")
    # another process, which does not know what has failed
    assert _uploader(log, BigQueryLog(bigquery)).upload().events == 1
    assert _ids(bigquery) == ["a.0"]
    assert uploader.waiting() == 0


def test_a_table_that_cannot_be_reached_is_a_sentence(bigquery: BigQueryWarehouse) -> None:
    events = [_event(_record("a.0", "2026-01-01T00:00:00+00:00"))]
    nowhere = bigquery.model_copy(update={"endpoint": "http://127.0.0.1:9", "retry_seconds": 0.5})
    with pytest.raises(WarehouseError, match="could not serve dataset"):
        BigQueryLog(nowhere).take("log-1-1", events)
    with pytest.raises(WarehouseError, match="BigQuery has no dataset"):
        BigQueryLog(bigquery.model_copy(update={"schema_name": "nowhere"})).take("log-1-1", events)
    with pytest.raises(NotFound), bigquery.connect() as client:
        client.get_table(f"{bigquery.project}.{bigquery.schema_name}.prediction_log")


class KilledAfterLoading(BigQueryLog):
    """Dies between the load of its second upload and the note that it is done."""

    loaded = 0

    def take(self, name: str, events: Iterable[Event]) -> None:
        super().take(name, events)
        KilledAfterLoading.loaded += 1
        if KilledAfterLoading.loaded == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def _upload_and_die(path: Path) -> None:
    log_uploader.UPLOAD_EVENTS = 1
    _uploader(EventLog(path), KilledAfterLoading(bigquery_warehouse(Settings(_env_file=None)))).upload()


def test_killed_between_load_and_note_nothing_is_lost_or_doubled(bigquery: BigQueryWarehouse, log: EventLog) -> None:
    _append(log, *(_record(f"{number}.0", "2026-01-01T00:00:00+00:00") for number in range(4)))
    process = multiprocessing.get_context("spawn").Process(target=_upload_and_die, args=(log.path,))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    uploader = _uploader(log, BigQueryLog(bigquery))
    assert uploader.waiting() == 3
    assert _ids(bigquery) == ["0.0", "1.0"]
    assert uploader.upload().events == 3
    assert _ids(bigquery) == ["0.0", "1.0", "2.0", "3.0"]
    assert uploader.waiting() == 0


def _run(asset: dg.AssetsDefinition, resources: dict[str, Any], first: str, last: str) -> Run:
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    with dg.DagsterInstance.ephemeral() as instance:
        job = dg.Definitions(
            assets=[asset], jobs=[dg.define_asset_job("days", selection=[asset])], resources=resources
        ).resolve_job_def("days")
        return Run(job.execute_in_process(instance=instance, tags=tags, raise_on_error=False))


def test_predictions_on_bigquery_over_several_days_and_again(
    bigquery: BigQueryWarehouse, bigquery_settings: Settings, trained: TrainingHome, log: EventLog
) -> None:
    bigquery.execute(
        "CREATE TABLE unlabeled_projects AS "
        "SELECT 1 AS id, TIMESTAMP '2024-01-01 00:00:00+00' AS created_on, 'YOLO' AS title, 'object' AS description "
        "UNION ALL SELECT 2, TIMESTAMP '2024-01-01 23:59:59.999999+00', 'BERT', NULL "
        "UNION ALL SELECT 3, TIMESTAMP '2024-01-03 12:00:00+00', NULL, 'monitoring'"
    )
    store = log_store(bigquery_settings)
    assert isinstance(store, BigQueryLog)
    _append(
        log,
        *(_record(f"{n:05}.0", f"2024-01-02T00:00:00.{n:06}+00:00") for n in range(5_000)),  # more than one batch
        _record("b.0", "2024-01-04T00:00:00+00:00"),
        {"kind": "feedback", "id": "b.0", "at": "2024-01-05T00:00:00+00:00", "tag": "other"},
        {"kind": "feedback", "id": "b.0", "at": "2024-01-05T00:00:01+00:00", "tag": "mlops"},
    )
    assert _uploader(log, store).upload().events == 5_003
    resources = {"warehouse": bigquery, "tracking": trained.tracking, "encoders": trained.resources["encoders"]}
    asset = build_predictions_asset(FIRST, store)
    seen = "SELECT source, CAST(day AS STRING), COUNT(*), COUNT(DISTINCT id) FROM predictions GROUP BY 1, 2 ORDER BY 2"
    for _ in range(2):
        ran = _run(asset, resources, "2024-01-01", "2024-01-05")
        assert ran.success, ran.failure
        # an event a day, all with the figures of the run
        event = ran.result.asset_materializations_for_node("predictions")[0]
        told = {key: each.value for key, each in event.metadata.items()}
        assert (told["scored_projects"], told["served_predictions"], told["feedback_labels"]) == (3, 5_001, 2)
        assert bigquery.fetch_rows(seen) == [
            ("batch", "2024-01-01", 2, 2),
            ("service", "2024-01-02", 5_000, 5_000),
            ("batch", "2024-01-03", 1, 1),
            ("service", "2024-01-04", 1, 1),
        ]
    labels = bigquery.fetch_rows("SELECT id, tag, CAST(day AS STRING) FROM feedback ORDER BY `at`")
    assert labels == [("b.0", "other", "2024-01-05"), ("b.0", "mlops", "2024-01-05")]


def test_a_service_that_is_killed_under_load_and_restarted_has_uploaded_what_it_answered(
    bigquery: BigQueryWarehouse, bigquery_settings: Settings, bigquery_emulator: Emulator
) -> None:
    home = bigquery_settings.home
    make_registry(home)
    production = bigquery_emulator.env(bigquery.schema_name, home) | {"MLOPS_SERVE_LOG_SECONDS": "0.5"}
    answered: list[str] = []
    with served(home, "--workers", "2", settings=production) as service:
        load = Load(service.url, 4, [{"texts": [{"title": "a"}] * 2}])
        wait_for(lambda: len(load.answers.told) > 200)
        wait_for(lambda: bigquery.has_table("prediction_log"))
        os.killpg(service.process.pid, signal.SIGKILL)
        wait_for(lambda: len(load.answers.failures) > 0)
        answered += load.stop().told
    assert len(_ids(bigquery)) > 0
    with served(home, settings=production) as service:
        (last,) = requests.post(f"{service.url}/predict", json={"title": "a"}, timeout=30).json()["predictions"]
        service.stop()
    uploaded = _ids(bigquery)
    assert len(uploaded) == len(set(uploaded))
    assert set(uploaded) >= {*answered, last["id"]}
