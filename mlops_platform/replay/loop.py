"""The learning loop, week by week: predict, monitor, decide and act with the functions that the assets call.

Faults are injected by ``fault_injection``; whether the decisions were right is for ``scoring``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mlops_platform.ml.classifier import text_classifier
from mlops_platform.ml.labeling.label_quality import find_suspects
from mlops_platform.ml.monitoring.drift_monitor import WindowRows, watch
from mlops_platform.ml.monitoring.retraining_policy import (
    Evaluation,
    LabelDoubt,
    PastAction,
    RetrainingDecision,
    decide,
)
from mlops_platform.ml.monitoring.retraining_policy import History as Deployment
from mlops_platform.replay.fault_injection import REPAIRED_BY_PEOPLE, World
from mlops_platform.replay.model_version import LabeledRow, Version, columns, f1_on, gate, train
from mlops_platform.replay.scenario import Scenario

DAYS = 7


@dataclass(frozen=True)
class Week:
    """What happened in a week.

    Attributes:
        week: Its number, from 1.
        rows: Number of rows that arrived.
        version: The champion that predicted them.
        f1: The champion's weighted F1 on them, against the true tags.
        pool_f1: The champion's weighted F1 on the pool.
        drift: Names of the tests that detected drift.
        decision: The decision at the end of the week.
        reason: The reason for it.
        rule: The rule that made it.
        note: Repairs, deployments and promotions.
    """

    week: int
    rows: int
    version: str
    f1: float | None
    pool_f1: float | None
    drift: tuple[str, ...]
    decision: str
    reason: str
    rule: str
    note: str


@dataclass
class _Inspection:
    week: int
    answered: int | None = None


@dataclass
class Loop:
    """The state of the loop: the versions that served (the last one is the champion), decisions and inspections."""

    world: World
    scenario: Scenario
    seed: int
    served: list[Version] = field(default_factory=list)
    promoted: int = 0
    trained: int = 0
    actions: list[tuple[int, RetrainingDecision]] = field(default_factory=list)
    inspections: dict[int, _Inspection] = field(default_factory=dict)

    @property
    def champion(self) -> Version:
        """Return the version that serves."""
        return self.served[-1]

    def known(self, week: int) -> list[LabeledRow]:
        """Return the rows whose labels have arrived by the end of a week, as they arrived."""
        rows = [*self.world.first]
        for arrived in self.world.weeks[: max(0, week - self.scenario.label_delay_weeks)]:
            rows += arrived
        return [(self.world.observed(row), self.world.label(row)) for row in rows]

    def train(self, week: int, spoil: float = 0.0) -> Version:
        """Train the next version, for a bad deployment with a share `spoil` of wrong labels."""
        self.trained += 1
        known = self.known(week)
        if spoil:
            # a bad deployment uses the champion's own rows: the model is at fault, not the data
            ids = {row.id for row, _ in [*self.champion.train, *self.champion.test]}
            known = [(row, tag) for row, tag in known if row.id in ids]
        return train(str(self.trained), known, week, self.scenario.test_share, spoil=spoil, seed=self.seed)

    def window(self, week: int) -> tuple[WindowRows, list[int]]:
        """Return the rows of the window that the champion was not trained on, and the weekly counts before it.

        The volume test gets weeks instead of days. The window starts no earlier than a person's last answer.
        """
        answered = max((inspection.answered or 1 for inspection in self.inspections.values()), default=1)
        begin = max(1, week - self.scenario.window_weeks + 1, answered)
        weeks = self.world.weeks[begin - 1 : week]
        labels = {row.id: tag for row, tag in self.known(week)}
        rows = [row for arrived in weeks for row in arrived if row.id not in self.champion.trained_on]
        observed = [self.world.observed(row) for row in rows]
        counts = [len(arrived) for arrived in weeks]
        before = [len(arrived) for arrived in self.world.weeks[: begin - 1]]
        truth = [labels.get(row.id) for row in rows]
        return WindowRows([row.title for row in observed], [row.description for row in observed], truth, counts), before

    def evaluation(self, week: int) -> tuple[dict[int, str], LabelDoubt | None]:
        """Return the labels that are new or changed since the champion's training, and label QA's figures on them."""
        known, then = self.known(week), self.champion.known
        new = {row.id: tag for row, tag in known if then.get(row.id) != tag}
        if not new:
            return new, None
        rows = columns(known)
        texts = text_classifier.frame(rows.titles, rows.descriptions)[text_classifier.TEXT].tolist()
        quality = find_suspects([row.id for row, _ in known], texts, rows.tags, repeats=1)
        suspects = {suspect.id for suspect in quality.suspects}
        evaluated = len(set(new) - set(quality.unjudged))
        doubt = LabelDoubt(len(suspects & set(new)), evaluated, len(suspects - set(new)), quality.judged - evaluated)
        return new, doubt

    def deployment(self, week: int) -> Deployment:
        """Return the deployment history for the policy."""
        past = []
        for then, decided in self.actions:
            inspection = self.inspections.get(then)
            answered = inspection.answered if inspection else None
            past.append(
                PastAction(
                    DAYS * (week - then),
                    decided.decision,
                    tuple(decided.evidence["problems"]),
                    decided.evidence["rule"],
                    None if answered is None else DAYS * (week - answered),
                )
            )
        return Deployment(
            self.champion.name,
            self.served[-2].name if len(self.served) > 1 else None,
            DAYS * (week - self.promoted),
            past,
            any(inspection.answered is None for inspection in self.inspections.values()),
        )

    def decide(self, week: int) -> tuple[tuple[str, ...], RetrainingDecision]:
        """Monitor the window and decide; return the names of the tests that detected drift, and the decision."""
        window, before = self.window(week)
        champion, scenario = self.champion, self.scenario
        watched = watch(
            champion.model,
            text_classifier.DEFAULT,
            columns(champion.train),
            columns(champion.test),
            window,
            before,
            previous=self.served[-2].model if len(self.served) > 1 else None,
            fitted=champion.folds,
            alpha=scenario.alpha,
            minimum=scenario.min_rows,
            seed=self.seed + week,
        )
        new, doubt = self.evaluation(week)
        evaluation = Evaluation(champion.f1, watched.online, watched.against_previous, len(new), doubt)
        age = DAYS * (week - champion.week)
        decided = decide(watched.tests, evaluation, age, self.deployment(week), scenario.limits)
        return tuple(test.name for test in watched.tests if test.detected), decided

    def act(self, week: int, decided: RetrainingDecision) -> str:
        """Carry out a decision, and return a note of what changed."""
        if decided.decision == "continue":
            return ""
        self.actions.append((week, decided))
        if decided.decision == "rollback":
            self.served.pop()
            self.promoted = week
            return f"version {self.champion.name} returns"
        if decided.decision == "inspect":
            self.inspections[week] = _Inspection(week)
            return ""
        candidate = self.train(week)
        if gate(candidate, self.champion, self.scenario.min_f1).action == "promote":
            self.served.append(candidate)
            self.promoted = week
            return f"version {candidate.name} is promoted"
        return f"version {candidate.name} is not promoted"

    def begin(self, week: int) -> list[str]:
        """Play what precedes a week's rows: a person answers, or a bad version is deployed."""
        notes = []
        for inspection in self.inspections.values():
            if inspection.answered is None and week >= inspection.week + self.scenario.answer_after_weeks:
                inspection.answered = week
                # the person repairs every fault that had begun by the inspection
                begun: set[str] = {fault.kind for fault in self.world.faults if fault.week <= inspection.week}
                repaired = sorted(begun.intersection(REPAIRED_BY_PEOPLE) - self.world.repaired)
                self.world.repaired.update(repaired)
                notes.append(f"a person answered{' and repaired ' + ', '.join(repaired) if repaired else ''}")
        if (bad := self.world.bad_deployment(week)) is not None:
            self.served.append(self.train(week - 1, bad.share))
            self.promoted = week - 1
            notes.append(f"bad version {self.champion.name} was deployed")
        return notes


def play(world: World, scenario: Scenario, seed: int) -> tuple[list[Week], float | None]:
    """Play a history to its end; return its weeks, and the last champion's weighted F1 on the pool.

    Raises:
        PlatformError: There are too few rows to train on.
    """
    loop = Loop(world, scenario, seed)
    loop.served.append(loop.train(0))
    weeks = []
    for number, rows in enumerate(world.weeks, 1):
        notes = loop.begin(number)
        serving = loop.champion
        f1, pool_f1 = f1_on(serving, rows, world.observed), _pool_f1(loop, number)
        drift, decided = loop.decide(number)
        done = loop.act(number, decided)
        notes += [done] if done else []
        rule = decided.evidence["rule"]
        weeks.append(
            Week(
                number,
                len(rows),
                serving.name,
                f1,
                pool_f1,
                drift,
                decided.decision,
                decided.reason,
                rule,
                "; ".join(notes),
            )
        )
    return weeks, _pool_f1(loop, len(world.weeks) + 1)


def _pool_f1(loop: Loop, week: int) -> float | None:
    """Return the champion's weighted F1 on the pool as of a week."""
    observed = {row.id: row for row in loop.world.pool_in(week)}
    rows = [row for row in loop.world.pool if row.id in observed]
    return f1_on(loop.champion, rows, lambda row: observed[row.id])
