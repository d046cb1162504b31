"""Uploads of the event log: repeated until they succeed, the same each time, one process at a time; then pruned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from fastapi.testclient import TestClient
from filelock import FileLock

from mlops_platform.errors import WarehouseError
from mlops_platform.resources.event_log import Event, EventLog
from mlops_platform.resources.prediction_log import BigQueryLog
from mlops_platform.serving import log_uploader
from mlops_platform.serving.app import build_app, destination
from mlops_platform.serving.log_uploader import LogUploader, UploadResult
from mlops_platform_tests.serving.conftest import Service, wait_for

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Warehouse:
    """A destination that a test can switch off, and that can lose its answer."""

    def __init__(self) -> None:
        self.uploads: dict[str, list[int]] = {}
        self.refused: set[int] = set()
        self.away = self.answer_is_lost = False

    @contextmanager
    def connected(self) -> Iterator[None]:
        if self.away:
            raise WarehouseError("There are no credentials for the test.")
        yield

    def take(self, name: str, events: Iterable[Event]) -> None:
        numbers = [event.body.get("n", -1) for event in events]
        if self.refused & set(numbers):
            raise WarehouseError("The upload is refused for the test.")
        assert self.uploads.setdefault(name, numbers) == numbers  # a name is one content for ever
        if self.answer_is_lost:
            raise WarehouseError("The answer is lost for the test.")

    def rows(self) -> list[int]:
        """Return the numbers of all events that were taken."""
        return [number for numbers in self.uploads.values() for number in numbers]


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "events.db")


def append(log: EventLog, *numbers: int, kind: str = "prediction") -> None:
    log.append([Event(kind, AT, {"n": number}) for number in numbers])


def uploader(log: EventLog, warehouse: Warehouse) -> LogUploader:
    return LogUploader(log, cast(BigQueryLog, warehouse), 3600, lambda _: None)


def test_each_event_is_uploaded_once_and_labels_stay(log: EventLog) -> None:
    warehouse = Warehouse()
    shipper = uploader(log, warehouse)
    assert shipper.upload() == UploadResult()
    append(log, 1, 2)
    append(log, 3, kind="label")
    append(log, 4, kind="feedback")
    assert shipper.waiting() == 3
    assert shipper.upload() == UploadResult(events=3)
    assert shipper.upload() == UploadResult()
    append(log, 5)
    assert uploader(log, warehouse).upload() == UploadResult(events=1)
    assert sorted(warehouse.uploads.values()) == [[1, 2, 4], [5]]
    assert shipper.waiting() == 0


def test_an_upload_whose_answer_is_lost_is_repeated_as_it_was(log: EventLog) -> None:
    warehouse = Warehouse()
    append(log, 1, 2)
    warehouse.answer_is_lost = True
    assert uploader(log, warehouse).upload().problem == "The answer is lost for the test."
    append(log, 3)
    warehouse.answer_is_lost = False
    assert uploader(log, warehouse).upload() == UploadResult(events=3)  # as after a kill: another process
    assert sorted(warehouse.uploads.values()) == [[1, 2], [3]]


def test_an_upload_that_is_refused_stays_and_holds_back_no_other(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_uploader, "UPLOAD_EVENTS", 2)
    warehouse = Warehouse()
    warehouse.refused = {3}
    append(log, 1, 2, 3, 4, 5)
    shipper = uploader(log, warehouse)
    assert shipper.upload() == UploadResult(3, 1, "The upload is refused for the test.")
    assert sorted(warehouse.uploads.values()) == [[1, 2], [5]]
    assert (shipper.waiting(), shipper.problem) == (2, "The upload is refused for the test.")
    warehouse.refused.clear()
    assert shipper.upload() == UploadResult(events=2)
    assert (shipper.waiting(), shipper.problem) == (0, None)


def test_a_warehouse_that_is_away_leaves_everything(log: EventLog) -> None:
    warehouse = Warehouse()
    warehouse.away = True
    append(log, 1)
    shipper = uploader(log, warehouse)
    assert shipper.upload().problem == "There are no credentials for the test."
    assert shipper.waiting() == 1
    warehouse.away = False
    assert shipper.upload().events == 1


def test_one_process_uploads_at_a_time(log: EventLog) -> None:
    warehouse = Warehouse()
    append(log, 1)
    with FileLock(f"{log.path}.upload.lock"):
        assert uploader(log, warehouse).upload() == UploadResult()
    assert warehouse.uploads == {}
    assert uploader(log, warehouse).upload().events == 1


def test_uploaded_events_are_deleted_by_age_and_by_size(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    warehouse = Warehouse()
    shipper = uploader(log, warehouse)
    for number in range(3):
        append(log, number)
        append(log, number, kind="label")
        shipper.upload()
    assert [event.body["n"] for event in log.read("prediction")] == [0, 1, 2]
    monkeypatch.setattr(log_uploader, "KEPT_BYTES", 20)
    shipper.upload()
    assert [event.body["n"] for event in log.read("prediction")] == [1, 2]
    monkeypatch.setattr(log_uploader, "KEPT_SECONDS", 0.0)
    shipper.upload()
    assert list(log.read("prediction")) == []
    append(log, 3)
    assert shipper.upload().events == 1  # and the row ids go on
    assert warehouse.rows() == [0, 1, 2, 3]
    assert [event.body["n"] for event in log.read("label")] == [0, 1, 2]


def test_what_is_not_uploaded_is_not_deleted(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_uploader, "KEPT_SECONDS", 0.0)
    warehouse = Warehouse()
    warehouse.refused = {1}
    append(log, 1)
    shipper = uploader(log, warehouse)
    shipper.upload()
    append(log, 2)
    shipper.upload()
    assert [event.body["n"] for event in log.read("prediction")] == [1]
    warehouse.refused.clear()
    shipper.upload()
    assert sorted(warehouse.rows()) == [1, 2]


def test_the_service_uploads_reports_and_ends_with_nothing_waiting(service: Service, tmp_path: Path) -> None:
    settings = service.settings.model_copy(update={"home": tmp_path / "other", "serve_log_seconds": 0.05})
    warehouse, log = Warehouse(), EventLog(settings.event_log_path)
    append(log, 1)
    warehouse.away = True
    with TestClient(build_app(settings, service.followed, log, cast(BigQueryLog, warehouse))) as client:
        wait_for(lambda: client.get("/model").json()["log_problem"] is not None)
        figures = client.get("/metrics").text
        assert "mlops_log_events_waiting 1.0" in figures
        assert "mlops_log_ship_last_error_timestamp_seconds 1." in figures
        warehouse.away = False
        wait_for(lambda: client.get("/model").json()["log_problem"] is None)
        wait_for(lambda: "mlops_log_shipped_total 1.0" in client.get("/metrics").text)
        assert client.post("/predict", json={"title": "a"}).status_code == 200
    assert sorted(warehouse.rows()) == [-1, 1]  # what came last, too


def test_a_laptop_uploads_nowhere(service: Service) -> None:
    assert destination(service.settings) is None
