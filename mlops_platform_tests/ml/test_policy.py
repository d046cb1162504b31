"""The policy: each rule, their order, and what must hold whatever the figures."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.ml.drift import DriftTest, Interval
from mlops_platform.ml.metrics import Difference
from mlops_platform.ml.policy import DAMAGE, Evaluation, History, LabelDoubt, PastAction, decide

NAMES = ("text", "classes", "confidence", "unknown_words", "f1", *DAMAGE)


def report(*detected: str, run: bool = True) -> list[DriftTest]:
    p = 0.5 if run else None
    return [
        DriftTest(n, p, 0.001 if n in detected else p, 0.01 if n in detected else p, 0.05, n in detected, 500, 100, "")
        for n in NAMES
    ]


GOOD, BAD = Interval(0.9, 0.85, 0.94, 100), Interval(0.6, 0.5, 0.7, 100)
DEPLOYED = History("2", "1", 3)
LOST, EVEN = Difference(-0.2, -0.3, -0.1, 0.95, 2000, 100), Difference(-0.02, -0.1, 0.06, 0.95, 2000, 100)
DOUBT, FINE = LabelDoubt(30, 100, 30, 600), LabelDoubt(6, 100, 30, 600)
CALLED = PastAction(2, "inspect", ("text",), "unlabeled")


@pytest.mark.parametrize(
    ("tests", "evaluation", "age", "history", "decision", "rule"),
    [
        (report(), Evaluation(0.9), 5, History("1"), "continue", "quiet"),
        (report(run=False), Evaluation(0.9), 5, History("1"), "continue", "too_little"),
        ([], Evaluation(0.9), 5, History("1"), "continue", "too_little"),
        (report("text"), Evaluation(0.9, new_labels=50), 5, History("1"), "improve", "learnable"),
        (report("text"), Evaluation(0.9, new_labels=49), 5, History("1"), "inspect", "unlabeled"),
        (report("text", "volume"), Evaluation(0.9, new_labels=500), 5, History("1"), "inspect", "damaged"),
        (report("null_titles"), Evaluation(0.9, BAD, LOST), 5, DEPLOYED, "inspect", "damaged"),
        (report(), Evaluation(0.9, BAD, LOST), 5, DEPLOYED, "rollback", "bad_deployment"),
        (report("text", "f1"), Evaluation(0.9, BAD, LOST, 90), 5, DEPLOYED, "rollback", "bad_deployment"),
        (report(), Evaluation(0.9, BAD, LOST), 5, History("2", "1", 3, held=True), "rollback", "bad_deployment"),
        (report("volume"), Evaluation(0.9, BAD, LOST), 5, History("2", "1", 3, held=True), "continue", "held"),
        (report("f1"), Evaluation(0.9, BAD, None, 90, DOUBT), 5, History("1"), "inspect", "doubtful_labels"),
        (report("f1"), Evaluation(0.9, BAD, None, 90, FINE), 5, History("1"), "improve", "learnable"),
        (report("f1"), Evaluation(0.9, BAD, LOST, 90, DOUBT), 5, DEPLOYED, "rollback", "bad_deployment"),
        (report("text"), Evaluation(0.9, new_labels=90), 5, History("1", actions=[CALLED]), "improve", "learnable"),
        (report("text"), Evaluation(0.9, new_labels=9), 5, History("1", actions=[CALLED]), "continue", "acted_upon"),
        (report(), Evaluation(0.9, BAD, EVEN, 80), 5, DEPLOYED, "improve", "learnable"),
        (report(), Evaluation(0.9, BAD, LOST, 80), 30, History("2", "1", 30), "improve", "learnable"),
        (report(), Evaluation(0.9, BAD, LOST, 80), 5, History("2", None, 3), "improve", "learnable"),
        (report(), Evaluation(0.9, GOOD, EVEN), 5, DEPLOYED, "continue", "quiet"),
        (report(), Evaluation(0.9, new_labels=50), 90, History("1"), "improve", "old"),
        (report(), Evaluation(0.9, new_labels=49), 90, History("1"), "continue", "quiet"),
        (report("text"), Evaluation(0.9, new_labels=90), 5, History("1", held=True), "continue", "held"),
        (
            report("text"),
            Evaluation(0.9, new_labels=90),
            5,
            History("1", actions=[PastAction(7, "improve", ("text",))]),
            "continue",
            "acted_upon",
        ),
        (
            report("text"),
            Evaluation(0.9, new_labels=90),
            5,
            History("1", actions=[PastAction(8, "improve", ("text",))]),
            "improve",
            "learnable",
        ),
        (
            report("text", "classes"),
            Evaluation(0.9, new_labels=90),
            5,
            History("1", actions=[PastAction(1, "improve", ("text",))]),
            "improve",
            "learnable",
        ),
        (
            report("volume"),
            Evaluation(0.9),
            5,
            History("1", actions=[PastAction(1, "inspect", ("volume",))]),
            "continue",
            "damaged",
        ),
        (
            report(),
            Evaluation(0.9, BAD, LOST),
            5,
            History("2", "1", 3, [PastAction(1, "rollback", ("f1",))]),
            "inspect",
            "bad_deployment",
        ),
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
actions = st.builds(
    PastAction,
    st.integers(0, 30),
    st.sampled_from(["improve", "inspect", "rollback"]),
    st.lists(st.sampled_from(NAMES)).map(tuple),
    st.sampled_from(["unlabeled", "damaged", "learnable"]),
)
doubts = st.tuples(*[st.integers(0, 60)] * 4).map(lambda v: LabelDoubt(min(v[:2]), max(v[:2]), min(v[2:]), max(v[2:])))
evaluations = st.builds(
    Evaluation,
    st.floats(0, 1),
    intervals,
    st.none() | st.sampled_from([LOST, EVEN]),
    st.integers(0, 200),
    st.none() | doubts,
)
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
    if history.previous_version is None or evaluation.against_previous is not LOST:
        assert made.decision != "rollback"
    if evaluation.new_labels < 50:
        assert made.decision != "improve"
    if history.held:
        assert made.decision in ("continue", "rollback")
    assert made.reason.endswith(".")
    assert ". " not in made.reason
    assert "\n" not in made.reason
    json.dumps(made.evidence)
