"""The judgement: figures that scikit-learn confirms, a comparison on the same rows, pictures, and sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from mlops_platform.ml.evaluation.holdout import EvaluationSet
from mlops_platform_tests.training_graph import SMALL, TrainingHome


def _test_rows(home: TrainingHome) -> tuple[Any, list[str]]:
    from mlops_platform.ml.classifier import text_classifier

    test = home.datasets.load(home.value("validated_dataset")["version"], "test")
    return text_classifier.frame(test["title"], test["description"]), test["tag"].tolist()


def test_the_figures_are_those_of_scikit_learn_on_the_test_split(trained_once: TrainingHome) -> None:
    value = trained_once.value("model_evaluation")
    frame, labels = _test_rows(trained_once)
    model = trained_once.tracking.load("1")
    predicted, overall = model.predict(frame), value["overall"]
    assert overall["rows"] == len(labels) == trained_once.value("validated_dataset")["test_rows"]
    assert overall["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert overall["f1_weighted"] == pytest.approx(f1_score(labels, predicted, average="weighted"))
    assert overall["f1_macro"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert overall["log_loss"] == pytest.approx(log_loss(labels, model.predict_proba(frame), labels=model.classes_))
    most = max(set(labels), key=labels.count)
    majority = f1_score(labels, [most] * len(labels), average="weighted", zero_division=0)
    assert overall["f1_weighted_of_majority"] == pytest.approx(majority)
    per_class = f1_score(labels, predicted, average=None, labels=model.classes_)
    assert [value["per_class"][name]["f1"] for name in model.classes_] == pytest.approx(list(per_class))
    assert np.array(value["confusion"]).sum() == len(labels)
    assert np.trace(value["confusion"]) == sum(np.array(labels) == predicted)


def test_the_value_has_what_the_checks_and_the_promotion_read(trained_once: TrainingHome) -> None:
    # read back from JSON, so all of it is JSON-able
    value, model = trained_once.value("model_evaluation"), trained_once.value("trained_model")
    assert value.keys() >= {"overall", "per_class", "slices", "calibration", "confusion", "classes"}
    assert {name: value[name] for name in ("version", "fingerprint", "dataset_version", "comparison")} == {
        "version": "1",
        "fingerprint": model["fingerprint"],
        "dataset_version": model["dataset_version"],
        "comparison": None,
    }


def test_another_champion_is_compared_on_the_same_rows(trained: TrainingHome) -> None:
    trained.put("tuned_params", params=SMALL)
    ran = trained.run("trained_model", "model_evaluation")
    frame, labels = _test_rows(trained)
    scores = [f1_score(labels, trained.tracking.load(v).predict(frame), average="weighted") for v in ("2", "1")]
    comparison = trained.value("model_evaluation")["comparison"]
    assert trained.value("model_evaluation")["version"] == "2"
    assert comparison["champion"] == "1"
    assert comparison["rows"] == len(labels)
    assert scores[0] != scores[1]
    assert comparison["value"] == pytest.approx(scores[0] - scores[1])
    assert comparison["low"] < comparison["value"] < comparison["high"]
    assert ran.metadata("model_evaluation")["against_champion"] == comparison


def test_the_champion_is_not_compared_with_itself(trained: TrainingHome) -> None:
    before = trained.value("model_evaluation")
    ran = trained.run("model_evaluation")
    assert trained.value("model_evaluation") == before
    assert ran.metadata("model_evaluation")["against_champion"] == "no other champion"


def test_a_champion_that_cannot_be_loaded_is_said_so(trained: TrainingHome) -> None:
    trained.put("tuned_params", params=SMALL)
    (trained.model_dir("1") / "model.skops").unlink()
    assert trained.run("trained_model", "model_evaluation").success
    comparison = trained.value("model_evaluation")["comparison"]
    assert comparison.keys() == {"champion", "unreadable"}
    assert "Version 1 of model project-tagger cannot be loaded" in comparison["unreadable"]


def test_the_ui_and_mlflow_have_the_figures_and_the_pictures(trained: TrainingHome) -> None:
    client, run_id = trained.client(), trained.value("trained_model")["run_id"]
    ran = trained.run("model_evaluation")
    shown, overall = ran.metadata("model_evaluation"), trained.value("model_evaluation")["overall"]
    for picture in ("confusion_matrix", "per_class_bars", "calibration"):
        assert "data:image/png;base64," in shown[picture], picture
    assert shown["weighted_f1"] == pytest.approx(overall["f1_weighted"], abs=1e-4)
    assert {each["tag"] for each in ran.table("model_evaluation", "per_class")} == set(
        trained.value("model_evaluation")["classes"]
    )
    logged = client.get_run(run_id).data.metrics
    assert {name: each for name, each in logged.items() if name.startswith("test_")} == {
        f"test_{name}": each for name, each in overall.items()
    }
    # a repetition overwrites, it does not append
    assert {each.step for each in client.get_metric_history(run_id, "test_f1_weighted")} == {0}
    pictures = {each.path for each in client.list_artifacts(run_id)}
    assert pictures >= {"confusion_matrix.png", "per_class.png", "calibration.png"}


def test_the_data_version_is_of_model_and_rows_not_of_the_champion(trained: TrainingHome) -> None:
    trained.put("tuned_params", params=SMALL)
    beside_another = trained.run("trained_model", "model_evaluation").data_version("model_evaluation")
    trained.tracking.set_alias("champion", "2", {})
    assert trained.run("model_evaluation").data_version("model_evaluation") == beside_another
    trained.tracking.set_alias("champion", "1", {})
    trained.put("trained_model", fingerprint="another", version="1")
    assert trained.run("model_evaluation").data_version("model_evaluation") != beside_another


def test_an_empty_test_split_is_a_sentence(trained: TrainingHome) -> None:
    ids = trained.datasets.load(trained.value("validated_dataset")["version"], "test")["id"].tolist()
    trained.warehouse.execute(f"delete from labeled_projects where id in ({', '.join(map(str, ids))})")
    assert trained.run("validated_dataset").success
    assert trained.value("validated_dataset")["test_rows"] == 0
    assert "test split is empty" in trained.run("model_evaluation").failure


def test_a_version_without_its_files_is_a_sentence(trained: TrainingHome) -> None:
    (trained.model_dir("1") / "model.skops").write_bytes(b"")
    assert "Version 1 of model project-tagger cannot be loaded" in trained.run("model_evaluation").failure


def test_the_evaluation_set_stays_while_rows_come_and_is_refreshed_by_rule(trained: TrainingHome) -> None:
    store = trained.resources["evaluation_sets"]
    first = store.current(EvaluationSet)
    assert first.version == 1
    assert len(first.tags) == trained.value("validated_dataset")["test_rows"]
    more = (
        "insert into labeled_projects select id + {0}, created_on, title || ' again', description, tag "
        "from labeled_projects where id < 100000"
    )
    # a few more rows than a third stay out, twice as many are taken in
    trained.warehouse.execute(more.format(100000) + " order by id limit 90")
    assert trained.run("validated_dataset", "trained_model", "model_evaluation").success
    assert trained.value("model_evaluation")["evaluation_set"] == 1
    assert trained.value("model_evaluation")["overall"]["rows"] == len(first.tags)
    for shift in (200000, 300000):
        trained.warehouse.execute(more.format(shift))
    ran = trained.run("validated_dataset", "trained_model", "model_evaluation")
    assert "version 2: It has" in ran.metadata("model_evaluation")["evaluation_set"]
    assert store.versions() == [1, 2]
    assert store.read(1, EvaluationSet) == first
    train = set(trained.datasets.load(trained.value("validated_dataset")["version"], "train")["id"])
    assert not train & store.current(EvaluationSet).tags.keys()
    store.path(2).write_text("{", encoding="utf-8")
    assert "is damaged: restore it from a backup" in trained.run("model_evaluation").failure


def test_rows_that_a_model_has_learnt_are_no_test_rows_though_the_share_grew(trained: TrainingHome) -> None:
    learnt = set(trained.datasets.load(trained.value("validated_dataset")["version"], "train")["id"])
    assert trained.run("validated_dataset", test_share=0.8).success
    assert trained.run("model_evaluation").success
    assert not learnt & trained.resources["evaluation_sets"].current(EvaluationSet).tags.keys()


def test_figures_over_time_are_beside_the_champions(trained: TrainingHome) -> None:
    trained.put("tuned_params", params=SMALL)
    ran = trained.run("trained_model", "model_evaluation")
    periods = ran.table("model_evaluation", "periods")
    assert sum(each["rows"] for each in periods) == trained.value("model_evaluation")["overall"]["rows"]
    assert all(each["champion_f1"] is not None for each in periods)
    assert ran.metadata("model_evaluation")["over_time"].startswith("![")
