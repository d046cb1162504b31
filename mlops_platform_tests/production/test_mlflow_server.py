"""The registry on a real MLflow server: SQLite behind it, and a folder of the server's for the artifacts."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mlops_platform.cli.predict import load_champion
from mlops_platform.cli.run_progress import Progress, print_summary
from mlops_platform.cli.status import champion
from mlops_platform.errors import ModelError
from mlops_platform.resources.factory import build_resources
from mlops_platform.resources.registry.model_registry import CHAMPION, FINGERPRINT_TAG, MlflowTracking
from mlops_platform.settings import Settings
from mlops_platform_tests.production.mlflow_server import MlflowServer, mlflow_server
from mlops_platform_tests.training_graph import TrainingHome

pytest_plugins = ["mlops_platform_tests.production.training_home"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow server")) as made:
        yield made


def _on_server(home: TrainingHome, uri: str) -> TrainingHome:
    home.settings = home.settings.model_copy(update={"mlflow_uri": uri, "home": home.home})
    home.resources = build_resources(home.settings)
    home.tracking = home.resources["tracking"]
    return home


def test_the_calls_work_as_on_a_local_store(server: MlflowServer, tmp_path: Path) -> None:
    from mlops_platform.ml.classifier import text_classifier

    settings = Settings(home=tmp_path / "home", mlflow_uri=server.uri)
    tracking: MlflowTracking = build_resources(settings)["tracking"]
    assert tracking.exists()
    assert tracking.by_alias(CHAMPION) is None
    assert champion(settings) is None
    with pytest.raises(ModelError, match="no champion model on the MLflow server yet"):
        load_champion(settings)
    experiment = tracking.experiment("mine")
    assert tracking.experiment("mine") == experiment

    texts = [f"{word} number {i}" for i in range(12) for word in ("otter", "kettle")]
    frame = text_classifier.frame(texts, [""] * len(texts))
    fitted = text_classifier.fit(frame, ["animals", "kitchen"] * 12, text_classifier.Params(char_ngram_max=2))
    made = tracking.register(
        fitted,
        frame.head(2),
        experiment_id=experiment,
        run_name="small",
        params={"alpha": 1},
        metrics={"cv": 0.5},
        tags={FINGERPRINT_TAG: "f1"},
        artifacts={"note.txt": "ein Häkchen ✓".encode()},
        trusted_types=list(text_classifier.TRUSTED_TYPES),
    )
    found = tracking.find("f1")
    assert found is not None
    assert found.version == made.version
    assert tracking.find("f2") is None
    tracking.set_alias(CHAMPION, made.version, {"promoted_because": "it is good"})
    tracking.log_evaluation(made.run_id, {"test": 0.5}, {"note.txt": b"new"})
    tracking.log_evaluation(made.run_id, {"test": 0.6}, {})
    assert tracking.metrics(made.run_id) == {"cv": 0.5, "test": 0.6}
    # the files are where the server puts them, and nothing is in the home
    (note,) = server.artifacts.rglob("note.txt")
    assert note.read_bytes() == b"new"
    assert not settings.mlflow_dir.exists()

    assert (load_champion(settings).predict_proba(frame) == fitted.predict_proba(frame)).all()
    shown = champion(settings)
    assert shown is not None
    assert (shown["version"], shown["reason"]) == (made.version, "it is good")
    assert tracking.run_url(made.run_id) == f"{server.uri}/#/experiments/{experiment}/runs/{made.run_id}"
    with pytest.raises(ModelError, match="Version 99 of model project-tagger is not in the registry"):
        tracking.version("99")
    with pytest.raises(ModelError, match="Version 99 of model project-tagger cannot be loaded"):
        tracking.load("99")


def test_the_training_part_of_the_graph_runs_on_it_and_makes_no_second_version(
    server: MlflowServer, fresh: TrainingHome
) -> None:
    home = _on_server(fresh, server.uri)
    names = ("validated_dataset", "tuned_params", "trained_model", "model_evaluation", "champion_model")
    for _ in range(2):
        ran = home.run(*names, min_f1=0.1)
        assert ran.success, ran.failure
    versions = home.client().search_model_versions(f"run_id = '{home.value('trained_model')['run_id']}'")
    assert len(versions) == 1
    held = home.tracking.by_alias(CHAMPION)
    assert held is not None
    assert held.version == home.value("champion_model")["version"]


def _down(settings: Settings) -> float:
    """Every way in says one sentence; how long the slowest took, in seconds."""
    tracking: MlflowTracking = build_resources(settings)["tracking"]
    took = []
    for call in (
        lambda: tracking.by_alias(CHAMPION),
        lambda: tracking.experiment("x"),
        lambda: load_champion(settings),
        lambda: champion(settings),
    ):
        began = time.monotonic()
        with pytest.raises(ModelError, match=r"does not answer \(.*set MLOPS_MLFLOW_URI") as caught:
            call()
        took.append(time.monotonic() - began)
        assert "\n" not in str(caught.value)
        assert "hunter2" not in str(caught.value)
    return max(took)


def test_a_server_that_is_down_is_a_sentence_at_once(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, mlflow_uri="http://me:hunter2@127.0.0.1:9")
    assert _down(settings) < 10
    # the end of a run is told all the same
    console = Console(file=StringIO(), width=300)
    print_summary(console, settings, Progress(console), success=False)
    assert "MLOPS_MLFLOW_URI" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert _down(Settings(home=tmp_path, mlflow_uri=f"http://127.0.0.1:{silent.getsockname()[1]}")) < 15


def test_a_run_on_a_server_that_is_down_fails_with_the_sentence(fresh: TrainingHome) -> None:
    home = _on_server(fresh, "http://127.0.0.1:9")
    assert home.run("validated_dataset", "tuned_params").success
    assert "MLOPS_MLFLOW_URI" in home.run("trained_model").failure
