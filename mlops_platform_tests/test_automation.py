"""Real ticks of the automation conditions, on the real graph and an ephemeral instance.

Each tick evaluates the conditions at a simulated time, materializes what they ask for, and goes on until
nothing is asked for any more: as the daemon does.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_platform.build import build_definitions
from mlops_platform.settings import SAMPLE_DIR, Settings

START = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
RETRAINING = ["tuned_params", "trained_model", "model_evaluation", "champion_model"]
AFTER_INGEST = ["labeled_projects", "unlabeled_projects", "validated_dataset"]


class World:
    """A platform with its own sources, home, instance and clock."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.tags, self.instance, self.now = folder / "tags.csv", instance, START
        self.tags.write_bytes((SAMPLE_DIR / "tags.csv").read_bytes())
        self.defs = build_definitions(Settings(home=folder / "home", tags_uri=str(self.tags), num_trials=1))
        self.cursor: Any = None

    def materialize(self, names: Sequence[str]) -> bool:
        job = self.defs.resolve_implicit_global_asset_job_def()
        keys = [dg.AssetKey(name) for name in names]
        return bool(job.execute_in_process(instance=self.instance, asset_selection=keys, raise_on_error=False).success)

    def tick(self, after: timedelta = timedelta(minutes=1)) -> list[str]:
        """One evaluation; what it asks for is materialized with its checks."""
        self.now += after
        result = dg.evaluate_automation_conditions(
            self.defs, self.instance, cursor=self.cursor, evaluation_time=self.now
        )
        self.cursor = result.cursor
        asked = {each.key for each in result.results if isinstance(each.key, dg.AssetKey)}
        requested = {key.to_user_string() for key in asked if result.get_num_requested(key)}
        names = [name for name in (*AFTER_INGEST, *RETRAINING) if name in requested]
        assert len(names) == len(requested), requested
        if names:
            self.materialize(names)
        return names

    def settle(self, after: timedelta = timedelta(minutes=1)) -> list[str]:
        """Ticks until one asks for nothing; what was asked for, in order."""
        asked: list[str] = []
        while names := self.tick(after):
            asked += names
            after = timedelta(minutes=1)
            assert len(asked) < 50, f"the graph does not come to rest: {asked}"
        return asked

    def relabel(self, changes: dict[int, tuple[str, str]]) -> None:
        """Replace (id, tag) at the given rows of the tags file."""
        with self.tags.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        for row, values in changes.items():
            rows[row] = list(values)
        with self.tags.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)

    def tag_row(self, row: int) -> tuple[str, str]:
        with self.tags.open(encoding="utf-8", newline="") as file:
            values = list(csv.reader(file))[row]
        return values[0], values[1]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(tmp_path, instance)


@pytest.mark.long
def test_change_failing_check_repair_recovery(world: World) -> None:
    # a fresh platform: ingest is started by hand, the rest follows, and training waits for its window
    assert world.tick() == []
    assert world.materialize(["projects", "tags"])
    assert world.settle() == AFTER_INGEST
    assert world.settle(timedelta(hours=6)) == RETRAINING

    # the same content again is no change
    assert world.materialize(["projects", "tags"])
    assert world.settle() == []

    # one label changes: tables and dataset follow at once, training in the next window, once
    key, tag = world.tag_row(1)
    other = "other" if tag != "other" else "mlops"
    world.relabel({1: (key, other)})
    assert world.materialize(["tags"])
    assert world.settle() == AFTER_INGEST
    assert world.settle() == []
    assert world.settle(timedelta(hours=6)) == RETRAINING

    # a tag that is not accepted: the check fails, and nothing downstream moves, window or not
    world.relabel({1: (key, "gardening")})
    assert not world.materialize(["tags"])
    assert world.settle() == []
    assert world.settle(timedelta(hours=6)) == []

    # repaired: all of it follows
    world.relabel({1: (key, tag)})
    assert world.materialize(["tags"])
    asked = world.settle()
    assert "labeled_projects" in asked
    assert "validated_dataset" in asked
    asked += world.settle(timedelta(hours=6))
    assert [name for name in asked if name in RETRAINING] == RETRAINING


def test_training_happens_once_in_a_window(world: World) -> None:
    assert world.materialize(["projects", "tags"])
    world.settle()
    assert world.settle(timedelta(hours=6)) == RETRAINING
    key, _ = world.tag_row(1)
    for other in ("other", "mlops", "computer-vision"):
        world.relabel({1: (key, other)})
        assert world.materialize(["tags"])
        asked = world.settle(timedelta(minutes=5))
        assert "validated_dataset" in asked
        assert not set(asked) & set(RETRAINING)
    assert world.settle(timedelta(hours=6)) == RETRAINING
