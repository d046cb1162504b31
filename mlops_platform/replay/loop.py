"""The learning loop, week by week: predict, monitor, decide and act with the functions that the assets call.

Faults are injected by ``fault_injection``; whether the decisions were right is for ``scoring``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mlops_platform.ml.classifier import text_classifier
from mlops_platform.ml.labeling.label_quality import find_suspects
from mlops_platform.ml.monitoring import retraining_policy as policy
from mlops_platform.ml.monitoring.drift_monitor import WindowRows, watch
from mlops_platform.replay.fault_injection import REPAIRED_BY_PEOPLE, World
from mlops_platform.replay.model_version import LabeledRow, Version, columns, f1_on, gate, train
from mlops_platform.replay.scenario import Scenario

DAYS = 7


@dataclass(frozen=True)
class Week:
    """What happened in a week, numbered from 1.

    Attributes:
        version: The champion that predicted the rows.
        f1: The champion's weighted F1 on the rows that arrived, against the true tags.
        pool_f1: The champion's weighted F1 on the pool.
        drift: Names of the tests that detected drift.
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
class Loop:
    """The state of the loop: the versions that served (the last one is the champion), decisions and inspections.

    `answers` maps the week of each inspection to the week in which a person answered it.
    """

    world: World
    scenario: Scenario
    seed: int
    served: list[Version] = field(default_factory=list)
    promoted: int = 0
    trained: int = 0
    actions: list[tuple[int, policy.RetrainingDecision]] = field(default_factory=list)
    answers: dict[int, int | None] = field(default_factory=dict)

    @property
    def champion(self) -> Version:
        """Return the version that serves."""
        return self.served[-1]

    @property
    def previous(self) -> Version | None:
        """Return the previous champion."""
        return self.served[-2] if len(self.served) > 1 else None

    def known(self, week: int) -> list[LabeledRow]:
        """Return the rows whose labels have arrived by the end of a week, as they arrived."""
        labeled_weeks = self.world.weeks[: max(0, week - self.scenario.label_delay_weeks)]
        rows = [row for part in (self.world.first, *labeled_weeks) for row in part]
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
        answered = max((answer or 1 for answer in self.answers.values()), default=1)
        begin = max(1, week - self.scenario.window_weeks + 1, answered)
        counts = [len(arrived) for arrived in self.world.weeks[:week]]
        labels = {row.id: tag for row, tag in self.known(week)}
        arrived = [row for rows in self.world.weeks[begin - 1 : week] for row in rows]
        rows = [self.world.observed(row) for row in arrived if row.id not in self.champion.trained_on]
        truth = [labels.get(row.id) for row in rows]
        titles, descriptions = [row.title for row in rows], [row.description for row in rows]
        return WindowRows(titles, descriptions, truth, counts[begin - 1 :]), counts[: begin - 1]

    def evaluation(self, week: int) -> tuple[dict[int, str], policy.LabelDoubt | None]:
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
        doubt = policy.LabelDoubt(
            len(suspects & set(new)), evaluated, len(suspects - set(new)), quality.judged - evaluated
        )
        return new, doubt

    def deployment(self, week: int) -> policy.History:
        """Return the deployment history for the policy."""
        past = []
        for then, decided in self.actions:
            answered = self.answers.get(then)
            days_since_answer = None if answered is None else DAYS * (week - answered)
            problems, rule = tuple(decided.evidence["problems"]), decided.evidence["rule"]
            past.append(policy.PastAction(DAYS * (week - then), decided.decision, problems, rule, days_since_answer))
        previous = self.previous.name if self.previous else None
        return policy.History(
            self.champion.name, previous, DAYS * (week - self.promoted), past, None in self.answers.values()
        )

    def decide(self, week: int) -> tuple[tuple[str, ...], policy.RetrainingDecision]:
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
            previous=self.previous.model if self.previous else None,
            fitted=champion.folds,
            alpha=scenario.alpha,
            minimum=scenario.min_rows,
            seed=self.seed + week,
        )
        new, doubt = self.evaluation(week)
        evaluation = policy.Evaluation(champion.f1, watched.online, watched.against_previous, len(new), doubt)
        age = DAYS * (week - champion.week)
        decided = policy.decide(watched.tests, evaluation, age, self.deployment(week), scenario.limits)
        return tuple(test.name for test in watched.tests if test.detected), decided

    def promote(self, version: Version, week: int) -> None:
        """Make a version the champion."""
        self.served.append(version)
        self.promoted = week

    def act(self, week: int, decided: policy.RetrainingDecision) -> list[str]:
        """Carry out a decision, and return notes of what changed."""
        if decided.decision == "continue":
            return []
        self.actions.append((week, decided))
        if decided.decision == "rollback":
            self.served.pop()
            self.promoted = week
            return [f"version {self.champion.name} returns"]
        if decided.decision == "inspect":
            self.answers[week] = None
            return []
        candidate = self.train(week)
        if gate(candidate, self.champion, self.scenario.min_f1).action != "promote":
            return [f"version {candidate.name} is not promoted"]
        self.promote(candidate, week)
        return [f"version {candidate.name} is promoted"]

    def begin(self, week: int) -> list[str]:
        """Play what precedes a week's rows: a person answers, or a bad version is deployed."""
        notes = []
        for inspected, answered in self.answers.items():
            if answered is None and week >= inspected + self.scenario.answer_after_weeks:
                self.answers[inspected] = week
                # the person repairs every fault that had begun by the inspection
                begun: set[str] = {fault.kind for fault in self.world.faults if fault.week <= inspected}
                repaired = sorted(begun.intersection(REPAIRED_BY_PEOPLE) - self.world.repaired)
                self.world.repaired.update(repaired)
                notes.append(f"a person answered{' and repaired ' + ', '.join(repaired) if repaired else ''}")
        for fault in self.world.faults:
            if fault.kind == "bad_deployment" and fault.week == week:
                self.promote(self.train(week - 1, fault.share), week - 1)
                notes.append(f"bad version {self.champion.name} was deployed")
        return notes

    def pool_f1(self, week: int) -> float | None:
        """Return the champion's weighted F1 on the pool as of a week."""
        observed = {row.id: row for row in self.world.pool_in(week)}
        rows = [row for row in self.world.pool if row.id in observed]
        return f1_on(self.champion, rows, lambda row: observed[row.id])


def play(world: World, scenario: Scenario, seed: int) -> tuple[list[Week], float | None]:
    """Play a history to its end; return its weeks, and the last champion's weighted F1 on the pool."""
    loop = Loop(world, scenario, seed)
    loop.promote(loop.train(0), 0)
    weeks = []
    for number, rows in enumerate(world.weeks, 1):
        notes = loop.begin(number)
        serving = loop.champion
        f1, pool_f1 = f1_on(serving, rows, world.observed), loop.pool_f1(number)
        drift, decided = loop.decide(number)
        notes += loop.act(number, decided)
        weeks.append(
            Week(
                week=number,
                rows=len(rows),
                version=serving.name,
                f1=f1,
                pool_f1=pool_f1,
                drift=drift,
                decision=decided.decision,
                reason=decided.reason,
                rule=decided.evidence["rule"],
                note="; ".join(notes),
            )
        )
    return weeks, loop.pool_f1(len(world.weeks) + 1)
