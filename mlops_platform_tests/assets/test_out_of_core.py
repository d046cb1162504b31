"""Above the row count the graph trains and judges batch by batch: the same contract, another model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from mlops_platform.assets import evaluation_set
from mlops_platform.ml.classifier import out_of_core
from mlops_platform.ml.evaluation.holdout import EvaluationSet
from mlops_platform.ml.training_data.resampling import Recipe
from mlops_platform.resources.datasets import dataset_store
from mlops_platform_tests.training_graph import LATTER, ROWS, TrainingHome

ABOVE = 100
TRAINING = ("validated_dataset", "tuned_params", *LATTER)


def _ids(path: Path) -> list[int]:
    with duckdb.connect() as connection:
        return [key for (key,) in connection.execute("select id from read_parquet(?)", [str(path)]).fetchall()]


def are_shuffled(ids: Sequence[int]) -> bool:
    digests = [hashlib.md5(b"%d" % each, usedforsecurity=False).hexdigest() for each in ids]
    return digests == sorted(digests)


def test_the_graph_runs_streamed_and_once_for_the_same_rows(fresh: TrainingHome) -> None:
    ran = fresh.run(*TRAINING, stream_above_rows=ABOVE, min_f1=0.1)
    assert ran.success, ran.failure
    assert fresh.value("validated_dataset")["streamed"] is True
    assert are_shuffled(_ids(fresh.snapshot()))
    assert fresh.value("champion_model")["action"] == "promote"
    assert fresh.value("model_evaluation")["overall"]["rows"] == fresh.value("validated_dataset")["test_rows"]
    assert ran.metadata("tuned_params")["sampled_rows"] == fresh.value("validated_dataset")["train_rows"]
    told = ran.metadata("trained_model")
    assert told["params"] == asdict(out_of_core.STREAM)
    assert told["features"] == "TF-IDF of hashed words"
    assert sum(row["rows"] for row in ran.table("trained_model", "rows_by_tag")) == told["train_rows"]
    model = fresh.tracking.load("1")
    assert set(model.predict(pd.DataFrame({"text": ["object detection in images", ""]}))) <= set(model.classes_)

    again = fresh.run(*TRAINING, stream_above_rows=ABOVE, min_f1=0.1)
    assert again.success, again.failure
    assert again.metadata("trained_model")["new_version"] is False
    assert fresh.value("trained_model")["version"] == "1"


def test_the_snapshot_is_the_same_whatever_the_setting(fresh: TrainingHome) -> None:
    before = fresh.run("validated_dataset")
    snapshot = fresh.snapshot()
    assert "streamed" not in fresh.value("validated_dataset")
    assert are_shuffled(_ids(snapshot))
    written = snapshot.stat().st_mtime_ns

    streamed = fresh.run("validated_dataset", stream_above_rows=ABOVE)
    assert streamed.data_version("validated_dataset") == before.data_version("validated_dataset")
    assert fresh.value("validated_dataset")["streamed"] is True
    assert fresh.run("validated_dataset").success
    assert snapshot.stat().st_mtime_ns == written


def test_a_training_that_is_cut_off_leaves_nothing_and_a_damaged_snapshot_is_a_sentence(
    fresh: TrainingHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fresh.run("validated_dataset", "tuned_params", stream_above_rows=ABOVE).success
    with monkeypatch.context() as patched:
        patched.setattr(out_of_core._Learner, "evaluate", lambda *_: 1 / 0)
        assert not fresh.run("trained_model").success
    assert not fresh.client().search_model_versions("name = 'project-tagger'")

    path = fresh.snapshot()
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:1000] + b"\0" * 2000 + whole[3000:]):
        path.write_bytes(damaged)
        assert "is damaged: materialize validated_dataset again" in fresh.run("trained_model").failure
    assert fresh.run("validated_dataset", stream_above_rows=ABOVE).success
    assert fresh.run("trained_model").success
    assert fresh.value("trained_model")["version"] == "1"


def test_streamed_training_weighs_classes_and_ignores_the_rest_of_a_recipe(fresh: TrainingHome) -> None:
    assert fresh.run("validated_dataset", "tuned_params", "trained_model", stream_above_rows=ABOVE).success
    plain = fresh.value("trained_model")["fingerprint"]
    for recipe, same in (
        (Recipe(augment=("title_only",), balance="oversample"), True),
        (Recipe(balance="none"), False),
    ):
        assert fresh.run("trained_model", recipe=recipe).success
        assert (fresh.value("trained_model")["fingerprint"] == plain) == same


def test_the_evaluation_set_is_bounded_and_stays(fresh: TrainingHome, monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluation_set.EVALUATION_ROWS > ROWS
    monkeypatch.setattr(evaluation_set, "EVALUATION_ROWS", 20)
    assert fresh.run(*TRAINING, stream_above_rows=ABOVE, min_f1=0.1).success
    value = fresh.value("model_evaluation")
    assert value["overall"]["rows"] <= 20
    chosen = fresh.resources["evaluation_sets"].current(EvaluationSet)
    assert set(chosen.tags) <= set(fresh.datasets.load(value["dataset_version"], "test")["id"])
    fresh.warehouse.execute(
        "insert into labeled_projects select id + 100000, created_on, title || '!', description, tag "
        "from labeled_projects where id % 3 = 0"
    )
    assert fresh.run(*TRAINING, stream_above_rows=ABOVE, min_f1=0.1).success
    assert fresh.resources["evaluation_sets"].versions() == [1]


def test_a_sample_has_the_shares_and_the_rows_of_the_whole(
    fresh: TrainingHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_store, "_BATCH_ROWS", 16)
    for above in (ABOVE, 10_000):  # shuffled, and by id
        assert fresh.run("validated_dataset", stream_above_rows=above).success
        version = fresh.value("validated_dataset")["version"]
        train, some = fresh.datasets.load(version, "train"), fresh.datasets.sample(version, "train", 60)
        assert 58 <= len(some) <= 62
        counts = fresh.datasets.counts(version, "train")
        assert counts == train["tag"].value_counts().sort_index().to_dict()
        share = some["tag"].value_counts() / len(some)
        assert all(share[tag] == pytest.approx(rows / len(train), abs=0.03) for tag, rows in counts.items())
        pd.testing.assert_frame_equal(some, train[train["id"].isin(some["id"])].reset_index(drop=True))
        pd.testing.assert_frame_equal(fresh.datasets.sample(version, "train", 10_000), train)
        read: list[Any] = list(fresh.datasets.batches(version, "test", ("id",)))
        ids = list(chain.from_iterable(batch.column(0).to_pylist() for batch in read))
        assert sorted(ids) == fresh.datasets.load(version, "test")["id"].tolist()
        wanted = [ids[0], int(train["id"][0]), -1]
        assert fresh.datasets.tags_of(version, wanted, "test").keys() == {ids[0]}
        assert fresh.datasets.tags_of(version, wanted).keys() == {ids[0], int(train["id"][0])}
