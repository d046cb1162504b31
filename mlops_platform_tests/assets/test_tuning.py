"""The search: what its run config is called, what it resumes, and what its data version stands for."""

from __future__ import annotations

import pytest

from mlops_platform.assets.tuning import build_tuning_asset
from mlops_platform_tests.training_graph import TrainingHome


def _finished(home: TrainingHome, study: str) -> int:
    return sum(trial.state.is_finished() for trial in home.studies.open(study).get_trials())


def test_run_config_has_the_names_and_defaults_of_the_lesson() -> None:
    schema = build_tuning_asset(7).op.config_schema.config_type
    defaults = {name: field.default_value for name, field in schema.fields.items()}  # type: ignore[union-attr]
    assert defaults == {"study_name": "optimization", "num_trials": 7, "seed": 0}


def test_a_study_persists_and_is_continued(fresh: TrainingHome) -> None:
    two, three = ({"tuned_params": {"study_name": "lesson", "num_trials": n}} for n in (2, 3))
    first = fresh.run("validated_dataset", "tuned_params", config=two)
    shown = first.metadata("tuned_params")
    assert (shown["study"], shown["trials"], shown["trials_run_now"]) == ("lesson", 2, 2)
    assert _finished(fresh, "lesson") == 2
    assert _finished(fresh, "optimization") == 0

    again = fresh.run("tuned_params", config=two)
    assert again.metadata("tuned_params")["trials_run_now"] == 0
    assert again.data_version("tuned_params") == first.data_version("tuned_params")

    more = fresh.run("tuned_params", config=three).metadata("tuned_params")
    assert (more["trials"], more["trials_run_now"]) == (3, 1)
    assert _finished(fresh, "lesson") == 3


def test_the_value_is_what_the_study_found_best(trained: TrainingHome) -> None:
    shown, value = trained.run("tuned_params").metadata("tuned_params"), trained.value("tuned_params")
    (trial,) = trained.studies.open("optimization").get_trials()
    assert value["params"] == shown["params"] == trial.user_attrs["params"]
    assert value["score"] == pytest.approx(trial.value)
    assert 0.5 < value["score"] < 1
    assert value["dataset_version"] == trained.value("validated_dataset")["version"]
    assert shown["cv_f1_weighted"] == pytest.approx(value["score"], abs=1e-4)
    assert shown["cv_f1_weighted"] >= shown["default_cv_f1_weighted"]
    assert "data:image/png;base64," in shown["history"]
    assert shown["choice"].startswith("The default is kept: the best trial gains 0.0000 F1")
    assert shown["folds_saved_by_pruning"] == 0


def test_the_data_version_covers_the_dataset_though_the_params_agree(trained: TrainingHome) -> None:
    before, value = trained.run("tuned_params").data_version("tuned_params"), trained.value("tuned_params")
    # the best of the first dataset is the default, so one trial on the second has the same params
    trained.warehouse.execute("delete from labeled_projects where id = (select min(id) from labeled_projects)")
    ran = trained.run("validated_dataset", "tuned_params")
    assert ran.metadata("tuned_params")["trials_run_now"] == 1
    assert trained.value("tuned_params")["params"] == value["params"]
    assert ran.data_version("tuned_params") != before


def test_the_data_version_covers_the_params_though_the_dataset_agrees(
    trained: TrainingHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlops_platform.ml.tuning import significance

    before = trained.run("tuned_params").data_version("tuned_params")
    # with every gain confirmed, the better of two trials is chosen instead of the default
    sure = significance.Confirmation(difference=0.1, low=0.05, high=0.15, folds=20)
    monkeypatch.setattr("mlops_platform.ml.tuning.search.confirm", lambda *_, **__: sure)
    study = trained.studies.open("optimization")
    (done,) = study.get_trials()
    import optuna

    better = optuna.trial.create_trial(
        value=0.999,
        intermediate_values=dict.fromkeys(range(5), 0.999),
        user_attrs={
            **done.user_attrs,
            "source": "sampled",
            "params": {**done.user_attrs["params"], "char_ngram_max": 3},
            "fold_scores": [0.999] * 5,
        },
    )
    study.add_trial(better)
    ran = trained.run("tuned_params", config={"tuned_params": {"num_trials": 2}})
    assert ran.metadata("tuned_params")["trials_run_now"] == 0
    assert trained.value("tuned_params")["params"]["char_ngram_max"] == 3
    assert ran.metadata("tuned_params")["choice"].startswith("The tuned parameters are taken")
    assert ran.data_version("tuned_params") != before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("delete from labeled_projects where tag <> 'mlops'", "needs two tags or more"),
        ("update labeled_projects set tag = 'rare' where id = 101", "Too few rows have the tag 'rare'"),
    ],
)
def test_too_little_to_learn_from_is_a_sentence(fresh: TrainingHome, change: str, says: str) -> None:
    fresh.warehouse.execute(change)
    # every row but a few trains, so that the rare one does
    assert fresh.run("validated_dataset", test_share=0.01).success
    assert says in fresh.run("tuned_params").failure


def test_a_damaged_snapshot_is_a_sentence(trained: TrainingHome) -> None:
    trained.snapshot().write_bytes(b"")
    assert "is damaged: materialize validated_dataset again" in trained.run("tuned_params").failure
