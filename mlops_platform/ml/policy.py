"""What to do after a day's watching: a pure, ordered list of rules over figures, with the reason in words.

The first rule that applies decides. Damaged data comes first, because nothing learnt from it can be trusted, and
what was acted upon already comes before acting again. Whether a model may be promoted is `ml.gates`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scipy.stats import fisher_exact

from mlops_platform.ml.drift import DriftTest, Interval
from mlops_platform.ml.metrics import Difference

Action = Literal["continue", "improve", "inspect", "rollback"]
DAMAGE = ("null_titles", "null_descriptions", "volume")  # tests whose alarm points upstream, not at the world
LABELS = "labels"  # the problem that new labels are doubtful


@dataclass(frozen=True)
class Thresholds:
    """Where the rules draw their lines.

    Attributes:
        f1_loss: Weighted F1 by which the whole online interval must lie under the evaluation to count as a loss.
        rollback_days: Days after a promotion in which a loss is blamed on the promotion.
        cooldown_days: Days in which the same problem is not acted upon again.
        min_new_labels: Labels since the champion's training that make retraining worth its while.
        max_age_days: Age of the champion at which new labels alone are reason to retrain.
        doubt_gap: Share of suspects by which the new labels must exceed the older ones to count as doubtful.
        doubt_alpha: Chance of calling new labels doubtful that are as good as the older ones.
    """

    f1_loss: float = 0.02
    rollback_days: int = 14
    cooldown_days: int = 7
    min_new_labels: int = 50
    max_age_days: int = 90
    doubt_gap: float = 0.1
    doubt_alpha: float = 0.01


DEFAULT = Thresholds()


@dataclass(frozen=True)
class LabelDoubt:
    """What label QA says of the labels that came since the champion's training, and of the older ones.

    Attributes:
        suspects: Doubtful ones among the new labels.
        judged: New labels that were judged.
        old_suspects: Doubtful ones among the older labels.
        old_judged: Older labels that were judged.
    """

    suspects: int
    judged: int
    old_suspects: int
    old_judged: int

    @property
    def gap(self) -> float:
        """Share of suspects among the new labels minus that among the older ones."""
        return self.suspects / max(self.judged, 1) - self.old_suspects / max(self.old_judged, 1)

    @property
    def p_value(self) -> float:
        """Fisher's exact test of whether the new labels hold more suspects."""
        table = [
            [self.suspects, self.judged - self.suspects],
            [self.old_suspects, self.old_judged - self.old_suspects],
        ]
        return float(fisher_exact(table, alternative="greater")[1])


@dataclass(frozen=True)
class Evaluation:
    """What is known of the champion's weighted F1 and of the labels.

    Attributes:
        f1: On its test split.
        online: On labels that came in since; None where there are too few.
        against_previous: Minus that of the champion before, on the same labels; None without one or with too few.
        new_labels: Labels since the champion was trained.
        doubt: How good the new labels look; None without any.
    """

    f1: float
    online: Interval | None = None
    against_previous: Difference | None = None
    new_labels: int = 0
    doubt: LabelDoubt | None = None


@dataclass(frozen=True)
class PastAction:
    """A decision other than continue that was taken before.

    Attributes:
        days_ago: How many days back.
        action: What was decided.
        problems: The names of the problems it answered.
        rule: The rule that took it.
    """

    days_ago: int
    action: Action
    problems: tuple[str, ...] = ()
    rule: str = ""


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
    def doubtful(self) -> bool:
        doubt = self.evaluation.doubt
        limits = self.thresholds
        return doubt is not None and doubt.gap > limits.doubt_gap and doubt.p_value < limits.doubt_alpha

    @property
    def badly_deployed(self) -> bool:
        """Whether the champion before does better on the same labels, and the champion is new."""
        history, gap = self.history, self.evaluation.against_previous
        new = history.promoted_days_ago is not None and history.promoted_days_ago <= self.thresholds.rollback_days
        return new and history.previous_version is not None and gap is not None and gap.is_loss

    @property
    def enough_labels(self) -> bool:
        return self.evaluation.new_labels >= self.thresholds.min_new_labels

    @property
    def problems(self) -> tuple[str, ...]:
        fell = ("f1",) if self.lost or self.badly_deployed else ()
        return tuple(sorted({*self.damage, *self.drift, *fell, *((LABELS,) if self.doubtful else ())}))


Verdict = tuple[Action, str] | None


def _held(case: _Case) -> Verdict:
    # a return to a model that was good needs nobody's leave
    if not case.history.held or (case.badly_deployed and not case.damage):
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
    history, gap = case.history, case.evaluation.against_previous
    if not case.badly_deployed or gap is None:
        return None
    if _answered(case, ("f1",), ("rollback",)):
        return "inspect", "F1 is low again within the cooldown of a rollback, so a person has to look."
    return "rollback", (
        f"Version {history.version}, promoted {history.promoted_days_ago} days ago, has {gap.value:+.3f} weighted F1"
        f" [{gap.low:+.3f}, {gap.high:+.3f}] against version {history.previous_version} on {gap.rows} labels, so that"
        " returns."
    )


def _doubtful_labels(case: _Case) -> Verdict:
    doubt = case.evaluation.doubt
    if not case.doubtful or doubt is None or _answered(case, (LABELS,), ("inspect",)):
        return None
    return "inspect", (
        f"{doubt.suspects} of {doubt.judged} new labels look wrong, and {doubt.old_suspects} of {doubt.old_judged}"
        " older ones, so nothing is learnt from them before somebody has looked."
    )


def _acted_upon(case: _Case) -> Verdict:
    if not case.problems or not _answered(case, case.problems, ("improve", "inspect", "rollback")):
        return None
    days = case.thresholds.cooldown_days
    return "continue", f"The problems ({', '.join(case.problems)}) were acted upon in the last {days} days already."


def _learnable(case: _Case) -> Verdict:
    # what is doubtful was looked at by now, and is as good as it gets
    if not case.problems or not case.enough_labels or set(case.problems) <= {LABELS}:
        return None
    seen = ", ".join(case.problems)
    return "improve", f"There is drift ({seen}) and {case.evaluation.new_labels} new labels to learn it from."


def _unlabeled(case: _Case) -> Verdict:
    if not case.problems or case.enough_labels:
        return None
    labels, need = case.evaluation.new_labels, case.thresholds.min_new_labels
    seen = ", ".join(case.problems)
    return "inspect", f"There is drift ({seen}) but only {labels} of {need} new labels, so label some first."


def _old(case: _Case) -> Verdict:
    labels, limits = case.evaluation.new_labels, case.thresholds
    retrained = any(a.action == "improve" and a.days_ago <= limits.cooldown_days for a in case.history.actions)
    if case.age_days < limits.max_age_days or not case.enough_labels or retrained:
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
    """Whether each of the problems was answered by one of the actions within the cooldown.

    A call for labels is no answer any more once the labels are there.
    """
    met = (_unlabeled.__name__.lstrip("_"),) if case.enough_labels else ()
    recent = [
        a
        for a in case.history.actions
        if a.days_ago <= case.thresholds.cooldown_days and a.action in actions and a.rule not in met
    ]
    return set(problems) <= {problem for action in recent for problem in action.problems}


RULES: tuple[Callable[[_Case], Verdict], ...] = (
    _held,
    _damaged,
    _bad_deployment,
    _doubtful_labels,
    _acted_upon,
    _learnable,
    _unlabeled,
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
