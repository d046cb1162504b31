"""The model: one version for the same data and parameters, complete in the registry, healed after a kill."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.assets import training
from mlops_platform.assets.training import build_training_asset, code_version, fingerprint
from mlops_platform.ml.evaluation.holdout import EvaluationSet
from mlops_platform.ml.training_data.resampling import Recipe
from mlops_platform.resources.registry.model_registry import CHALLENGER, FINGERPRINT_TAG
from mlops_platform_tests.training_graph import SMALL, TrainingHome

PREDICT = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mlops_platform":
            raise ModuleNotFoundError(f"{name} is not on this machine")

sys.meta_path.insert(0, Absent())
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/project-tagger@champion")
print(json.dumps([str(tag) for tag in model.predict(pandas.DataFrame({"text": json.loads(sys.argv[2])}))]))
assert "mlops_platform" not in sys.modules
"""


def _versions(home: TrainingHome) -> list[Any]:
    found = home.client().search_model_versions("name = 'project-tagger'")
    return sorted(found, key=lambda each: int(each.version))


def test_the_same_training_is_one_version_and_another_is_a_second(trained: TrainingHome) -> None:
    first = trained.value("trained_model")
    again = trained.run("trained_model")
    assert again.metadata("trained_model")["new_version"] is False
    assert trained.value("trained_model") == first
    assert again.data_version("trained_model") == first["fingerprint"]
    assert len(_versions(trained)) == 1

    trained.put("tuned_params", params=SMALL)
    other = trained.run("trained_model")
    assert other.metadata("trained_model")["new_version"] is True
    assert other.data_version("trained_model") != first["fingerprint"]
    assert [each.version for each in _versions(trained)] == [1, 2]
    assert trained.tracking.by_alias(CHALLENGER).version == "2"  # type: ignore[union-attr]

    # back to the parameters of before: their version is there still
    trained.put("tuned_params", params=trained.value("tuned_params")["params"] | _params(trained, "1"))
    assert trained.run("trained_model").metadata("trained_model")["model_version"] == "1"
    assert trained.tracking.by_alias(CHALLENGER).version == "1"  # type: ignore[union-attr]
    assert len(_versions(trained)) == 2


def _params(home: TrainingHome, version: str) -> dict[str, Any]:
    path = home.client().download_artifacts(home.tracking.version(version).run_id, "params.json")
    params: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return params


def test_a_fingerprint_covers_all_that_makes_a_model() -> None:
    same = ("data", {"alpha": 1.0, "min_df": 1}, "code", 0)
    assert fingerprint(*same) == fingerprint("data", {"min_df": 1, "alpha": 1.0}, "code", 0)
    others = [
        ("data2", same[1], "code", 0),
        ("data", {"alpha": 2.0, "min_df": 1}, "code", 0),
        ("data", same[1], "code2", 0),
        ("data", same[1], "code", 1),
    ]
    assert len({fingerprint(*each) for each in [same, *others]}) == 5
    assert re.fullmatch("[0-9a-f]{12}", code_version())


@pytest.mark.parametrize("source", ["text.py", "text_classifier.py", "resampling.py"])
def test_a_change_in_what_draws_or_fits_is_another_code_version(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, read = code_version(), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read(self) + (b"#" if self.name == source else b""))
    assert code_version() != before


@pytest.mark.parametrize("source", ["text_classifier.py", "out_of_core.py", "hashed_features.py"])
def test_the_asset_is_stale_when_either_way_of_training_changes(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def versions() -> tuple[object, str]:
        return build_training_asset(Recipe()).get_asset_spec().code_version, code_version()

    (before, in_memory), read = versions(), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read(self) + (b"#" if self.name == source else b""))
    after, in_memory_after = versions()
    assert after != before
    # a change of streaming alone gives the small data no new model
    assert (in_memory_after != in_memory) == (source == "text_classifier.py")


@pytest.mark.parametrize("package", ["scikit-learn", "imbalanced-learn"])
def test_another_version_of_what_draws_or_fits_is_another_code_version(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, version = code_version(), metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: version(name) + (".1" if name == package else ""))
    assert code_version() != before


def test_the_code_version_leaves_out_no_module_that_the_model_is_made_with() -> None:
    folder = Path(training.__file__).parents[1] / "ml"
    seen, left = set(), {"classifier.text_classifier", "training_data.resampling"}
    while left:
        name = left.pop()
        seen.add(name)
        tree = ast.parse((folder / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))
        imports = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        named = {
            module.removeprefix("mlops_platform.ml.") for module in imports if module.startswith("mlops_platform.ml.")
        }
        # metrics evaluate a model and do not change it
        left |= named - seen - {"evaluation.metrics"}
    assert {f"{name.replace('.', '/')}.py" for name in seen} == set(training._MODEL_SOURCES)


def test_run_and_version_tell_where_they_come_from(trained: TrainingHome) -> None:
    trained.put("tuned_params", params=SMALL, score=0.77)
    ran = trained.run("trained_model", config={"trained_model": {"run_name": "second", "seed": 3}})
    value, dataset = trained.value("trained_model"), trained.value("validated_dataset")
    run = trained.client().get_run(value["run_id"])
    expected = {
        FINGERPRINT_TAG: fingerprint(dataset["version"], SMALL, code_version(), 3),
        "dagster_run_id": ran.result.run_id,
        "data_version": dataset["version"],
        "code_version": code_version(),
    }
    assert dict(_versions(trained)[1].tags) == expected
    assert run.data.tags.items() >= expected.items()
    assert (run.info.run_name, run.info.status) == ("second", "FINISHED")
    assert run.data.params == {name: str(each) for name, each in {**SMALL, "seed": 3}.items()}
    assert run.data.metrics == {"cv_f1_weighted": 0.77, "train_rows": dataset["train_rows"]}
    assert ran.metadata("trained_model")["mlflow_run"].endswith(f"/runs/{value['run_id']}")


def test_without_config_the_experiment_and_the_run_have_the_names_of_the_lesson(trained_once: TrainingHome) -> None:
    run = trained_once.client().get_run(trained_once.value("trained_model")["run_id"])
    assert trained_once.client().get_experiment(run.info.experiment_id).name == "baselines"
    assert run.info.run_name == "sgd"


def test_another_experiment_takes_the_run(trained: TrainingHome) -> None:
    trained.put("tuned_params", params=SMALL)
    trained.run("trained_model", config={"trained_model": {"experiment_name": "trials of mine"}})
    run = trained.client().get_run(trained.value("trained_model")["run_id"])
    assert trained.client().get_experiment(run.info.experiment_id).name == "trials of mine"


def test_the_model_is_a_skops_file_with_a_signature(trained_once: TrainingHome) -> None:
    from mlflow.models import get_model_info

    folder = trained_once.model_dir("1")
    files = [path for path in folder.rglob("*") if path.is_file()]
    with zipfile.ZipFile(folder / "model.skops") as archive:
        assert "schema.json" in archive.namelist()
        inside = {name: archive.read(name)[:2] for name in archive.namelist()}
    heads = {path.name: path.read_bytes()[:2] for path in files} | inside
    assert not [
        name for name, head in heads.items() if head[:1] == b"\x80" or re.search(r"\.(pkl|pickle|joblib)$", name)
    ]

    info = get_model_info(str(folder))
    assert info.signature.inputs.input_names() == ["text"]
    assert info.signature.outputs is not None


def test_a_machine_without_this_package_can_load_it_and_predict(trained_once: TrainingHome, tmp_path: Path) -> None:
    test = trained_once.datasets.load(trained_once.value("validated_dataset")["version"], "test").head(5)
    texts = (test["title"] + ". " + test["description"]).tolist()
    answer = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", PREDICT, trained_once.settings.tracking_uri, json.dumps(texts)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    import pandas as pd

    expected = trained_once.tracking.load("1").predict(pd.DataFrame({"text": texts}))
    assert json.loads(answer.stdout.splitlines()[-1]) == expected.tolist()


def test_a_run_that_a_kill_left_open_is_closed(trained: TrainingHome) -> None:
    trained.put("tuned_params", params=SMALL)
    client, experiment = trained.client(), trained.tracking.experiment("baselines")
    identity = fingerprint(trained.value("validated_dataset")["version"], SMALL, code_version(), 0)
    killed = client.create_run(experiment, tags={FINGERPRINT_TAG: identity}).info.run_id
    anothers = client.create_run(experiment, tags={FINGERPRINT_TAG: "another"}).info.run_id
    ran = trained.run("trained_model")
    assert ran.metadata("trained_model")["new_version"] is True
    assert client.get_run(killed).info.status == "KILLED"
    assert client.get_run(anothers).info.status == "RUNNING"
    assert client.get_run(trained.value("trained_model")["run_id"]).info.status == "FINISHED"


def test_a_kill_after_the_registration_leaves_a_run_that_reads_as_finished(trained: TrainingHome) -> None:
    client, made = trained.client(), trained.value("trained_model")["run_id"]
    client.update_run(made, status="RUNNING")
    assert trained.run("trained_model").metadata("trained_model")["new_version"] is False
    assert client.get_run(made).info.status == "FINISHED"


def _remove(home: TrainingHome) -> None:
    shutil.rmtree(home.model_dir("1"))


def _truncate(home: TrainingHome) -> None:
    model = home.model_dir("1") / "model.skops"
    model.write_bytes(model.read_bytes()[:5000])


def _delete_run(home: TrainingHome) -> None:
    home.client().delete_run(home.tracking.version("1").run_id)


def _delete_version(home: TrainingHome) -> None:
    home.client().delete_model_version("project-tagger", "1")


@pytest.mark.parametrize("lose", [_remove, _truncate, _delete_run, _delete_version])
def test_a_version_that_is_lost_is_trained_anew_and_then_reused(
    trained: TrainingHome, lose: Callable[[TrainingHome], None]
) -> None:
    lose(trained)
    ran = trained.run("trained_model")
    assert ran.success, ran.failure
    assert ran.metadata("trained_model")["new_version"] is True
    found = trained.tracking.find(trained.value("trained_model")["fingerprint"])
    assert found is not None
    assert found.version == trained.value("trained_model")["version"]
    assert found.run_id == trained.value("trained_model")["run_id"]
    # as the evaluation will
    assert trained.tracking.load(found.version).classes_.size == 4
    trained.tracking.log_evaluation(found.run_id, {"test_accuracy": 0.5}, {})


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"depth": 3}, "Invalid Params: depth=3 (Unexpected keyword argument)."),
        ({"alpha": -1.0}, "Invalid Params: alpha=-1.0 (Input should be greater than 0)."),
        ({**SMALL, "min_df": 1000}, "lower min_df"),
    ],
)
def test_what_cannot_be_trained_is_a_sentence_and_no_version(
    trained: TrainingHome, params: dict[str, Any], says: str
) -> None:
    trained.put("tuned_params", params=params)
    assert says in trained.run("trained_model").failure
    assert len(_versions(trained)) == 1


def test_composed_training_data_is_another_version_that_says_how(trained: TrainingHome) -> None:
    recipe = Recipe("oversample", augment=("title_only",))
    ran = trained.run("trained_model", recipe=recipe)
    told = ran.metadata("trained_model")
    assert (told["model_version"], told["new_version"]) == ("2", True)
    assert told["composition"] == recipe.to_dict()
    by_tag = ran.table("trained_model", "rows_by_tag")
    assert sum(each["after"] for each in by_tag) > told["changed_copies"] > 0
    params = trained.client().get_run(trained.value("trained_model")["run_id"]).data.params
    assert (params["balance"], params["balance_ratio"]) == ("oversample", "1.0")
    assert set(trained.tracking.load("2").classes_) == {each["tag"] for each in by_tag}
    assert trained.run("trained_model", recipe=recipe).metadata("trained_model")["new_version"] is False
    # the defaults are what they were
    assert trained.run("trained_model").metadata("trained_model")["model_version"] == "1"


def _also_trained_on(home: TrainingHome, row: int) -> None:
    """Put a test row into the train split of the snapshot too, as a fault in the cut would."""
    import duckdb

    snapshot, faulty = home.snapshot(), home.home / "faulty.parquet"
    duckdb.sql(
        f"copy (from '{snapshot}' union all select * replace ('train' as split) from '{snapshot}' where id = {row}) "
        f"to '{faulty}' (format parquet)"
    )
    faulty.replace(snapshot)


def test_rows_of_the_evaluation_set_are_not_learnt_and_nothing_is_registered(trained: TrainingHome) -> None:
    row = min(trained.resources["evaluation_sets"].current(EvaluationSet).tags)
    _also_trained_on(trained, row)
    trained.put("tuned_params", params=SMALL)
    said = trained.run("trained_model").failure
    assert f"1 rows of evaluation set 1 are among the training rows, id {row} for one" in said
    assert len(_versions(trained)) == 1
    assert trained.tracking.by_alias(CHALLENGER).version == "1"  # type: ignore[union-attr]


def test_rows_that_move_to_train_by_a_smaller_share_leave_the_evaluation_set_first(trained: TrainingHome) -> None:
    first = trained.resources["evaluation_sets"].current(EvaluationSet)
    assert trained.run("validated_dataset", "trained_model", test_share=0.2).success
    learnt = set(trained.datasets.load(trained.value("validated_dataset")["version"], "train")["id"])
    assert learnt & first.tags.keys()
    assert not learnt & trained.resources["evaluation_sets"].current(EvaluationSet).tags.keys()
    assert len(_versions(trained)) == 2
