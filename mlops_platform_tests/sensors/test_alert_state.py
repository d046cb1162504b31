"""Open problems: reported once, after enough failures in a row, and once more when resolved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlops_platform.sensors.alert_state import (
    Observation,
    OpenProblem,
    as_json,
    from_json,
    mark_reported,
    update_problems,
)


def _seen(mark: str, problem: str | None, key: str = "check:a") -> Observation:
    return Observation(key, mark, ("team:data",), problem)


def _course(events: str, threshold: int) -> list[str]:
    """Return what is sent over a course of events: `x` fails, `.` passes, `-` observes the last event again."""
    known: dict[str, OpenProblem] = {}
    sent, last = [], _seen("0", None)
    for number, event in enumerate(events, start=1):
        if event != "-":
            last = _seen(str(number), "It is broken." if event == "x" else None)
        known, due = update_problems(known, [last], threshold)
        known = from_json(as_json(mark_reported(known, due)))
        sent += [f"{number}:{'resolved' if alert.resolved else alert.text}" for alert in due]
    return sent


def test_a_problem_is_reported_once_and_when_it_is_resolved() -> None:
    assert _course("..x-xx-..x", 1) == ["3:It is broken.", "8:resolved", "10:It is broken."]


def test_a_threshold_counts_events_in_a_row_and_not_ticks() -> None:
    assert _course("x----x-.xxx-x.", 3) == ["11:It is broken. (3 times in a row)", "14:resolved"]


def test_what_was_not_sent_is_due_again() -> None:
    known, due = update_problems({}, [_seen("1", "It is broken.")], 1)
    assert len(due) == 1
    assert len(update_problems(known, [_seen("1", "It is broken.")], 1)[1]) == 1
    assert update_problems(mark_reported(known, due), [_seen("1", "It is broken.")], 1)[1] == []


def test_what_is_not_observed_stays_open() -> None:
    known, due = update_problems({}, [_seen("1", "It is broken.")], 1)
    assert update_problems(mark_reported(known, due), [], 1) == (mark_reported(known, due), [])


def test_the_cursor_of_an_earlier_release_is_read() -> None:
    stored = {
        "key": "check:a",
        "mark": "1",
        "owners": ["team:data"],
        "problem": "It is broken.",
        "times": 2,
        "told": True,
    }
    assert from_json([stored]) == {"check:a": OpenProblem("check:a", "1", ("team:data",), "It is broken.", times=2)}


@given(st.text("x.-", max_size=30), st.integers(1, 4))
def test_messages_alternate_and_fit_the_events(events: str, threshold: int) -> None:
    sent = [message.split(":")[1] == "resolved" for message in _course(events, threshold)]
    assert sent == [number % 2 == 1 for number in range(len(sent))]
    runs = [len(run) for run in events.replace("-", "").split(".")]
    assert sent.count(False) == sum(length >= threshold for length in runs)
