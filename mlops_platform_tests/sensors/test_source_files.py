"""The source sensor: what counts as a change, and that each is asked for once."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import pytest

from mlops_platform.resources.csv_ingest import source_file
from mlops_platform.resources.csv_ingest.source_file import SOURCE_FINGERPRINT
from mlops_platform.resources.event_log import Event, EventLog
from mlops_platform.resources.labels.label_log import LABELS_FINGERPRINT, Label, append, fingerprint, now
from mlops_platform.sensors.source_files import build_source_sensor, stamp


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    projects, tags = tmp_path / "projects.csv", tmp_path / "tags.csv"
    projects.write_text("id,title\n1,a\n")
    tags.write_text("id,tag\n1,other\n")
    return projects, tags


class Watcher:
    """Ticks the sensor and keeps its cursor, as the daemon does."""

    def __init__(self, projects: str, tags: str, labels: Path = Path("there is no such log")) -> None:
        self.sensor, self.labels = build_source_sensor(projects, tags, labels), labels
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: str | None = None

    def tick(self) -> list[str]:
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor
        return [str(request.run_key) for request in data.run_requests or []]

    def loaded(self, projects: Path, tags: Path) -> None:
        for name, path in (("projects", projects), ("tags", tags)):
            metadata = {SOURCE_FINGERPRINT: source_file.fingerprint(path)}
            if mark := fingerprint(self.labels):
                metadata[LABELS_FINGERPRINT] = mark
            self.instance.report_runless_asset_event(dg.AssetMaterialization(name, metadata=metadata))


def test_a_change_is_asked_for_once_and_a_return_again(files: tuple[Path, Path]) -> None:
    watcher = Watcher(str(files[0]), str(files[1]))
    first = watcher.tick()
    assert len(first) == 1
    watcher.loaded(*files)
    assert watcher.tick() == []
    before = files[1].read_text()
    files[1].write_text("id,tag\n1,mlops\n")
    second = watcher.tick()
    assert len(second) == 1
    assert watcher.tick() == []
    watcher.loaded(*files)
    files[1].write_text(before)
    third = watcher.tick()
    assert len({*first, *second, *third}) == 3


def test_a_touched_file_with_the_same_content_is_no_change(files: tuple[Path, Path]) -> None:
    watcher = Watcher(str(files[0]), str(files[1]))
    watcher.loaded(*files)
    assert watcher.tick() == []
    os.utime(files[0], (1, 1))
    assert watcher.tick() == []


def test_a_tick_that_died_repeats_its_run_key(files: tuple[Path, Path]) -> None:
    watcher = Watcher(str(files[0]), str(files[1]))
    first = watcher.tick()
    watcher.cursor = None
    assert watcher.tick() == first


def test_a_missing_partner_holds_the_run_back_until_it_returns(files: tuple[Path, Path]) -> None:
    watcher = Watcher(str(files[0]), str(files[1]))
    content = files[1].read_text()
    files[1].unlink()
    assert watcher.tick() == []
    files[1].write_text(content)
    assert len(watcher.tick()) == 1


def test_people_labels_are_a_source_that_may_be_missing(files: tuple[Path, Path], tmp_path: Path) -> None:
    log = tmp_path / "events.db"
    watcher = Watcher(str(files[0]), str(files[1]), log)
    assert len(watcher.tick()) == 1
    watcher.loaded(*files)
    assert watcher.tick() == []
    append(log, [Label(1, "mlops", now(), "ann", "page")])
    assert len(watcher.tick()) == 1
    assert watcher.tick() == []
    watcher.loaded(*files)
    EventLog(log).append([Event("prediction", datetime.now(UTC), {})])  # the service writes to the same file
    assert watcher.tick() == []
    log.unlink()
    assert len(watcher.tick()) == 1
    watcher.loaded(*files)
    assert watcher.tick() == []


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, str]]]:
    marks = {"ETag": '"one"'}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            for name, value in marks.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/tags.csv", marks
        running.shutdown()


def test_a_url_is_told_by_its_headers(files: tuple[Path, Path], server: tuple[str, dict[str, str]]) -> None:
    url, marks = server
    watcher = Watcher(str(files[0]), url)
    assert len(watcher.tick()) == 1
    watcher.loaded(*files)
    assert watcher.tick() == []
    marks["ETag"] = '"two"'
    assert len(watcher.tick()) == 1
    assert watcher.cursor is not None
    assert '"two"' in json.loads(json.loads(watcher.cursor)["stamps"]["tags"])
    marks.clear()
    assert stamp(url) is None
