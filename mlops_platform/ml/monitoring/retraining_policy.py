"""What to do after a day's watching: a pure, ordered list of rules over figures, with the reason in words.

The first rule that applies decides. A bad deployment comes first, since returning to the champion before is safe and
needs no new data; then a person's answer is waited for; then data and labels that cannot be trusted, from which
nothing is learnt; then what was acted upon already; and only then the world's drift. Whether a model may be promoted
is `ml.gates`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scipy.stats import fisher_exact

from mlops_platform.ml.evaluation.metrics import Difference
from mlops_platform.ml.monitoring.drift_tests import DriftTest, Interval

Action = Literal["continue", "improve", "inspect", "rollback"]
DAMAGE = ("null_titles", "null_descriptions", "volume")  # tests whose alarm points upstream, not at the world
INPUTS = ("text", "unknown_words")  # tests that look at the rows alone, whatever the model
ANSWERS = ("classes", "confidence")  # tests that look at what the model makes of them
DEPLOYMENT, LABELS = "deployment", "labels"  # problems beside those that are named after a test


@dataclass(frozen=True)
class Thresholds:
    """Where the rules draw their lines.

    Attributes:
        rollback_days: Days after a promotion in which a loss is blamed on the promotion.
        cooldown_days: Days in which the same problem is not acted upon again; each further retraining for the same
            problem waits twice as long as the one before.
        min_new_labels: Labels since the champion's training that make retraining worth its while.
        max_age_days: Age of the champion at which new labels alone are reason to retrain.
        doubt_alpha: Chance of calling new labels doubtful that are as good as the old.
        doubt_gap: Share by which the doubtful ones must be more, beside.
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
    """What label QA says of the labels that came since the champion's training, and of the older ones."""

    suspects: int
    judged: int
    old_suspects: int
    old_judged: int

    @property
    def gap(self) -> float:
        """Share of suspects among the new labels minus that among the old."""
        return self.suspects / max(self.judged, 1) - self.old_suspects / max(self.old_judged, 1)

    @property
    def p_value(self) -> float:
        """Chance of as many suspects among the new labels if they were as good as the old (Fisher, one-sided)."""
        table = [
            [self.suspects, self.judged - self.suspects],
            [self.old_suspects, self.old_judged - self.old_suspects],
        ]
        return float(fisher_exact(table, alternative="greater")[1])


@dataclass(frozen=True)
class Evaluation:
    """What is known of the champion.

    Attributes:
        f1: Its weighted F1 on its test split.
        online: The same on labels that came in since; None where there are too few.
        against_previous: Its weighted F1 minus the previous champion's on those labels; None where there are too few,
            or no previous champion.
        new_labels: Labels since the champion was trained.
        doubt: What label QA says of them; None where it was not asked.
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
        answered_days_ago: How many days back a person answered, of an inspection; the cooldown runs from there.
    """

    days_ago: int
    action: Action
    problems: tuple[str, ...] = ()
    rule: str = ""
    answered_days_ago: int | None = None

    @property
    def since(self) -> int:
        """Days since it was closed."""
        return self.days_ago if self.answered_days_ago is None else self.answered_days_ago


@dataclass(frozen=True)
class History:
    """What happened to the deployment.

    Attributes:
        version: The champion's.
        previous_version: The champion before it, to which a rollback returns; None without one.
        promoted_days_ago: Days since the champion was promoted; None where not known.
        actions: Decisions of the past days, of `Thresholds.max_age_days` for the waits to double as they should.
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
        """Whether retraining has something to learn from."""
        return self.evaluation.new_labels >= self.thresholds.min_new_labels

    @property
    def doubted(self) -> bool:
        """Whether the new labels are doubted, and the rows do not differ so that new labels could well be odd."""
        doubt = self.evaluation.doubt
        return (
            doubt is not None
            and doubt.gap >= self.thresholds.doubt_gap
            and not self.fired(*INPUTS)
            and doubt.p_value <= self.thresholds.doubt_alpha
        )

    @property
    def bad_deployment(self) -> bool:
        """Whether the champion is new and worse than the one before, or answers oddly where texts are as ever."""
        history = self.history
        days = history.promoted_days_ago
        if history.previous_version is None or days is None or days > self.thresholds.rollback_days:
            return False
        if self.evaluation.against_previous is not None:
            return self.evaluation.against_previous.is_loss
        if any(a.action == "improve" and a.days_ago <= self.thresholds.rollback_days for a in history.actions):
            return False  # it was trained because the world drifts: other answers are what is expected of it
        # without labels the texts must be clearly as ever, or a drift that the text test just misses would do
        alike = [test.p_value for test in self.report if test.name in INPUTS and test.p_value is not None]
        return bool(self.fired(*ANSWERS)) and bool(alike) and min(alike) > CLEARLY_ALIKE

    @property
    def problems(self) -> tuple[str, ...]:
        more = ((DEPLOYMENT, self.bad_deployment), (LABELS, self.doubted))
        return tuple(sorted({*self.damage, *self.drift, *(name for name, there in more if there)}))

    def recent(self, problems: Sequence[str], *actions: Action) -> bool:
        """Whether each of the problems was answered by one of the actions within its cooldown."""
        return all(self._recent(problem, actions) for problem in problems)

    def _recent(self, problem: str, actions: Sequence[Action]) -> bool:
        past = [a for a in self.history.actions if a.action in actions and problem in a.problems]
        again = sum(a.action == "improve" and a.since <= self.thresholds.max_age_days for a in past)
        wait = min(self.thresholds.cooldown_days * 2 ** max(again - 1, 0), self.thresholds.max_age_days)
        return any(a.since <= (wait if a.action == "improve" else self.thresholds.cooldown_days) for a in past)


CLEARLY_ALIKE = 0.1
Verdict = tuple[Action, str] | None


def _bad_deployment(case: _Case) -> Verdict:
    """Roll back, even while a person's answer is due: a bad model must not serve until somebody reads an alert."""
    history = case.history
    if not case.bad_deployment or case.damage or case.doubted:
        return None
    if case.recent((DEPLOYMENT,), "rollback"):
        if history.held or case.recent((DEPLOYMENT,), "inspect"):
            return None
        return "inspect", "The champion does badly within the cooldown of a rollback, so a person has to look."
    against = case.evaluation.against_previous
    seen = (
        f"its tags or probabilities shifted ({', '.join(case.fired(*ANSWERS))}) though the texts did not"
        if against is None
        else f"its weighted F1 is {-against.value:.3f} under that of version {history.previous_version} on"
        f" {against.rows} labelled rows"
    )
    return "rollback", (
        f"Version {history.version} was promoted {history.promoted_days_ago} days ago and {seen}, so version"
        f" {history.previous_version} returns."
    )


def _held(case: _Case) -> Verdict:
    if not case.history.held:
        return None
    seen = f" ({', '.join(case.problems)} now)" if case.problems else ""
    return "continue", f"An inspection waits for a person's answer, so nothing else is started{seen}."


def _damaged(case: _Case) -> Verdict:
    if not case.damage:
        return None
    if case.recent(case.damage, "inspect"):
        return "continue", f"The damage in {', '.join(case.damage)} was reported within the cooldown already."
    return "inspect", f"The data looks damaged upstream ({', '.join(case.damage)}), so nothing is learnt from it."


def _doubtful_labels(case: _Case) -> Verdict:
    doubt = case.evaluation.doubt
    if not case.doubted or doubt is None:
        return None
    if case.recent((LABELS,), "inspect"):
        return "continue", "The doubtful labels were reported within the cooldown already, and are not learnt from."
    return "inspect", (
        f"Label QA doubts {doubt.suspects} of {doubt.judged} new labels but {doubt.old_suspects} of"
        f" {doubt.old_judged} old ones though the texts did not change, so nothing is learnt from them."
    )


def _acted_upon(case: _Case) -> Verdict:
    """Leave alone what was acted upon; an inspection for want of labels is over once they are there."""
    actions: tuple[Action, ...] = ("improve", "rollback") if case.enough_labels else ("improve", "rollback", "inspect")
    if not case.problems or not case.recent(case.problems, *actions):
        return None
    return "continue", f"The problems ({', '.join(case.problems)}) were acted upon already and the cooldown lasts."


def _learnable(case: _Case) -> Verdict:
    if not case.problems or not case.enough_labels:
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
    """Decide what follows from a day's report.

    Args:
        report: The day's tests.
        evaluation: What is known of the champion's F1, and of the labels that came since.
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
