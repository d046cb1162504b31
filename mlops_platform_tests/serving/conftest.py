"""A registry with two versions of the model, and the service on it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from filelock import FileLock

from mlops_platform.errors import ModelError
from mlops_platform.ml.classifier import text_classifier
from mlops_platform.resources.event_log import Event, EventLog
from mlops_platform.resources.factory import build_resources
from mlops_platform.resources.registry.model_registry import CHAMPION, MlflowTracking, RegisteredVersion
from mlops_platform.serving.app import build_app
from mlops_platform.serving.champion import ChampionFollower
from mlops_platform.serving.model_cache import ModelCopies
from mlops_platform.settings import Settings

TEXTS = {
    "computer-vision": "YOLO object detection in images and video",
    "natural-language-processing": "A transformer language model for translation of text",
    "mlops": "Monitoring and deployment of machine learning pipelines",
}


def make_registry(home: Path, mlflow_uri: str | None = None) -> None:
    """Register two small models, the first as the champion."""
    tracking = tracking_of(home, mlflow_uri)
    experiment = tracking.experiment("baselines")
    rows = text_classifier.frame(list(TEXTS.values()) * 12, [f"number {number}" for number in range(36)])
    tags = list(TEXTS) * 12
    for number in (1, 2):
        made = tracking.register(
            text_classifier.fit(rows, tags, text_classifier.Params(char_ngram_max=2, alpha=float(number))),
            rows.head(2),
            experiment_id=experiment,
            run_name="small",
            params={},
            metrics={},
            tags={"fingerprint": f"f{number}", "data_version": "d1", "dagster_run_id": f"r{number}"},
            artifacts={},
            trusted_types=list(text_classifier.TRUSTED_TYPES),
        )
        assert made.version == str(number)
    tracking.set_alias(CHAMPION, "1", {})


def tracking_of(home: Path, mlflow_uri: str | None = None) -> MlflowTracking:
    """The registry of a home, or a server's."""
    tracking: MlflowTracking = build_resources(Settings(home=home, mlflow_uri=mlflow_uri))["tracking"]
    return tracking


@pytest.fixture(scope="session")
def registry_home(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A home with two versions, made once for all workers; tests copy it or only read it."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    home = shared / "registry of two"
    with FileLock(shared / "registry.lock"):
        if not home.exists():
            make_registry(home)
    return home


@pytest.fixture
def home(registry_home: Path, tmp_path: Path) -> Path:
    """A home of the test's own with two versions; version 1 is the champion."""
    return Path(shutil.copytree(registry_home, tmp_path / "home"))


class Registry:
    """The real registry, whose answers a test can hold back."""

    def __init__(self, tracking: MlflowTracking) -> None:
        self.tracking, self.down, self.broken, self.alias_is_gone = tracking, False, False, False
        self.loaded: list[str] = []

    def by_alias(self, alias: str) -> RegisteredVersion | None:
        if self.down:
            raise ModelError("The registry is down for the test.")
        return None if self.alias_is_gone else self.tracking.by_alias(alias)

    def load(self, version: str) -> Any:
        if self.broken:
            raise ModelError("The files are gone for the test.")
        self.loaded.append(version)
        return self.tracking.load(version)


def follower_of(registry: Registry, copies: ModelCopies | None = None) -> ChampionFollower:
    """A follower that polls when a test says so."""
    return ChampionFollower(cast(MlflowTracking, registry), 3600, copies)


@dataclass
class Service:
    """The service in this process, and what it stands on."""

    client: TestClient
    followed: ChampionFollower
    registry: Registry
    settings: Settings
    log: EventLog

    def logged(self) -> list[Event]:
        """Return the events of the log: predictions, then feedback."""
        return [*self.log.read("prediction"), *self.log.read("feedback")]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def service(registry_home: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    """The service with small limits; a marker's arguments change its settings."""
    own: dict[str, Any] = {"serve_max_texts": 5, "serve_max_chars": 200, "serve_max_bytes": 5_000}
    settings = Settings(_env_file=None, home=tmp_path / "home", **(own | getattr(request, "param", {})))
    registry = Registry(tracking_of(registry_home))
    followed = follower_of(registry)
    log = EventLog(settings.event_log_path)
    with TestClient(build_app(settings, followed, log)) as client:
        yield Service(client, followed, registry, settings, log)
