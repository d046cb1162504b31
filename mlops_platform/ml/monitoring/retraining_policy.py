"""The retraining policy: an ordered list of pure rules over a day's figures, of which the first that applies decides.

A bad deployment comes first, since a rollback is safe and needs no new data; then an inspection that awaits its
answer; then data and labels that cannot be trusted, on which nothing is trained; then problems that were handled
already; and only then drift. Whether a model may be promoted belongs in `evaluation.promotion_gates`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scipy.stats import fisher_exact

from mlops_platform.ml.evaluation.metrics import Difference
from mlops_platform.ml.monitoring.drift_tests import DriftTest, Interval

Action = Literal["continue", "improve", "inspect", "rollback"]
DAMAGE = ("null_titles", "null_descriptions", "volume")  # tests whose alarm points to an upstream fault, not to drift
INPUTS = ("text", "unknown_words")  # tests of the rows alone, independent of the model
OUTPUTS = ("classes", "confidence")  # tests of the model's predictions
DEPLOYMENT, LABELS = "deployment", "labels"  # problems in addition to those that are named after a test
CLEARLY_ALIKE = 0.1  # p-value from which the texts count as unchanged


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of the rules.

    Attributes:
        rollback_days: Days after a promotion in which a loss is attributed to it.
        cooldown_days: Days in which the same problem is not acted upon again; doubled by each further retraining for
            the same problem.
        min_new_labels: Labels since the champion's training that retraining needs.
        max_age_days: Age of the champion at which new labels alone are a reason to retrain.
        doubt_alpha: Chance of doubting new labels that are as good as the old ones.
        doubt_gap: Least excess of the share of suspects among the new labels.
    """

    rollback_days: int = 14
    cooldown_days: int = 7
    min_new_labels: int = 50
    max_age_days: int = 90
    doubt_alpha: float = 0.001
    doubt_gap: float = 0.05


DEFAULT = Thresholds()


@dataclass(frozen=True)
class LabelDoubt:
    """Suspect labels and evaluated labels, among those added since the champion's training and among older ones."""

    suspects: int
    judged: int
    old_suspects: int
    old_judged: int

    @property
    def gap(self) -> float:
        """Share of suspects among the new labels minus the share among the old ones."""
        return self.suspects / max(self.judged, 1) - self.old_suspects / max(self.old_judged, 1)

    @property
    def p_value(self) -> float:
        """One-sided p-value of Fisher's exact test that the new labels have more suspects."""
        new = [self.suspects, self.judged - self.suspects]
        old = [self.old_suspects, self.old_judged - self.old_suspects]
        return float(fisher_exact([new, old], alternative="greater")[1])


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of the champion.

    Attributes:
        f1: Weighted F1 on its test split.
        online: Weighted F1 on labels added since; None if there are too few.
        against_previous: Difference in weighted F1 to the previous champion on those labels; None if there are too
            few, or no previous champion.
        new_labels: Labels added since the champion was trained.
        doubt: Quality of the new labels; None if not evaluated.
    """

    f1: float
    online: Interval | None = None
    against_previous: Difference | None = None
    new_labels: int = 0
    doubt: LabelDoubt | None = None


@dataclass(frozen=True)
class PastAction:
    """An earlier decision other than continue.

    Attributes:
        days_ago: Age of the decision in days.
        action: The decision.
        problems: Names of the problems it addressed.
        rule: Name of the rule that applied.
        answered_days_ago: Days since a person answered an inspection; its cooldown starts there.
    """

    days_ago: int
    action: Action
    problems: tuple[str, ...] = ()
    rule: str = ""
    answered_days_ago: int | None = None

    @property
    def since(self) -> int:
        """Days since the cooldown started."""
        return self.days_ago if self.answered_days_ago is None else self.answered_days_ago


@dataclass(frozen=True)
class History:
    """History of the deployment.

    Attributes:
        version: Version of the champion.
        previous_version: Version of the previous champion, the target of a rollback; None without one.
        promoted_days_ago: Days since the champion was promoted; None if unknown.
        actions: Earlier decisions, back to `Thresholds.max_age_days` so that cooldowns double correctly.
        held: Whether an inspection awaits a person's answer.
    """

    version: str
    previous_version: str | None = None
    promoted_days_ago: int | None = None
    actions: Sequence[PastAction] = ()
    held: bool = False


@dataclass(frozen=True)
class RetrainingDecision:
    """A decision, its reason in one sentence, and its evidence as JSON-able figures."""

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

    def fired(self, *names: str) -> tuple[str, ...]:
        return tuple(test.name for test in self.report if test.detected and test.name in names)

    @property
    def damage(self) -> tuple[str, ...]:
        return self.fired(*DAMAGE)

    @property
    def drift(self) -> tuple[str, ...]:
        return tuple(test.name for test in self.report if test.detected and test.name not in DAMAGE)

    @property
    def enough_labels(self) -> bool:
        return self.evaluation.new_labels >= self.thresholds.min_new_labels

    @property
    def doubted(self) -> bool:
        """Whether the new labels are doubtful, and no drift of the texts explains it."""
        doubt = self.evaluation.doubt
        return (
            doubt is not None
            and doubt.gap >= self.thresholds.doubt_gap
            and not self.fired(*INPUTS)
            and doubt.p_value <= self.thresholds.doubt_alpha
        )

    @property
    def bad_deployment(self) -> bool:
        """Whether a recent champion is worse than the previous one, or predicts differently on unchanged texts."""
        history = self.history
        days = history.promoted_days_ago
        if history.previous_version is None or days is None or days > self.thresholds.rollback_days:
            return False
        if self.evaluation.against_previous is not None:
            return self.evaluation.against_previous.is_loss
        if any(a.action == "improve" and a.days_ago <= self.thresholds.rollback_days for a in history.actions):
            return False  # it was trained because of drift, so its predictions are expected to differ
        # without labels the texts must be clearly unchanged, or a drift that a text test just misses would suffice
        p_values = [test.p_value for test in self.report if test.name in INPUTS and test.p_value is not None]
        return bool(self.fired(*OUTPUTS)) and bool(p_values) and min(p_values) > CLEARLY_ALIKE

    @property
    def problems(self) -> tuple[str, ...]:
        others = ((DEPLOYMENT, self.bad_deployment), (LABELS, self.doubted))
        return tuple(sorted({*self.damage, *self.drift, *(name for name, present in others if present)}))

    def recent(self, problems: Sequence[str], *actions: Action) -> bool:
        """Whether each problem was addressed by one of the actions within its cooldown."""
        return all(self._recent(problem, actions) for problem in problems)

    def _recent(self, problem: str, actions: Sequence[Action]) -> bool:
        past = [a for a in self.history.actions if a.action in actions and problem in a.problems]
        retrainings = sum(a.action == "improve" and a.since <= self.thresholds.max_age_days for a in past)
        wait = min(self.thresholds.cooldown_days * 2 ** max(retrainings - 1, 0), self.thresholds.max_age_days)
        return any(a.since <= (wait if a.action == "improve" else self.thresholds.cooldown_days) for a in past)


# the names of the rules, without the underscore, are part of the evidence
Verdict = tuple[Action, str] | None


def _bad_deployment(case: _Case) -> Verdict:
    """Roll back even while an inspection is open: a bad model must not serve until somebody reads an alert."""
    history = case.history
    if not case.bad_deployment or case.damage or case.doubted:
        return None
    if case.recent((DEPLOYMENT,), "rollback"):
        if history.held or case.recent((DEPLOYMENT,), "inspect"):
            return None
        return (
            "inspect",
            "The champion performs badly within the cooldown of a rollback, so a person must inspect it.",
        )
    against = case.evaluation.against_previous
    symptom = (
        f"its tags or probabilities shifted ({', '.join(case.fired(*OUTPUTS))}) though the texts did not"
        if against is None
        else f"its weighted F1 is {-against.value:.3f} below that of version {history.previous_version} on"
        f" {against.rows} labeled rows"
    )
    return "rollback", (
        f"Version {history.version} was promoted {history.promoted_days_ago} days ago and {symptom}: roll back to"
        f" version {history.previous_version}."
    )


def _held(case: _Case) -> Verdict:
    if not case.history.held:
        return None
    problems = f" (problems today: {', '.join(case.problems)})" if case.problems else ""
    return "continue", f"An inspection awaits a person's answer, so nothing else is started{problems}."


def _damaged(case: _Case) -> Verdict:
    if not case.damage:
        return None
    if case.recent(case.damage, "inspect"):
        return "continue", f"The upstream fault ({', '.join(case.damage)}) was already reported within the cooldown."
    return "inspect", f"The tests point to an upstream fault ({', '.join(case.damage)}): do not train on this data."


def _doubtful_labels(case: _Case) -> Verdict:
    doubt = case.evaluation.doubt
    if not case.doubted or doubt is None:
        return None
    if case.recent((LABELS,), "inspect"):
        return "continue", "The doubtful labels were already reported within the cooldown: do not train on them."
    return "inspect", (
        f"Label QA doubts {doubt.suspects} of {doubt.judged} new labels but {doubt.old_suspects} of"
        f" {doubt.old_judged} old ones though the texts did not change: do not train on them."
    )


def _acted_upon(case: _Case) -> Verdict:
    """Wait for the cooldown; an inspection for lack of labels ends once there are enough."""
    actions: tuple[Action, ...] = ("improve", "rollback") if case.enough_labels else ("improve", "rollback", "inspect")
    if not case.problems or not case.recent(case.problems, *actions):
        return None
    return "continue", f"The problems ({', '.join(case.problems)}) were acted upon within the cooldown."


def _learnable(case: _Case) -> Verdict:
    if not case.problems or not case.enough_labels:
        return None
    drift = ", ".join(case.problems)
    return "improve", f"There is drift ({drift}) and there are {case.evaluation.new_labels} new labels to train on."


def _unlabeled(case: _Case) -> Verdict:
    if not case.problems or case.enough_labels:
        return None
    labels, needed = case.evaluation.new_labels, case.thresholds.min_new_labels
    drift = ", ".join(case.problems)
    return "inspect", f"There is drift ({drift}) but only {labels} of {needed} new labels: label rows first."


def _old(case: _Case) -> Verdict:
    labels, limits = case.evaluation.new_labels, case.thresholds
    retrained = any(a.action == "improve" and a.days_ago <= limits.cooldown_days for a in case.history.actions)
    if case.age_days < limits.max_age_days or labels < limits.min_new_labels or retrained:
        return None
    return "improve", f"The champion is {case.age_days} days old and there are {labels} new labels."


def _too_little(case: _Case) -> Verdict:
    if any(test.p_value is not None for test in case.report):
        return None
    return "continue", "There is too little data for any test of drift."


def _quiet(case: _Case) -> Verdict:
    tests = sum(test.p_value is not None for test in case.report)
    return "continue", f"None of the {tests} tests detected drift."


RULES: tuple[Callable[[_Case], Verdict], ...] = (
    _bad_deployment,
    _held,
    _damaged,
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
    """Decide by the first rule that applies to a day's report.

    Args:
        report: The day's tests.
        evaluation: Of the champion and of the labels added since its training.
        age_days: Days since the champion was trained.
        history: Of the deployment.
        thresholds: Of the rules.

    Returns:
        The decision. Its evidence names the rule and the problems, which later `History.actions` need.
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
