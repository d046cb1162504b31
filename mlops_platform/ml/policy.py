"""What to do after a day's watching: a pure, ordered list of rules over figures, with the reason in words.

The first rule that applies decides. Damaged data comes first, because nothing learnt from it can be trusted, and
what was acted upon already comes before acting again. Whether a model may be promoted is `ml.gates`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mlops_platform.ml.drift import DriftTest, Interval

Action = Literal["continue", "improve", "inspect", "rollback"]
DAMAGE = ("null_titles", "null_descriptions", "volume")  # tests whose alarm points upstream, not at the world


@dataclass(frozen=True)
class Thresholds:
    """Where the rules draw their lines.

    Attributes:
        f1_loss: Weighted F1 by which the whole online interval must lie under the evaluation to count as a loss.
        rollback_days: Days after a promotion in which a loss is blamed on the promotion.
        cooldown_days: Days in which the same problem is not acted upon again.
        min_new_labels: Labels since the champion's training that make retraining worth its while.
        max_age_days: Age of the champion at which new labels alone are reason to retrain.
    """

    f1_loss: float = 0.02
    rollback_days: int = 14
    cooldown_days: int = 7
    min_new_labels: int = 50
    max_age_days: int = 90


DEFAULT = Thresholds()


@dataclass(frozen=True)
class Evaluation:
    """What is known of the champion's weighted F1.

    Attributes:
        f1: On its test split.
        online: On labels that came in since; None where there are too few.
        previous_f1: The previous champion's on its test split; None without one.
        new_labels: Labels since the champion was trained.
    """

    f1: float
    online: Interval | None = None
    previous_f1: float | None = None
    new_labels: int = 0


@dataclass(frozen=True)
class PastAction:
    """A decision other than continue that was taken before.

    Attributes:
        days_ago: How many days back.
        action: What was decided.
        problems: The names of the problems it answered.
    """

    days_ago: int
    action: Action
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class History:
    """What happened to the deployment.

    Attributes:
        version: The champion's.
        previous_version: The champion before it, to which a rollback returns; None without one.
        promoted_days_ago: Days since the champion was promoted; None where not known.
        actions: Decisions of the past days.
        held: Whether a person has yet to answer an inspection.
    """

    version: str
    previous_version: str | None = None
    promoted_days_ago: int | None = None
    actions: Sequence[PastAction] = ()
    held: bool = False


@dataclass(frozen=True)
class RetrainingDecision:
    """What to do, why in one sentence, and the JSON-able figures it rests on."""

    decision: Action
    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class _Case:
    report: Sequence[DriftTest]
    evaluation: Evaluation
    age_days: int
    history: History
    thresholds: Thresholds

    @property
    def damage(self) -> tuple[str, ...]:
        return tuple(test.name for test in self.report if test.detected and test.name in DAMAGE)

    @property
    def drift(self) -> tuple[str, ...]:
        return tuple(test.name for test in self.report if test.detected and test.name not in DAMAGE)

    @property
    def lost(self) -> bool:
        online = self.evaluation.online
        return online is not None and online.high < self.evaluation.f1 - self.thresholds.f1_loss

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(sorted({*self.damage, *self.drift, *(("f1",) if self.lost else ())}))


Verdict = tuple[Action, str] | None


def _held(case: _Case) -> Verdict:
    if not case.history.held:
        return None
    seen = f" ({', '.join(case.problems)} now)" if case.problems else ""
    return "continue", f"An inspection waits for a person's answer, so nothing else is started{seen}."


def _damaged(case: _Case) -> Verdict:
    if not case.damage:
        return None
    if _answered(case, case.damage, ("inspect",)):
        return "continue", f"The damage in {', '.join(case.damage)} was reported within the cooldown already."
    return "inspect", f"The data looks damaged upstream ({', '.join(case.damage)}), so nothing is learnt from it."


def _bad_deployment(case: _Case) -> Verdict:
    """Roll back where F1 fell right after a promotion and the model before it promised more."""
    history, online, before = case.history, case.evaluation.online, case.evaluation.previous_f1
    recent = history.promoted_days_ago is not None and history.promoted_days_ago <= case.thresholds.rollback_days
    if not (case.lost and recent and history.previous_version is not None and online is not None):
        return None
    if before is not None and online.high >= before:
        return None
    if _answered(case, ("f1",), ("rollback",)):
        return "inspect", "F1 is low again within the cooldown of a rollback, so a person has to look."
    return "rollback", (
        f"Weighted F1 fell to {online.value:.3f} within {history.promoted_days_ago} days of promoting version"
        f" {history.version}, so version {history.previous_version} returns."
    )


def _acted_upon(case: _Case) -> Verdict:
    if not case.problems or not _answered(case, case.problems, ("improve", "inspect", "rollback")):
        return None
    days = case.thresholds.cooldown_days
    return "continue", f"The problems ({', '.join(case.problems)}) were acted upon in the last {days} days already."


def _drifted(case: _Case) -> Verdict:
    if not case.problems:
        return None
    labels, need = case.evaluation.new_labels, case.thresholds.min_new_labels
    seen = ", ".join(case.problems)
    if labels >= need:
        return "improve", f"There is drift ({seen}) and {labels} new labels to learn it from."
    return "inspect", f"There is drift ({seen}) but only {labels} of {need} new labels, so label some first."


def _old(case: _Case) -> Verdict:
    labels, limits = case.evaluation.new_labels, case.thresholds
    retrained = any(a.action == "improve" and a.days_ago <= limits.cooldown_days for a in case.history.actions)
    if case.age_days < limits.max_age_days or labels < limits.min_new_labels or retrained:
        return None
    return "improve", f"The champion is {case.age_days} days old and {labels} new labels are there."


def _too_little(case: _Case) -> Verdict:
    if any(test.p_value is not None for test in case.report):
        return None
    return "continue", "There is too little data for any test of drift."


def _quiet(case: _Case) -> Verdict:
    run = sum(test.p_value is not None for test in case.report)
    return "continue", f"None of the {run} tests that were run found a drift."


def _answered(case: _Case, problems: Sequence[str], actions: Sequence[Action]) -> bool:
    """Whether each of the problems was answered by one of the actions within the cooldown."""
    recent = [a for a in case.history.actions if a.days_ago <= case.thresholds.cooldown_days and a.action in actions]
    return set(problems) <= {problem for action in recent for problem in action.problems}


RULES: tuple[Callable[[_Case], Verdict], ...] = (
    _held,
    _damaged,
    _bad_deployment,
    _acted_upon,
    _drifted,
    _old,
    _too_little,
    _quiet,
)


def decide(
    report: Sequence[DriftTest],
    evaluation: Evaluation,
    age_days: int,
    history: History,
    thresholds: Thresholds = DEFAULT,
) -> RetrainingDecision:
    """Decide what follows from a day's report.

    Args:
        report: The day's tests.
        evaluation: What is known of the champion's F1, and how many new labels there are.
        age_days: Days since the champion was trained.
        history: The deployment's.
        thresholds: Where the rules draw their lines.

    Returns:
        The first rule's verdict that applies; `evidence` names the rule and the problems, which the next days'
        `History.actions` are made of.
    """
    case = _Case(report, evaluation, age_days, history, thresholds)
    rule, verdict = next((rule, verdict) for rule in RULES if (verdict := rule(case)) is not None)
    evidence = {
        "rule": rule.__name__.lstrip("_"),
        "problems": list(case.problems),
        "tests": [test.to_dict() for test in report],
        "evaluation": asdict(evaluation),
        "age_days": age_days,
        "history": {**asdict(history), "actions": [asdict(action) for action in history.actions]},
        "thresholds": asdict(thresholds),
    }
    return RetrainingDecision(verdict[0], verdict[1], evidence)
