"""A cursor that the sensor on partitions did not write, as after a restore or an edit in the UI, is a first tick."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlops_platform_tests.sensors.test_new_partitions import Answering, Watcher


@pytest.mark.parametrize(
    "cursor",
    [
        "2026-11-24T00:00:00Z",
        "[]",
        "null",
        "{}",
        json.dumps({"requests": 1, "tables": {"projects": {"created": "1"}}}),
        json.dumps({"requests": 1, "tables": {"projects": {"created": "1", "recent": {}}}}),
        json.dumps({"requests": 1, "tables": {"projects": {"memory": {"created": "1", "digest": "0"}, "load": None}}}),
    ],
)
def test_a_foreign_cursor_is_a_first_tick(tmp_path: Path, cursor: str) -> None:
    watcher = Watcher(tmp_path / "home")
    watcher.warehouse, watcher.cursor = Answering(3), cursor
    (request,) = watcher.tick()
    assert request.tags["mlops/partition_count"] == "4"
    assert watcher.tick() == []
