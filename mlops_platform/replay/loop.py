"""The simulation: week by week predict, watch, decide and act, with the functions that the assets call."""

from __future__ import annotations

from collections.abc import Sequence
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
from mlops_platform.replay.fault_injection import MENDED_BY_A_PERSON, World
from mlops_platform.replay.history import Row
from mlops_platform.replay.model_version import Known, Version, columns, f1_on, judge, train
from mlops_platform.replay.scenario import Scenario

DAYS = 7


@dataclass(frozen=True)
class Week:
    """What happened in a week.

    Attributes:
        week: Its number, from 1.
        rows: Rows that came in.
        version: The champion that predicted them.
        f1: Its weighted F1 on them, against what is true.
        pool_f1: The same on the pool.
        drift: Names of the tests that fired.
        decision: What was decided at its end.
        reason: Why.
        rule: The rule that decided.
        note: What else happened.
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
    """The state of the loop: versions, who serves, what was decided, which labels are there."""

    world: World
    scenario: Scenario
    seed: int
    served: list[Version] = field(default_factory=list)
    promoted: int = 0
    made: int = 0
    actions: list[tuple[int, RetrainingDecision]] = field(default_factory=list)
    inspections: dict[int, _Inspection] = field(default_factory=dict)

    @property
    def champion(self) -> Version:
        """Who serves."""
        return self.served[-1]

    def known(self, week: int) -> Known:
        """Rows whose labels are there at the end of a week, as the world shows both."""
        rows = [*self.world.first]
        for came in self.world.weeks[: max(0, week - self.scenario.label_delay_weeks)]:
            rows += came
        return [(self.world.seen(row), self.world.label(row)) for row in rows]

    def train(self, week: int, spoil: float = 0.0) -> Version:
        """Train the next version."""
        self.made += 1
        known = self.known(week)
        if spoil:
            # a bad deployment is of the champion's own rows: what is wrong is the model, not the data
            ids = {row.id for row, _ in [*self.champion.train, *self.champion.test]}
            known = [(row, tag) for row, tag in known if row.id in ids]
        return train(str(self.made), known, week, self.scenario.test_share, spoil=spoil, seed=self.seed)

    def window(self, week: int) -> tuple[WindowRows, list[int]]:
        """The rows of the window that the champion was not trained on, and the weekly counts before it.

        Weeks stand for the days of the volume test. The window begins anew where a person has answered.
        """
        answered = max((each.answered for each in self.inspections.values() if each.answered), default=1)
        begin = max(1, week - self.scenario.window_weeks + 1, answered)
        weeks = self.world.weeks[begin - 1 : week]
        labels = {row.id: tag for row, tag in self.known(week)}
        rows = [row for came in weeks for row in came if row.id not in self.champion.trained_on]
        seen = [self.world.seen(row) for row in rows]
        counts = [len(came) for came in weeks]
        before = [len(came) for came in self.world.weeks[: begin - 1]]
        truth = [labels.get(row.id) for row in rows]
        return WindowRows([row.title for row in seen], [row.description for row in seen], truth, counts), before

    def evaluation(self, week: int) -> tuple[dict[int, str], LabelDoubt | None]:
        """The labels that are new or changed since the champion's training, and what label QA says of them."""
        known, then = self.known(week), self.champion.known
        new = {row.id: tag for row, tag in known if then.get(row.id) != tag}
        if not new:
            return new, None
        rows = columns(known)
        texts = text_classifier.frame(rows.titles, rows.descriptions)[text_classifier.TEXT].tolist()
        found = find_suspects([row.id for row, _ in known], texts, rows.tags, repeats=1)
        suspects = {each.id for each in found.suspects}
        judged = len(set(new) - set(found.unjudged))
        return new, LabelDoubt(len(suspects & set(new)), judged, len(suspects - set(new)), found.judged - judged)

    def deployment(self, week: int) -> Deployment:
        """The history that the policy asks for."""
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
            any(each.answered is None for each in self.inspections.values()),
        )

    def decide(self, week: int) -> tuple[tuple[str, ...], RetrainingDecision]:
        """Watch the window and decide; returns the tests that fired, too."""
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
        """Do what was decided; returns what came of it."""
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
        judged = judge(candidate, self.champion, self.scenario.min_f1)
        if judged.action == "promote":
            self.served.append(candidate)
            self.promoted = week
            return f"version {candidate.name} is promoted"
        return f"version {candidate.name} is not promoted"

    def begin(self, week: int) -> list[str]:
        """What happens before a week's rows: a person answers, somebody deploys a bad version."""
        notes = []
        for each in self.inspections.values():
            if each.answered is None and week >= each.week + self.scenario.answer_after_weeks:
                each.answered = week
                # the person finds what is wrong by then, if anything is
                there: set[str] = {fault.kind for fault in self.world.faults if fault.week <= each.week}
                mended = sorted(there.intersection(MENDED_BY_A_PERSON) - self.world.mended)
                self.world.mended.update(mended)
                notes.append(f"a person answered{' and mended ' + ', '.join(mended) if mended else ''}")
        if (bad := self.world.bad_deployment(week)) is not None:
            self.served.append(self.train(week - 1, bad.share))
            self.promoted = week - 1
            notes.append(f"bad version {self.champion.name} was deployed")
        return notes


def play(world: World, scenario: Scenario, seed: int) -> tuple[list[Week], float | None]:
    """Play a dealt history to its end.

    Returns:
        Its weeks, and the last champion's weighted F1 on the pool.

    Raises:
        PlatformError: There are too few rows to train on.
    """
    loop = Loop(world, scenario, seed)
    loop.served.append(loop.train(0))
    weeks = []
    for number, rows in enumerate(world.weeks, 1):
        notes = loop.begin(number)
        serving = loop.champion
        f1, pool_f1 = f1_on(serving, rows, world.seen), pool(loop, number)
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
    return weeks, pool(loop, len(world.weeks) + 1)


def pool(loop: Loop, week: int) -> float | None:
    """The champion's weighted F1 on the pool as the world is in a week."""
    rows: Sequence[Row] = loop.world.pool_in(week)
    shown = {row.id: row for row in rows}
    truth = [row for row in loop.world.pool if row.id in shown]
    return f1_on(loop.champion, truth, lambda row: shown[row.id])
