"""The promotion gates: pure rules on whether a model may become the champion, each with its reason in a sentence.

Moving the alias belongs in `assets.promotion`, retraining and rollback in `monitoring.retraining_policy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Decision:
    """The decision on a candidate.

    Attributes:
        action: `promote` moves the alias; `keep` leaves it; `refuse` leaves it because the candidate failed.
        reason: One sentence for the audit log.
    """

    action: Literal["promote", "keep", "refuse"]
    reason: str


def quality(f1: float, majority_f1: float, min_f1: float) -> tuple[bool, str]:
    """Return whether a model passes without comparison, and why.

    Args:
        f1: Weighted F1 on the test split.
        majority_f1: Weighted F1 of always predicting the most frequent class.
        min_f1: The bar.
    """
    if f1 < min_f1:
        return False, f"weighted F1 {f1:.3f} is under the bar of {min_f1:.3f}"
    if f1 <= majority_f1:
        return False, f"weighted F1 {f1:.3f} does not beat the majority class ({majority_f1:.3f})"
    return True, f"weighted F1 {f1:.3f} clears the bar of {min_f1:.3f} and the majority class ({majority_f1:.3f})"


def decide(
    *,
    candidate: str,
    champion: str | None,
    f1: float,
    majority_f1: float,
    min_f1: float,
    comparison: Mapping[str, Any] | None,
) -> Decision:
    """Decide whether the candidate becomes the champion.

    A loss is significant if the whole paired bootstrap interval of the difference in weighted F1, candidate minus
    champion on the same rows, is below zero.

    Args:
        candidate: Version of the candidate.
        champion: Version of the current champion, or None.
        f1: As for `quality`.
        majority_f1: As for `quality`.
        min_f1: As for `quality`.
        comparison: `value`, `low`, `high` of the candidate against this champion, or `unreadable` if it cannot be
            loaded; None without a champion.

    Raises:
        ValueError: There is another champion, and the comparison is missing.
    """
    passed, why = quality(f1, majority_f1, min_f1)
    if candidate == champion:
        note = "" if passed else f", although now its {why}"
        return Decision("keep", f"Version {candidate} is the champion already{note}.")
    if not passed:
        return Decision("refuse", f"Version {candidate} is not promoted: {why}.")
    if champion is None:
        return Decision("promote", f"Version {candidate} is the first champion: {why}.")
    if comparison is None:
        raise ValueError(
            f"Version {candidate} was not compared with champion {champion}: materialize model_evaluation again."
        )
    if "unreadable" in comparison:
        return Decision("promote", f"Version {candidate} is promoted: {why}; champion {champion} cannot be loaded.")
    figures = (
        f"{comparison['value']:+.3f} weighted F1 against champion {champion} "
        f"[{comparison['low']:+.3f}, {comparison['high']:+.3f}]"
    )
    if comparison["high"] < 0:
        return Decision("keep", f"Champion {champion} stays: version {candidate} loses significantly, {figures}.")
    return Decision("promote", f"Version {candidate} is promoted: {why}; no significant loss, {figures}.")


def after_rollback(version: str, at: str, reason: str) -> Decision:
    """Keep the champion: the candidate, though it passes, was rolled back `at` a time (ISO 8601)."""
    return Decision(
        "keep",
        f"Version {version} is not promoted by itself: it was rolled back on {at[:10]} ({reason.rstrip('.')}); "
        f"`mlops promote {version}` promotes it all the same.",
    )


def while_held(version: str, day: str, reason: str) -> Decision:
    """Keep the champion: the candidate passes, but the inspection of a `day` (ISO date) is open."""
    return Decision(
        "keep",
        f"Version {version} is not promoted by itself: an inspection of {day} waits for an answer "
        f"({reason.rstrip('.')}); `mlops decide` answers it.",
    )
