"""The policy: each rule, their order, and what must hold whatever the figures."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.ml.evaluation.metrics import Difference
from mlops_platform.ml.monitoring.drift_tests import DriftTest, Interval
from mlops_platform.ml.monitoring.retraining_policy import DAMAGE, Evaluation, History, LabelDoubt, PastAction, decide

NAMES = ("text", "classes", "confidence", "unknown_words", "f1", *DAMAGE)


def report(*detected: str, run: bool = True) -> list[DriftTest]:
    p = 0.5 if run else None
    return [
        DriftTest(n, p, 0.001 if n in detected else p, 0.01 if n in detected else p, 0.05, n in detected, 500, 100, "")
        for n in NAMES
    ]


def nearly() -> list[DriftTest]:
    """Classes moved, and the text test just missed it."""
    return [*report("classes")[1:], DriftTest("text", 0.1, 0.03, 0.2, 0.05, False, 500, 100, "")]


LOSS, GAIN = Difference(-0.2, -0.3, -0.1, 0.99, 2000, 100), Difference(0.0, -0.1, 0.1, 0.99, 2000, 100)
GOOD = Interval(0.9, 0.85, 0.94, 100)
DOUBT, TRUST = LabelDoubt(30, 100, 40, 600), LabelDoubt(9, 100, 40, 600)
DEPLOYED = History("2", "1", 3)


def past(action: str, *problems: str, days: int = 1, answered: int | None = None) -> History:
    return History("1", actions=[PastAction(days, action, problems, answered_days_ago=answered)])  # type: ignore[arg-type]


def rolled_back(held: bool = False) -> History:
    return History("2", "1", 3, [PastAction(1, "rollback", ("deployment",))], held)


LABELS = Evaluation(0.9, new_labels=90)
TWICE = History("1", actions=[PastAction(d, "improve", ("text",)) for d in (9, 20)])


@pytest.mark.parametrize(
    ("tests", "evaluation", "age", "history", "decision", "rule"),
    [
        (report(), Evaluation(0.9), 5, History("1"), "continue", "quiet"),
        (report(run=False), Evaluation(0.9), 5, History("1"), "continue", "too_little"),
        ([], Evaluation(0.9), 5, History("1"), "continue", "too_little"),
        (report("text"), Evaluation(0.9, new_labels=50), 5, History("1"), "improve", "learnable"),
        (report("text"), Evaluation(0.9, new_labels=49), 5, History("1"), "inspect", "unlabeled"),
        (report("text", "volume"), Evaluation(0.9, new_labels=500), 5, History("1"), "inspect", "damaged"),
        (report("null_titles"), Evaluation(0.9, GOOD, LOSS), 5, DEPLOYED, "inspect", "damaged"),
        # a bad deployment: by labels, or without them by answers that shifted where the texts are as ever
        (report(), Evaluation(0.9, GOOD, LOSS), 5, DEPLOYED, "rollback", "bad_deployment"),
        (report("f1", "text"), Evaluation(0.9, GOOD, LOSS, 500), 5, DEPLOYED, "rollback", "bad_deployment"),
        (report("f1"), Evaluation(0.9, GOOD, GAIN, 80), 5, DEPLOYED, "improve", "learnable"),
        (report("f1"), Evaluation(0.9, GOOD, LOSS, 80), 30, History("2", "1", 30), "improve", "learnable"),
        (report("f1"), Evaluation(0.9, GOOD, LOSS, 80), 5, History("2", None, 3), "improve", "learnable"),
        (report("classes"), Evaluation(0.9), 5, DEPLOYED, "rollback", "bad_deployment"),
        # trained because of drift: it answers otherwise by right
        (
            report("classes"),
            Evaluation(0.9),
            5,
            History("2", "1", 3, [PastAction(10, "improve", ("text",))]),
            "inspect",
            "unlabeled",
        ),
        (report("classes"), Evaluation(0.9, GOOD, GAIN, 80), 5, DEPLOYED, "improve", "learnable"),
        (report("classes", "text"), Evaluation(0.9), 5, DEPLOYED, "inspect", "unlabeled"),
        (nearly(), Evaluation(0.9), 5, DEPLOYED, "inspect", "unlabeled"),
        (report("classes"), Evaluation(0.9), 5, History("2", "1", 15), "inspect", "unlabeled"),
        (report(), Evaluation(0.9, GOOD, LOSS), 5, rolled_back(), "inspect", "bad_deployment"),
        (report(), Evaluation(0.9, GOOD, LOSS), 5, rolled_back(held=True), "continue", "held"),
        # labels that are doubted are not learnt from, nor do they judge a deployment
        (report("f1"), Evaluation(0.9, GOOD, None, 90, DOUBT), 5, History("1"), "inspect", "doubtful_labels"),
        (report("f1"), Evaluation(0.9, GOOD, LOSS, 90, DOUBT), 5, DEPLOYED, "inspect", "doubtful_labels"),
        (report("f1"), Evaluation(0.9, GOOD, None, 90, TRUST), 5, History("1"), "improve", "learnable"),
        (report("text"), Evaluation(0.9, GOOD, None, 90, DOUBT), 5, History("1"), "improve", "learnable"),
        (
            report("f1"),
            Evaluation(0.9, GOOD, None, 90, DOUBT),
            5,
            past("inspect", "f1", "labels", days=20, answered=6),
            "continue",
            "doubtful_labels",
        ),
        (report(), Evaluation(0.9, new_labels=50), 90, History("1"), "improve", "old"),
        (report(), Evaluation(0.9, new_labels=49), 90, History("1"), "continue", "quiet"),
        (report("text"), LABELS, 5, History("1", held=True), "continue", "held"),
        (report(), Evaluation(0.9, GOOD, LOSS), 5, History("2", "1", 3, held=True), "rollback", "bad_deployment"),
        # what was acted upon rests, each time twice as long
        (report("text"), LABELS, 5, past("improve", "text", days=7), "continue", "acted_upon"),
        (report("text"), LABELS, 5, past("improve", "text", days=8), "improve", "learnable"),
        (report("text"), LABELS, 5, TWICE, "continue", "acted_upon"),
        (report("text", "classes"), LABELS, 5, past("improve", "text"), "improve", "learnable"),
        (report("volume"), Evaluation(0.9), 5, past("inspect", "volume"), "continue", "damaged"),
        # an inspection for want of labels is over once they are there
        (report("text"), Evaluation(0.9), 5, past("inspect", "text", days=5), "continue", "acted_upon"),
        (report("text"), LABELS, 5, past("inspect", "text", days=5), "improve", "learnable"),
    ],
)
def test_each_rule(
    tests: list[DriftTest], evaluation: Evaluation, age: int, history: History, decision: str, rule: str
) -> None:
    made = decide(tests, evaluation, age, history)
    assert (made.decision, made.evidence["rule"]) == (decision, rule)


intervals = st.none() | st.tuples(*[st.floats(0, 1)] * 3).map(
    lambda v: Interval(sorted(v)[1], sorted(v)[0], sorted(v)[2], 100)
)
differences = st.none() | st.tuples(*[st.floats(-1, 1)] * 3).map(
    lambda v: Difference(sorted(v)[1], sorted(v)[0], sorted(v)[2], 0.99, 2000, 100)
)
doubts = st.none() | st.tuples(*[st.integers(0, 200)] * 4).map(
    lambda v: LabelDoubt(min(v[:2]), max(v[:2]), min(v[2:]), max(v[2:]))
)
actions = st.builds(
    PastAction,
    st.integers(0, 30),
    st.sampled_from(["improve", "inspect", "rollback"]),
    st.lists(st.sampled_from([*NAMES, "deployment", "labels"])).map(tuple),
)
evaluations = st.builds(Evaluation, st.floats(0, 1), intervals, differences, st.integers(0, 200), doubts)
histories = st.builds(
    History,
    st.just("7"),
    st.none() | st.just("6"),
    st.none() | st.integers(0, 60),
    st.lists(actions, max_size=3),
    st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(st.sets(st.sampled_from(NAMES)), st.booleans(), evaluations, st.integers(0, 400), histories)
def test_what_always_holds(found: set[str], run: bool, evaluation: Evaluation, age: int, history: History) -> None:
    tests = report(*sorted(found), run=run)
    made = decide(tests, evaluation, age, history)
    assert made == decide(tests, evaluation, age, history)
    if found & set(DAMAGE):
        assert made.decision in ("inspect", "continue")
    if history.previous_version is None or history.promoted_days_ago is None or history.promoted_days_ago > 14:
        assert made.decision != "rollback"
    if evaluation.new_labels < 50:
        assert made.decision != "improve"
    if "labels" in made.evidence["problems"]:
        assert made.decision in ("inspect", "continue")
    if history.held:
        assert made.decision in ("continue", "rollback")
    assert made.reason.endswith(".")
    assert ". " not in made.reason
    assert "\n" not in made.reason
    json.dumps(made.evidence)


@settings(max_examples=200, deadline=None)
@given(st.sets(st.sampled_from(NAMES), min_size=1), evaluations, st.booleans())
def test_an_alarm_that_keeps_ringing_leads_to_few_actions(found: set[str], evaluation: Evaluation, new: bool) -> None:
    """The same day for 60 days, with each inspection answered at once: at most one action a week, waits that double."""
    past: list[tuple[int, PastAction]] = []
    for day in range(60):
        taken = [PastAction(day - then, action.action, action.problems, "", day - then) for then, action in past]
        made = decide(report(*sorted(found)), evaluation, day, History("2", "1" if new else None, day, taken))
        if made.decision != "continue":
            past.append((day, PastAction(0, made.decision, tuple(made.evidence["problems"]))))
    assert sum(action.action == "improve" for _, action in past) <= 4
    assert sum(action.action == "rollback" for _, action in past) <= 2
    assert len(past) <= 10
