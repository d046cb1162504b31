"""Labels of several people come to one."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.ml.labeling.label_votes import COLUMNS, Resolution, resolve

START = datetime(2026, 1, 1, tzinfo=UTC)


def _frame(*rows: tuple[Any, ...]) -> pd.DataFrame:
    """Rows of id, tag, minute (None for none) and person (None for the tags source)."""
    return pd.DataFrame(
        [
            (i, tag, None if minute is None else START + timedelta(minutes=minute), by, "people" if by else "tags")
            for i, tag, minute, by in rows
        ],
        columns=list(COLUMNS),
    )


def _tags(found: Resolution) -> dict[int, str]:
    return dict(zip(found.labels["id"], found.labels["tag"], strict=True))


def test_the_latest_label_of_each_person_counts() -> None:
    found = resolve(_frame((1, "nlp", 1, "ann"), (1, "mlops", 2, "ann"), (1, "nlp", 0, "ann")))
    assert _tags(found) == {1: "mlops"}
    assert found.labels["votes"].tolist() == [1]
    assert found.conflict_count == 0
    assert found.conflicts.empty


def test_the_majority_wins_over_the_latest() -> None:
    found = resolve(_frame((1, "nlp", 1, "ann"), (1, "nlp", 2, "bob"), (1, "mlops", 9, "cy")))
    assert _tags(found) == {1: "nlp"}
    assert found.labels.iloc[0][["votes", "voters", "conflict"]].tolist() == [2, 3, True]
    assert found.labels.iloc[0]["labeled_at"] == START + timedelta(minutes=2)
    assert found.conflicts[["labeled_by", "tag", "won"]].values.tolist() == [
        ["ann", "nlp", True],
        ["bob", "nlp", True],
        ["cy", "mlops", False],
    ]


def test_a_tie_goes_to_the_latest_and_a_person_beats_the_source() -> None:
    assert _tags(resolve(_frame((1, "nlp", 5, "ann"), (1, "mlops", 3, "bob")))) == {1: "nlp"}
    assert _tags(resolve(_frame((1, "nlp", 5, "ann"), (1, "mlops", None, None)))) == {1: "nlp"}
    assert _tags(resolve(_frame((1, "b", 5, "ann"), (1, "a", 5, "bob")))) == {1: "a"}


def test_a_label_taken_back_counts_no_more() -> None:
    taken = (1, None, 6, "ann")
    assert _tags(resolve(_frame((1, "nlp", 5, "ann"), (1, "mlops", None, None), taken))) == {1: "mlops"}
    alone = resolve(_frame((1, "nlp", 5, "ann"), taken, (2, "nlp", 1, "bob")))
    assert _tags(alone) == {2: "nlp"}
    assert alone.undone == [1]
    assert _tags(resolve(_frame((1, "nlp", 5, "ann"), taken, (1, "cv", 7, "ann")))) == {1: "cv"}
    assert resolve(_frame((1, " ", 5, "ann"))).undone == [1]


def test_one_person_under_two_sources_is_one_voter() -> None:
    labels = _frame((1, "nlp", 1, "ann"), (1, "nlp", 2, " ann "), (1, "mlops", 3, "bob"))
    labels.loc[1, "source"] = "import"
    assert _tags(resolve(labels)) == {1: "mlops"}


def test_times_as_texts_and_with_and_without_a_zone() -> None:
    labels = _frame((1, "a", 0, "ann"), (1, "b", 0, "bob"), (1, "c", 0, "cy"))
    labels["labeled_at"] = ["2026-01-01T10:00:00+02:00", "2026-01-01 09:00:00", "2026-01-01T08:30:00Z"]
    assert _tags(resolve(labels)) == {1: "b"}
    labels["labeled_at"] = ["yesterday-ish", None, None]
    with pytest.raises(ValueError, match=r"A labeled_at is not a time.*yesterday-ish"):
        resolve(labels)


def test_no_labels_and_bad_ones() -> None:
    found = resolve(_frame())
    assert found.labels.columns.tolist() == ["id", "tag", "labeled_at", "votes", "voters", "conflict"]
    assert (len(found.labels), len(found.conflicts), found.undone, found.conflict_count) == (0, 0, [], 0)
    assert resolve(_frame((1, None, 1, "ann"))).undone == [1]
    with pytest.raises(ValueError, match="no column labeled_at, source"):
        resolve(pd.DataFrame({"id": [1], "tag": ["a"], "labeled_by": ["ann"]}))
    with pytest.raises(ValueError, match="1 labels have no id"):
        resolve(_frame((None, "a", 1, "ann"), (1, "a", 1, "ann")))


LABELS = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from(["a", "b", "c", None]),
        st.one_of(st.none(), st.integers(0, 5)),
        st.sampled_from(["ann", "bob", "cy", None]),
    ),
    max_size=20,
)


def _plain(rows: list[tuple[Any, ...]]) -> dict[int, str]:
    """The rule as it is told, row by row."""
    order = sorted(rows, key=lambda row: (-1 if row[2] is None else row[2], row[1] or ""))
    result = {}
    for i in {row[0] for row in rows}:
        latest = {by: (tag, -1 if at is None else at) for row_id, tag, at, by in order if row_id == i}
        standing = [(tag, at) for tag, at in latest.values() if tag]
        votes = Counter(tag for tag, _ in standing)
        last = {tag: max(at for other, at in standing if other == tag) for tag in votes}
        if votes:
            result[i] = min(votes, key=lambda tag: (-votes[tag], -last[tag], tag))
    return result


@settings(max_examples=50, deadline=None)
@given(LABELS, st.randoms(use_true_random=False))
def test_the_rule_holds_in_any_order(rows: list[tuple[Any, ...]], draw: Any) -> None:
    found = resolve(_frame(*rows))
    assert _tags(found) == _plain(rows)
    shuffled = list(rows)
    draw.shuffle(shuffled)
    again = resolve(_frame(*shuffled))
    pd.testing.assert_frame_equal(again.labels, found.labels)
    pd.testing.assert_frame_equal(again.conflicts, found.conflicts)
    # no row is lost: each is labeled or undone, and each conflict is listed whole
    assert sorted([*found.labels["id"], *found.undone]) == sorted({row[0] for row in rows})
    disputed = found.labels[found.labels["conflict"]]
    assert len(found.conflicts) == disputed["voters"].sum()
    assert found.conflicts["won"].sum() == disputed["votes"].sum()
    # what was resolved is resolved
    agreed = found.labels[["id", "tag", "labeled_at"]].assign(labeled_by="all", source="people")
    assert _tags(resolve(agreed)) == _tags(found)
