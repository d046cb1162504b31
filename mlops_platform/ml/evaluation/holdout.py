"""The frozen evaluation set: rows on which models of all times are compared, and which none was trained on.

It is chosen from the test split, whose rows don't move to train while the share of the split stays (`ml.splits`), less
the rows that a model in question has learnt nevertheless. Once chosen it is stored and read, not computed anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlops_platform.ml.training_data.splits import hash_fractions, stratification_of

UNREPRESENTATIVE = 0.01  # p-value below which the set's class mix is no fair picture of the rows any more
SMALLEST_PART = 0.5  # of the rows that can be chosen; below it, the newer rows are too many to stay out


@dataclass(frozen=True)
class EvaluationSet:
    """A frozen choice of rows.

    Attributes:
        version: Counts the choices, from 1.
        reason: Why it was chosen, in a sentence.
        tags: Tag by id, as of the choice.
    """

    version: int
    reason: str
    tags: dict[int, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the set as JSON-able values."""
        return {**asdict(self), "tags": {str(each): tag for each, tag in self.tags.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvaluationSet:
        """Make a set from what `to_dict` returned, also after a way through JSON."""
        tags = {int(each): str(tag) for each, tag in values["tags"].items()}
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
    """Choose the evaluation set: as many rows as keep the class mix of all rows.

    Args:
        ids: n distinct ids of all labeled rows, train and test, or of those that may come into question.
        labels: Tag of each, length n.
        eligible: Ids of the test split that no model in question was trained on; others are never chosen.
        rows: Rows wanted, each tag its share of them, by a hash of the id; a tag gets one at least, and fewer come
            where its rows are fewer. By default all eligible rows if their class mix is a fair picture of all rows
            (chi-squared, p of .01 or more), and else as many are wanted as are eligible.
        version: Of the new set.
        reason: Why it is chosen.
        mix: All labeled rows by tag; by default those of `labels`.

    Raises:
        ValueError: `rows` is below 1, the lengths differ, an id occurs twice, or no row is eligible.
    """
    if rows is not None and rows < 1:
        raise ValueError(f"rows is {rows}; it must be 1 or more.")
    if len(ids) != len(labels) or len(set(ids)) != len(ids):
        raise ValueError(
            f"There are {len(set(ids))} distinct ids in {len(ids)} and {len(labels)} labels; give as many."
        )
    by_id = {int(each): str(label) for each, label in zip(ids, labels, strict=True)}
    able = {each: by_id[each] for each in sorted(map(int, eligible)) if each in by_id}
    if not able:
        raise ValueError(
            "No row of the test split is new to the models that are compared: add labeled rows or enlarge the test "
            "share (MLOPS_TEST_SHARE)."
        )
    counts = Counter(mix) if mix is not None else Counter(by_id.values())
    if rows is None and _mix_fault(able, counts) is None:
        return EvaluationSet(version, reason, able)
    wanted, chosen = rows or len(able), {}
    for label in sorted(set(able.values())):
        members = [each for each, tag in able.items() if tag == label]
        drawn = sorted(zip(hash_fractions(members, "evaluation"), members, strict=True))
        # the tag's share of all rows, not of the test split, which chance may have cut unevenly
        for _, each in drawn[: max(1, round(wanted * counts[label] / counts.total()))]:
            chosen[each] = label
    return EvaluationSet(version, reason, dict(sorted(chosen.items())))


def refresh_reason(
    frozen: EvaluationSet,
    ids: Sequence[int],
    labels: Sequence[str],
    eligible: Collection[int],
    *,
    mix: Mapping[str, int] | None = None,
) -> str | None:
    """Say why a set should be chosen anew, with the next version, or None if it still serves.

    Args:
        frozen: The set in use.
        ids: Ids of all labeled rows of today, or of those that may come into question and those of the set.
        labels: Their tags, as many.
        eligible: As for `choose_evaluation_set`, of today.
        mix: As there.

    Returns:
        A sentence: rows of the set are gone, carry another tag or were trained on, a tag is new, the class mix of
        the set is no fair picture of the rows any more (chi-squared, p below .01), or it has less than half of the
        rows that it could have.
    """
    now = {int(each): str(label) for each, label in zip(ids, labels, strict=True)}
    if gone := [each for each in frozen.tags if each not in now]:
        return f"{len(gone)} of its {len(frozen.tags)} rows are no longer labeled, id {gone[0]} for one."
    if changed := [each for each, tag in frozen.tags.items() if now[each] != tag]:
        return f"{len(changed)} of its {len(frozen.tags)} rows carry another tag now, id {changed[0]} for one."
    able = {int(each) for each in eligible}
    if learnt := [each for each in frozen.tags if each not in able]:
        return f"{len(learnt)} of its {len(frozen.tags)} rows are trained on now, id {learnt[0]} for one."
    if fresh := sorted({now[each] for each in able if each in now} - set(frozen.tags.values())):
        return f"It has no row of the tag {', '.join(fresh)}."
    if fault := _mix_fault(frozen.tags, Counter(mix) if mix is not None else Counter(now.values())):
        return fault
    if len(frozen.tags) < SMALLEST_PART * len(able):
        return f"It has {len(frozen.tags)} rows, less than half of the {len(able)} that it could have now."
    return None


def refreshed(
    frozen: EvaluationSet | None,
    ids: Sequence[int],
    labels: Sequence[str],
    eligible: Collection[int],
    *,
    mix: Mapping[str, int] | None = None,
) -> EvaluationSet:
    """Return the set to use: the frozen one, or the next version where a rule asks for it and gives another choice.

    Args:
        frozen: The set in use; None before the first.
        ids: As for `refresh_reason`.
        labels: Their tags, as many.
        eligible: As for `choose_evaluation_set`.
        mix: As there.

    Raises:
        ValueError: As `choose_evaluation_set`.
    """
    if frozen is None:
        return choose_evaluation_set(ids, labels, eligible, mix=mix)
    reason = refresh_reason(frozen, ids, labels, eligible, mix=mix)
    if reason is None:
        return frozen
    chosen = choose_evaluation_set(ids, labels, eligible, version=frozen.version + 1, reason=reason, mix=mix)
    # a mix that the test rows can't give any better must not make a version a day
    return frozen if chosen.tags == frozen.tags else chosen


def _mix_fault(chosen: Mapping[int, str], mix: Counter[str]) -> str | None:
    if mix.total() <= len(chosen):
        return None
    inside = Counter(chosen.values())
    found = stratification_of({tag: (rows - inside[tag], inside[tag]) for tag, rows in mix.items()})
    if found.p_value >= UNREPRESENTATIVE:
        return None
    return f"Its class mix departs from that of all rows by up to {found.max_gap:.2f} (p {found.p_value:.2g})."


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
