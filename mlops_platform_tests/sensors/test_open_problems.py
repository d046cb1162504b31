"""The account of open problems: told once, after enough failures in a row, and once more when over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlops_platform.sensors.open_problems import (
    Observation,
    OpenProblem,
    account,
    as_json,
    from_json,
    marked_told,
)


def _seen(mark: str, problem: str | None, key: str = "check:a") -> Observation:
    return Observation(key, mark, ("team:data",), problem)


def _course(told: str, threshold: int) -> list[str]:
    """What is sent over a course of events: `x` fails, `.` is well, `-` sees the last one again."""
    known: dict[str, OpenProblem] = {}
    sent, last = [], _seen("0", None)
    for number, event in enumerate(told, start=1):
        if event != "-":
            last = _seen(str(number), "It is broken." if event == "x" else None)
        known, due = account(known, [last], threshold)
        known = from_json(as_json(marked_told(known, due)))
        sent += [f"{number}:{'over' if alert.over else alert.text}" for alert in due]
    return sent


def test_a_problem_is_told_once_and_when_it_is_over() -> None:
    assert _course("..x-xx-..x", 1) == ["3:It is broken.", "8:over", "10:It is broken."]


def test_a_threshold_counts_events_in_a_row_and_not_looks() -> None:
    assert _course("x----x-.xxx-x.", 3) == ["11:It is broken. (3 times in a row)", "14:over"]


def test_what_was_not_sent_is_due_again() -> None:
    known, due = account({}, [_seen("1", "It is broken.")], 1)
    assert len(due) == 1
    assert len(account(known, [_seen("1", "It is broken.")], 1)[1]) == 1
    assert account(marked_told(known, due), [_seen("1", "It is broken.")], 1)[1] == []


def test_what_is_not_looked_at_stays_open() -> None:
    known, due = account({}, [_seen("1", "It is broken.")], 1)
    assert account(marked_told(known, due), [], 1) == (marked_told(known, due), [])


@given(st.text("x.-", max_size=30), st.integers(1, 4))
def test_messages_take_turns_and_fit_the_course(told: str, threshold: int) -> None:
    sent = [each.split(":")[1] == "over" for each in _course(told, threshold)]
    assert sent == [number % 2 == 1 for number in range(len(sent))]
    runs = [len(run) for run in told.replace("-", "").split(".")]
    assert sent.count(False) == sum(length >= threshold for length in runs)
