"""Segments on their way: kept until they are taken, tried again, one process at a time, and kept small afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from mlops_platform.errors import WarehouseError
from mlops_platform.serving import shipping
from mlops_platform.serving.app import build_app, destination
from mlops_platform.serving.log_store import segment_rows
from mlops_platform.serving.prediction_log import LogError, PredictionLog, segments
from mlops_platform.serving.shipping import SHIPPED, Look, Shipper, prune
from mlops_platform_tests.serving.conftest import Service, wait_for

OPEN = "20260101T00000{}000000Z-1-abcdef12.{}"


class Warehouse:
    """Takes segments, or refuses them as it is told to."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.refused: set[str] = set()
        self.away = False

    @contextmanager
    def connected(self) -> Iterator[None]:
        if self.away:
            raise WarehouseError("There are no credentials for the test.")
        yield

    def take(self, segment: Path) -> int:
        if segment.name in self.refused:
            raise WarehouseError(f"{segment.name} is refused for the test.")
        self.taken.append(segment.name)
        return len(segment.read_text().splitlines())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        (tmp_path / OPEN.format(number, "jsonl")).write_text('{"id":1}\n' * (number + 1))
    return tmp_path


def test_a_segment_that_is_refused_stays_and_holds_back_no_other(folder: Path) -> None:
    warehouse, bad = Warehouse(), OPEN.format(1, "jsonl")
    warehouse.refused.add(bad)
    shipper = Shipper(folder, warehouse)
    assert shipper.ship() == Look(records=4, errors=1, problem=f"{bad} is refused for the test.")
    assert [each.name for each in segments(folder)] == [bad]
    assert shipper.waiting() == 1
    warehouse.refused.clear()
    assert shipper.ship() == Look(records=2)
    assert shipper.problem is None
    assert shipper.ship() == Look()
    assert sorted(warehouse.taken) == sorted(each.name for each in (folder / SHIPPED).iterdir())
    assert len(warehouse.taken) == 3


def test_a_warehouse_that_is_away_leaves_everything(folder: Path) -> None:
    warehouse = Warehouse()
    warehouse.away = True
    shipper = Shipper(folder, warehouse)
    assert shipper.ship().problem == "There are no credentials for the test."
    assert len(segments(folder)) == 3
    warehouse.away = False
    assert shipper.ship().records == 6


def test_one_process_ships_at_a_time(folder: Path) -> None:
    first, second = Warehouse(), Warehouse()
    with shipping._alone(folder) as alone:
        assert alone
        assert Shipper(folder, second).ship() == Look()
    assert second.taken == []
    assert Shipper(folder, first).ship().records == 6


def test_what_a_killed_worker_left_is_shipped(folder: Path) -> None:
    (folder / OPEN.format(9, "open")).write_text('{"id":9}\n{"half')
    warehouse = Warehouse()
    assert Shipper(folder, warehouse).ship().records == 7
    assert warehouse.taken[-1] == OPEN.format(9, "jsonl")
    assert (folder / OPEN.format(9, "torn")).read_text() == '{"half'


def test_shipped_segments_go_by_age_and_by_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = folder / OPEN.format(2, "jsonl")
    os.utime(old, (time.time() - 8 * 86400,) * 2)
    prune(folder)
    assert old not in segments(folder)
    assert len(segments(folder)) == 2
    monkeypatch.setattr(shipping, "KEPT_BYTES", 20)
    prune(folder)
    assert [each.name for each in segments(folder)] == [OPEN.format(1, "jsonl")]  # the newest stays
    prune(folder / "missing")


def test_a_line_that_the_service_did_not_write_is_named(tmp_path: Path) -> None:
    path = tmp_path / OPEN.format(0, "jsonl")
    for line in ('{"id":"a"}', '{"id":"a","kind":"feedback","at":7}', '{"id":"a","kind":"feedback","at":"x"}'):
        path.write_text(line + "\n")
        with pytest.raises(LogError, match="line 1, is no record of the service"):
            list(segment_rows(path))


def test_the_service_ships_tells_and_ends_with_nothing_waiting(service: Service, tmp_path: Path) -> None:
    settings = service.settings.model_copy(update={"home": tmp_path / "other"})
    folder = settings.prediction_log_dir
    folder.mkdir(parents=True)
    (folder / OPEN.format(0, "jsonl")).write_text('{"id":1}\n')
    warehouse, log = Warehouse(), PredictionLog(folder, seconds=3600, max_bytes=10_000)
    warehouse.away = True
    with TestClient(build_app(settings, service.followed, log, warehouse)) as client:
        wait_for(lambda: client.get("/model").json()["log_problem"] is not None)
        assert client.post("/predict", json={"title": "a"}).status_code == 200
        figures = client.get("/metrics").text
        assert "mlops_log_segments_waiting 1.0" in figures
        assert "mlops_log_ship_last_error_timestamp_seconds 1." in figures
        warehouse.away = False
        wait_for(lambda: client.get("/model").json()["log_problem"] is None)
        wait_for(lambda: "mlops_log_shipped_total 1.0" in client.get("/metrics").text)
    assert segments(folder) == []
    assert len(warehouse.taken) == 2  # what the log sealed at its end, too


def test_a_laptop_ships_nowhere(service: Service) -> None:
    assert destination(service.settings) is None
