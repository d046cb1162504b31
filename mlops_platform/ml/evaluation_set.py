"""The frozen evaluation set: rows on which models of all times are compared, and which none was trained on.

It is chosen from the test split, whose rows never move to train (`ml.splits`), so no version of it can meet a row
that an earlier model has learnt. Once chosen it is stored and read, not computed anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mlops_platform.ml.splits import assign_splits, hash_fractions, stratification

UNREPRESENTATIVE = 0.01  # p-value below which the set's class mix is no fair picture of the rows any more


@dataclass(frozen=True)
class EvaluationSet:
    """A frozen choice of rows.

    Attributes:
        version: Counts the choices, from 1.
        test_share: Of the split that the rows were chosen from.
        tags: Tag by id, as of the choice.
    """

    version: int
    test_share: float
    tags: dict[int, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the set as JSON-able values."""
        return {**asdict(self), "tags": {str(each): tag for each, tag in self.tags.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvaluationSet:
        """Make a set from what `to_dict` returned, also after a way through JSON."""
        tags = {int(each): str(tag) for each, tag in values["tags"].items()}
        return cls(int(values["version"]), float(values["test_share"]), tags)


def choose_evaluation_set(
    ids: Sequence[int], labels: Sequence[str], *, test_share: float, rows: int, version: int = 1
) -> EvaluationSet:
    """Choose the evaluation set: of each tag its share of `rows`, by a hash of id and version.

    Args:
        ids: n distinct ids of all labeled rows, train and test.
        labels: Tag of each, length n.
        test_share: That of the splits; a row outside the test split is never chosen.
        rows: Rows wanted; each tag of the test split gets one at least, and fewer come where a tag's test rows are
            fewer.
        version: Another version draws anew.

    Raises:
        ValueError: `rows` is below 1, the lengths differ, an id occurs twice, or no row is in the test split.
    """
    if rows < 1:
        raise ValueError(f"rows is {rows}; it must be 1 or more.")
    if len(ids) != len(labels) or len(set(ids)) != len(ids):
        raise ValueError(
            f"There are {len(set(ids))} distinct ids in {len(ids)} and {len(labels)} labels; give as many."
        )
    splits = assign_splits(ids, test_share)
    test: dict[str, list[int]] = {}
    for each, label, split in zip(ids, labels, splits, strict=True):
        if split == "test":
            test.setdefault(str(label), []).append(int(each))
    if not test:
        raise ValueError("No labeled row is in the test split: add rows or enlarge the test share.")
    counts, chosen = Counter(map(str, labels)), {}
    for label, members in sorted(test.items()):
        drawn = sorted(zip(hash_fractions(members, f"evaluation {version}"), members, strict=True))
        # the tag's share of all rows, not of the test split, which chance may have cut unevenly
        for _, each in drawn[: max(1, round(rows * counts[label] / len(labels)))]:
            chosen[each] = label
    return EvaluationSet(version, test_share, dict(sorted(chosen.items())))


def refresh_reason(frozen: EvaluationSet, ids: Sequence[int], labels: Sequence[str]) -> str | None:
    """Say why a set should be chosen anew, with the next version, or None if it still serves.

    Args:
        frozen: The set in use.
        ids: Ids of all labeled rows of today.
        labels: Their tags, as many.

    Returns:
        A sentence: rows of the set are gone or carry another tag, a tag is new, or the class mix of the set
        is no fair picture of the rows any more (chi-squared, p below .01).
    """
    now = {int(each): str(label) for each, label in zip(ids, labels, strict=True)}
    if gone := [each for each in frozen.tags if each not in now]:
        return f"{len(gone)} of its {len(frozen.tags)} rows are no longer labeled, id {gone[0]} for one."
    if changed := [each for each, tag in frozen.tags.items() if now[each] != tag]:
        return f"{len(changed)} of its {len(frozen.tags)} rows carry another tag now, id {changed[0]} for one."
    test = assign_splits(now, frozen.test_share) == "test"
    fresh = sorted({tag for tag, held in zip(now.values(), test, strict=True) if held} - set(frozen.tags.values()))
    if fresh:
        return f"It has no row of the tag {', '.join(fresh)}."
    if len(now) > len(frozen.tags):
        inside = ["test" if each in frozen.tags else "train" for each in now]
        mix = stratification(np.array(list(now.values())), inside)
        if mix.p_value < UNREPRESENTATIVE:
            return f"Its class mix departs from that of all rows by up to {mix.max_gap:.2f} (p {mix.p_value:.2g})."
    return None


def check_never_trained_on(frozen: EvaluationSet, trained_on: Iterable[int]) -> None:
    """Refuse training rows of which one is in the evaluation set.

    Args:
        frozen: The set.
        trained_on: Ids of the rows to be trained on; copies of a row carry its id.

    Raises:
        ValueError: A row is in both.
    """
    if both := sorted(frozen.tags.keys() & {int(each) for each in trained_on}):
        raise ValueError(
            f"{len(both)} rows of evaluation set {frozen.version} are among the training rows, id {both[0]} for one:"
            " a score on them says nothing. Train on the train split only."
        )
