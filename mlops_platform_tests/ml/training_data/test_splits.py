"""Splits by a hash of the id, in Python and in SQL."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.ml.training_data.splits import assign_splits, hash_fractions, stratification_of
from mlops_platform.resources.warehouse.split_sql import split_sql
from mlops_platform_tests.ml.corpus import real

BIGINT = st.integers(min_value=-(2**63), max_value=2**63 - 1)
SHARE = st.floats(min_value=0.001, max_value=0.999)


def test_known_ids_never_move() -> None:
    # md5("1") = c4ca4238..., md5("3") = eccbc87e..., md5("6") = 1679091c..., md5("12") = c20ad4d7...
    assert assign_splits([1, 3, 6, 12], 0.2).tolist() == ["train", "train", "test", "train"]
    assert assign_splits([12], 0.76).tolist() == ["test"]
    assert assign_splits([12], 0.75).tolist() == ["train"]


def test_another_process_agrees() -> None:
    code = "from mlops_platform.ml.training_data.splits import assign_splits; print(*assign_splits(range(200), .3))"
    other = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": "7"}
    )
    assert other.stdout.split() == assign_splits(range(200), 0.3).tolist()


@settings(max_examples=30, deadline=None)
@given(st.lists(BIGINT, min_size=1, max_size=50), SHARE)
def test_sql_and_python_agree(ids: list[int], share: float) -> None:
    with duckdb.connect() as connection:
        connection.execute('CREATE TABLE t AS SELECT unnest($ids::BIGINT[]) AS "the id"', {"ids": ids})
        rows = connection.execute(f"SELECT {split_sql('the id', share)} FROM t").fetchall()
    assert [row[0] for row in rows] == assign_splits(ids, share).tolist()


@given(st.lists(BIGINT, unique=True), st.lists(BIGINT, unique=True), SHARE)
def test_more_rows_and_a_larger_share_move_nothing_back(old: list[int], new: list[int], share: float) -> None:
    before = assign_splits(old, share)
    assert assign_splits(old + new, share)[: len(old)].tolist() == before.tolist()
    larger = assign_splits(old, min(share * 1.3, 0.9999))
    assert not ((before == "test") & (larger == "train")).any()


def test_the_share_is_met() -> None:
    assert (assign_splits(range(20_000), 0.2) == "test").mean() == pytest.approx(0.2, abs=0.01)


def test_fractions_are_even_stay_and_are_independent_of_the_split() -> None:
    drawn = hash_fractions(range(20_000), "a")
    np.testing.assert_allclose(np.histogram(drawn, 10, (0, 1))[0] / 20_000, 0.1, atol=0.01)
    assert hash_fractions([5, 3], "a").tolist() == [drawn[5], drawn[3]]
    assert drawn[drawn < 1].shape == drawn.shape
    assert abs(np.corrcoef(drawn, hash_fractions(range(20_000), "b"))[0, 1]) < 0.03
    assert drawn[assign_splits(range(20_000), 0.2) == "test"].mean() == pytest.approx(0.5, abs=0.02)
    assert drawn[1] == pytest.approx(int(hashlib.md5(b"a:1").hexdigest()[:8], 16) / 16**8, abs=1e-9)  # noqa: S324


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="test_share"):
        assign_splits([1], share)
    with pytest.raises(ValueError, match="test_share"):
        split_sql("id", share)


def test_stratification_sees_a_fair_and_an_unfair_split() -> None:
    fair = stratification_of({"a": (480, 120), "b": (240, 60), "c": (80, 20)})
    assert fair.p_value == pytest.approx(1.0)
    assert fair.max_gap == pytest.approx(0.0)
    assert fair.classes["b"]["test_rows"] == 60
    assert fair.classes["b"]["whole_share"] == pytest.approx(0.3)
    unfair = stratification_of({"a": (400, 200), "b": (300, 0), "c": (100, 0)})
    assert unfair.p_value < 1e-6
    assert unfair.max_gap == pytest.approx(0.4)
    assert unfair.classes["c"]["test_share"] == 0.0


def test_stratification_of_one_class_and_of_an_empty_split() -> None:
    assert stratification_of({"a": (1, 1)}).p_value == 1.0
    with pytest.raises(ValueError, match="test split 0"):
        stratification_of({"a": (1, 0), "b": (1, 0)})


def test_the_real_data_splits_fairly() -> None:
    ids, _, tags = real()
    splits = assign_splits(ids, 0.2)
    train, test = (Counter(np.array(tags)[splits == split]) for split in ("train", "test"))
    assert stratification_of({tag: (train[tag], test[tag]) for tag in set(tags)}).p_value > 0.05
