"""The calls to MLflow: runs, versions, aliases, and the errors of a damaged store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlops_platform.errors import ModelError
from mlops_platform.resources.registry.model_registry import CHAMPION, FINGERPRINT_TAG, MlflowTracking
from mlops_platform_tests.training_graph import TrainingHome


def test_without_a_model_nothing_is_found(fresh: TrainingHome) -> None:
    assert fresh.tracking.by_alias(CHAMPION) is None
    assert fresh.tracking.find("whatever") is None
    with pytest.raises(ModelError, match="Version 1 of model project-tagger is not in the registry"):
        fresh.tracking.version("1")


def test_without_the_alias_there_is_no_champion(trained: TrainingHome) -> None:
    assert trained.tracking.by_alias("nobody") is None
    trained.client().delete_registered_model_alias("project-tagger", CHAMPION)
    assert trained.tracking.by_alias(CHAMPION) is None


@pytest.mark.parametrize("version", ["7", ""])
def test_a_version_that_is_not_there_is_a_sentence(trained_once: TrainingHome, version: str) -> None:
    for call in (trained_once.tracking.version, trained_once.tracking.load):
        with pytest.raises(ModelError, match="materialize trained_model") as caught:
            call(version)
        assert "\n" not in str(caught.value)


def test_a_version_is_found_by_its_fingerprint(trained_once: TrainingHome) -> None:
    identity = trained_once.value("trained_model")["fingerprint"]
    found = trained_once.tracking.find(identity)
    assert found is not None
    assert (found.version, found.run_id) == ("1", trained_once.value("trained_model")["run_id"])
    assert found.fingerprint == identity
    assert trained_once.tracking.find(identity[:-1]) is None


def test_what_was_registered_predicts_as_before(fresh: TrainingHome) -> None:
    """In a store whose path holds spaces and letters beyond ASCII, as `fresh` has it."""
    from mlops_platform.ml.classifier import text_classifier

    assert not str(fresh.settings.mlflow_dir).isascii()
    assert " " in str(fresh.settings.mlflow_dir)
    texts = [f"{word} number {i}" for i in range(12) for word in ("otter", "kettle")]
    frame = text_classifier.frame(texts, [""] * len(texts))
    fitted = text_classifier.fit(frame, ["animals", "kitchen"] * 12, text_classifier.Params(char_ngram_max=2))
    made = fresh.tracking.register(
        fitted,
        frame.head(2),
        experiment_id=fresh.tracking.experiment("mine"),
        run_name="small",
        params={"alpha": 1},
        metrics={"cv": 0.5},
        tags={FINGERPRINT_TAG: "f1"},
        artifacts={"note.txt": "ein Häkchen ✓".encode()},
        trusted_types=list(text_classifier.TRUSTED_TYPES),
    )
    assert (made.version, made.fingerprint) == ("1", "f1")
    loaded = fresh.tracking.load("1")
    assert (loaded.predict_proba(frame) == fitted.predict_proba(frame)).all()
    # all of it is in the store's own folder
    assert fresh.model_dir("1").is_relative_to(fresh.settings.mlflow_dir / "artifacts")
    (note,) = fresh.settings.mlflow_dir.rglob("note.txt")
    assert note.read_text(encoding="utf-8") == "ein Häkchen ✓"

    fresh.tracking.set_alias(CHAMPION, "1", {"promoted_because": "it is good"})
    champion = fresh.tracking.by_alias(CHAMPION)
    assert champion is not None
    assert (champion.version, champion.tags["promoted_because"]) == ("1", "it is good")
    fresh.tracking.log_evaluation(made.run_id, {"test": 0.5}, {"note.txt": b"new"})
    fresh.tracking.log_evaluation(made.run_id, {"test": 0.6}, {})
    assert fresh.tracking.metrics(made.run_id) == {"cv": 0.5, "test": 0.6}
    assert note.read_bytes() == b"new"


def test_a_registered_model_loads_where_this_package_is_absent(trained_once: TrainingHome) -> None:
    folder = trained_once.model_dir("1")
    assert [path.suffix for path in folder.glob("model.*")] == [".skops"]
    script = (
        "import sys, mlflow.sklearn, pandas as pd\n"
        "model = mlflow.sklearn.load_model(sys.argv[1])\n"
        "print(*model.predict(pd.DataFrame({'text': ['an otter']})), 'mlops_platform' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True, cwd=folder
    )
    assert said.stdout.split()[-1] == "False"
    assert said.stdout.rsplit(maxsplit=1)[0] in trained_once.tracking.load("1").classes_


def test_the_signature_is_that_of_a_prediction(trained_once: TrainingHome) -> None:
    from mlflow.models import infer_signature

    from mlops_platform.ml.classifier import text_classifier

    saved = trained_once.tracking.load("1")
    texts = text_classifier.frame(["an otter"], ["in a river"])
    expected = infer_signature(texts, saved.predict(texts))
    import mlflow.models

    assert mlflow.models.get_model_info("models:/project-tagger/1").signature == expected


def test_an_experiment_is_created_once(fresh: TrainingHome) -> None:
    made = fresh.tracking.experiment("lesson 7")
    assert fresh.tracking.experiment("lesson 7") == made
    found = fresh.client().get_experiment_by_name("lesson 7")
    assert found.experiment_id == made
    assert found.artifact_location == (fresh.settings.mlflow_dir / "artifacts").as_uri()


def test_a_deleted_experiment_is_a_sentence_that_heals(fresh: TrainingHome) -> None:
    made = fresh.tracking.experiment("baselines")
    fresh.client().delete_experiment(made)
    with pytest.raises(ModelError, match=f"baselines was deleted: restore it .*--experiment-id {made}"):
        fresh.tracking.experiment("baselines")
    fresh.client().restore_experiment(made)
    assert fresh.tracking.experiment("baselines") == made


def test_links_lead_to_the_ui(trained_once: TrainingHome) -> None:
    run_id = trained_once.value("trained_model")["run_id"]
    experiment = trained_once.tracking.experiment("baselines")
    ui = trained_once.settings.mlflow_url
    assert trained_once.tracking.run_url(run_id) == f"{ui}/#/experiments/{experiment}/runs/{run_id}"
    assert trained_once.tracking.version_url("1") == f"{ui}/#/models/project-tagger/versions/1"


def test_a_store_that_is_damaged_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database " * 100)
    store = MlflowTracking(
        tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}", store_dir=str(tmp_path), ui_url="http://127.0.0.1"
    )
    with pytest.raises(ModelError, match=r"mlflow.db cannot be opened .* move it away") as caught:
        store.by_alias(CHAMPION)
    assert "\n" not in str(caught.value)
