"""The holdout set, on which all model versions are compared and which none of them was trained on.

It is chosen from the test split, whose rows never move to train while the test share is constant
(`training_data.splits`), without rows that a compared model was trained on. Storing it belongs in `resources.datasets`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlops_platform.ml.training_data.splits import hash_fractions, stratification_of

UNREPRESENTATIVE = 0.01  # p-value below which the set's class mix is not representative
SMALLEST_PART = 0.5  # least share of the eligible rows; below it, too many newer rows are missing


@dataclass(frozen=True)
class EvaluationSet:
    """A fixed choice of rows.

    Attributes:
        version: Number of the choice, from 1.
        reason: Why it was chosen, in a sentence.
        tags: Tag by id at the time of the choice.
    """

    version: int
    reason: str
    tags: dict[int, str]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return {**asdict(self), "tags": {str(id_): tag for id_, tag in self.tags.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvaluationSet:
        """Build a set from what `to_dict` returned, also after a round trip through JSON."""
        tags = {int(id_): str(tag) for id_, tag in values["tags"].items()}
        return cls(int(values["version"]), str(values["reason"]), tags)


def choose_evaluation_set(
    ids: Sequence[int],
    labels: Sequence[str],
    eligible: Collection[int],
    *,
    rows: int | None = None,
    version: int = 1,
    reason: str = "It is the first one.",
    mix: Mapping[str, int] | None = None,
) -> EvaluationSet:
    """Choose an evaluation set with the class mix of all rows.

    Args:
        ids: n distinct ids of all labeled rows, train and test, or at least of the eligible ones.
        labels: Tag of each row, length n.
        eligible: Ids of the test split that no compared model was trained on; others are never chosen.
        rows: Number of rows, distributed over the tags by their shares, at least one per tag if available, and chosen
            by a hash of the id. By default all eligible rows if their class mix is representative (chi-squared,
            p of 0.01 or more), otherwise as many rows as are eligible.
        version: Version of the new set.
        reason: Why it is chosen.
        mix: Number of all labeled rows by tag; by default those of `labels`.

    Raises:
        ValueError: `rows` is below 1, the lengths differ, an id occurs twice, or no row is eligible.
    """
    if rows is not None and rows < 1:
        raise ValueError(f"rows is {rows}; it must be 1 or more.")
    if len(ids) != len(labels) or len(set(ids)) != len(ids):
        raise ValueError(
            f"There are {len(set(ids))} distinct ids in {len(ids)} and {len(labels)} labels; give as many."
        )
    by_id = {int(id_): str(label) for id_, label in zip(ids, labels, strict=True)}
    candidates = {id_: by_id[id_] for id_ in sorted(map(int, eligible)) if id_ in by_id}
    if not candidates:
        raise ValueError(
            "No row of the test split is new to the compared models: add labeled rows or enlarge the test share "
            "(MLOPS_TEST_SHARE)."
        )
    counts = Counter(mix) if mix is not None else Counter(by_id.values())
    if rows is None and _unrepresentative_mix(candidates, counts) is None:
        return EvaluationSet(version, reason, candidates)
    size, chosen = rows or len(candidates), {}
    for label in sorted(set(candidates.values())):
        members = [id_ for id_, tag in candidates.items() if tag == label]
        by_hash = sorted(zip(hash_fractions(members, "evaluation"), members, strict=True))
        # the tag's share of all rows, not of the test split, which may be uneven by chance
        for _, id_ in by_hash[: max(1, round(size * counts[label] / counts.total()))]:
            chosen[id_] = label
    return EvaluationSet(version, reason, dict(sorted(chosen.items())))


def refresh_reason(
    frozen: EvaluationSet,
    ids: Sequence[int],
    labels: Sequence[str],
    eligible: Collection[int],
    *,
    mix: Mapping[str, int] | None = None,
) -> str | None:
    """Return why the set must be replaced by its next version, in a sentence; None if it is still valid.

    Args:
        frozen: The current set.
        ids: Ids of all labeled rows, or at least of the eligible ones and those of the set.
        labels: Their tags.
        eligible: As for `choose_evaluation_set`.
        mix: As for `choose_evaluation_set`.
    """
    tag_of = {int(id_): str(label) for id_, label in zip(ids, labels, strict=True)}
    if missing := [id_ for id_ in frozen.tags if id_ not in tag_of]:
        return f"{len(missing)} of its {len(frozen.tags)} rows are no longer labeled, id {missing[0]} for one."
    if changed := [id_ for id_, tag in frozen.tags.items() if tag_of[id_] != tag]:
        return f"{len(changed)} of its {len(frozen.tags)} rows carry another tag now, id {changed[0]} for one."
    eligible_ids = {int(id_) for id_ in eligible}
    if trained_on := [id_ for id_ in frozen.tags if id_ not in eligible_ids]:
        return f"{len(trained_on)} of its {len(frozen.tags)} rows are trained on now, id {trained_on[0]} for one."
    if new_tags := sorted({tag_of[id_] for id_ in eligible_ids if id_ in tag_of} - set(frozen.tags.values())):
        return f"It has no row of the tag {', '.join(new_tags)}."
    if fault := _unrepresentative_mix(frozen.tags, Counter(mix) if mix is not None else Counter(tag_of.values())):
        return fault
    if len(frozen.tags) < SMALLEST_PART * len(eligible_ids):
        return f"It has {len(frozen.tags)} rows, less than half of the {len(eligible_ids)} that it could have now."
    return None


def refreshed(
    frozen: EvaluationSet | None,
    ids: Sequence[int],
    labels: Sequence[str],
    eligible: Collection[int],
    *,
    mix: Mapping[str, int] | None = None,
) -> EvaluationSet:
    """Return the current set (None before the first), or the next version if `refresh_reason` requires a new choice.

    Raises:
        ValueError: As in `choose_evaluation_set`.
    """
    if frozen is None:
        return choose_evaluation_set(ids, labels, eligible, mix=mix)
    reason = refresh_reason(frozen, ids, labels, eligible, mix=mix)
    if reason is None:
        return frozen
    chosen = choose_evaluation_set(ids, labels, eligible, version=frozen.version + 1, reason=reason, mix=mix)
    # if the test rows allow no better mix, there must not be a new version every day
    return frozen if chosen.tags == frozen.tags else chosen


def _unrepresentative_mix(chosen: Mapping[int, str], mix: Counter[str]) -> str | None:
    if mix.total() <= len(chosen):
        return None
    inside = Counter(chosen.values())
    result = stratification_of({tag: (rows - inside[tag], inside[tag]) for tag, rows in mix.items()})
    if result.p_value >= UNREPRESENTATIVE:
        return None
    return f"Its class mix departs from that of all rows by up to {result.max_gap:.2f} (p {result.p_value:.2g})."


def check_never_trained_on(frozen: EvaluationSet, trained_on: Iterable[int]) -> None:
    """Raise ValueError if any of the ids of the training rows is in the evaluation set."""
    if shared := sorted(frozen.tags.keys() & {int(id_) for id_ in trained_on}):
        raise ValueError(
            f"{len(shared)} rows of evaluation set {frozen.version} are among the training rows, id {shared[0]} for"
            " one: a score on them is meaningless. Train on the train split only."
        )
