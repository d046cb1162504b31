"""The holdout set, on which all model versions are compared and which none of them was trained on.

It is chosen from the test split, whose rows never move to train while the test share is constant
(`training_data.splits`), without rows that a compared model was trained on. Storing it belongs in `resources.datasets`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
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
    tags: Mapping[int, str],
    eligible: Collection[int],
    mix: Mapping[str, int],
    *,
    version: int = 1,
    reason: str = "It is the first one.",
) -> EvaluationSet:
    """Choose an evaluation set with the class mix of all rows.

    All eligible rows are chosen if their class mix is representative (chi-squared, p of 0.01 or more). Otherwise their
    number is distributed over the tags by their shares, at least one per tag, and rows are chosen by a hash of the id.

    Args:
        tags: Tag by id of the labeled rows, or at least of the eligible ones.
        eligible: Ids of the test split that no compared model was trained on; others are never chosen.
        mix: Number of all labeled rows by tag, train and test.
        version: Version of the new set.
        reason: Why it is chosen.

    Raises:
        ValueError: No row is eligible.
    """
    candidates = {id_: tags[id_] for id_ in sorted(eligible) if id_ in tags}
    if not candidates:
        raise ValueError(
            "No row of the test split is new to the compared models: add labeled rows or enlarge the test share "
            "(MLOPS_TEST_SHARE)."
        )
    if _unrepresentative_mix(candidates, mix) is None:
        return EvaluationSet(version, reason, candidates)
    total, chosen = sum(mix.values()), {}
    for tag in sorted(set(candidates.values())):
        members = [id_ for id_, other in candidates.items() if other == tag]
        by_hash = sorted(zip(hash_fractions(members, "evaluation"), members, strict=True))
        # the tag's share of all rows, not of the test split, which may be uneven by chance
        for _, id_ in by_hash[: max(1, round(len(candidates) * mix[tag] / total))]:
            chosen[id_] = tag
    return EvaluationSet(version, reason, dict(sorted(chosen.items())))


def refresh_reason(
    current: EvaluationSet, tags: Mapping[int, str], eligible: Collection[int], mix: Mapping[str, int]
) -> str | None:
    """Return why the set must be replaced by its next version, in a sentence; None if it is still valid.

    Args:
        current: The current set.
        tags: As for `choose_evaluation_set`, with the labeled rows of the set.
        eligible: As for `choose_evaluation_set`.
        mix: As for `choose_evaluation_set`.
    """
    rows, eligible_ids = len(current.tags), set(eligible)
    if missing := [id_ for id_ in current.tags if id_ not in tags]:
        return f"{len(missing)} of its {rows} rows are no longer labeled, id {missing[0]} for one."
    if changed := [id_ for id_, tag in current.tags.items() if tags[id_] != tag]:
        return f"{len(changed)} of its {rows} rows carry another tag now, id {changed[0]} for one."
    if trained_on := [id_ for id_ in current.tags if id_ not in eligible_ids]:
        return f"{len(trained_on)} of its {rows} rows are trained on now, id {trained_on[0]} for one."
    if new_tags := sorted({tags[id_] for id_ in eligible_ids if id_ in tags} - set(current.tags.values())):
        return f"It has no row of the tag {', '.join(new_tags)}."
    if fault := _unrepresentative_mix(current.tags, mix):
        return fault
    if rows < SMALLEST_PART * len(eligible_ids):
        return f"It has {rows} rows, less than half of the {len(eligible_ids)} that it could have now."
    return None


def refreshed(
    current: EvaluationSet | None, tags: Mapping[int, str], eligible: Collection[int], mix: Mapping[str, int]
) -> EvaluationSet:
    """Return the current set (None before the first), or the next version if `refresh_reason` requires a new choice.

    Raises:
        ValueError: As in `choose_evaluation_set`.
    """
    if current is None:
        return choose_evaluation_set(tags, eligible, mix)
    reason = refresh_reason(current, tags, eligible, mix)
    if reason is None:
        return current
    chosen = choose_evaluation_set(tags, eligible, mix, version=current.version + 1, reason=reason)
    # if the test rows allow no better mix, there must not be a new version every day
    return current if chosen.tags == current.tags else chosen


def _unrepresentative_mix(chosen: Mapping[int, str], mix: Mapping[str, int]) -> str | None:
    if sum(mix.values()) <= len(chosen):
        return None
    inside = Counter(chosen.values())
    result = stratification_of({tag: (rows - inside[tag], inside[tag]) for tag, rows in mix.items()})
    if result.p_value >= UNREPRESENTATIVE:
        return None
    return f"Its class mix departs from that of all rows by up to {result.max_gap:.2f} (p {result.p_value:.2g})."


def check_never_trained_on(evaluation_set: EvaluationSet, trained_on: Iterable[int]) -> None:
    """Raise ValueError if any of the ids of the training rows is in the evaluation set."""
    if shared := sorted(evaluation_set.tags.keys() & set(trained_on)):
        raise ValueError(
            f"{len(shared)} rows of evaluation set {evaluation_set.version} are among the training rows, id {shared[0]}"
            " for one: a score on them is meaningless. Train on the train split only."
        )
