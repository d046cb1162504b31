"""Open problems: reported once, after enough failures in a row, and once more when resolved."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mlops_platform.sensors.alerts import Cursor, Observation, OpenProblem, update_problems


class Outbox:
    """Collects what is sent; refuses it while the service is down."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.down = False

    def send(self, owners: Sequence[str], text: str) -> bool:
        assert owners == ("team:data",)
        if not self.down:
            self.texts.append(text)
        return not self.down


def _seen(mark: str, problem: str | None, key: str = "check:a") -> Observation:
    return Observation(key, mark, ("team:data",), problem)


def _course(events: str, threshold: int) -> list[str]:
    """Return what is sent over a course of events: `x` fails, `.` passes, `-` observes the last event again."""
    known: list[OpenProblem] = []
    sent, last = [], _seen("0", None)
    for number, event in enumerate(events, start=1):
        if event != "-":
            last = _seen(str(number), "It is broken." if event == "x" else None)
        outbox = Outbox()
        known = update_problems(known, [last], threshold, outbox.send)
        known = Cursor.model_validate_json(Cursor(problems=known).model_dump_json()).problems
        sent += [f"{number}:{'resolved' if text == 'Resolved: It is broken.' else text}" for text in outbox.texts]
    return sent


def test_a_problem_is_reported_once_and_when_it_is_resolved() -> None:
    assert _course("..x-xx-..x", 1) == ["3:It is broken.", "8:resolved", "10:It is broken."]


def test_a_threshold_counts_events_in_a_row_and_not_ticks() -> None:
    assert _course("x----x-.xxx-x.", 3) == ["11:It is broken. (3 times in a row)", "14:resolved"]


def test_what_was_not_sent_is_due_again() -> None:
    outbox = Outbox()
    outbox.down = True
    known = update_problems([], [_seen("1", "It is broken.")], 1, outbox.send)
    assert [problem.reported for problem in known] == [False]
    outbox.down = False
    for _ in range(2):
        known = update_problems(known, [_seen("1", "It is broken.")], 1, outbox.send)
    assert outbox.texts == ["It is broken."]


def test_what_is_not_observed_stays_open() -> None:
    outbox = Outbox()
    known = update_problems([], [_seen("1", "It is broken.")], 1, outbox.send)
    assert update_problems(known, [], 1, outbox.send) == known
    assert outbox.texts == ["It is broken."]


def test_the_cursor_of_an_earlier_release_is_read() -> None:
    stored = {
        "key": "check:a",
        "mark": "1",
        "owners": ["team:data"],
        "problem": "It is broken.",
        "times": 2,
        "told": True,
    }
    cursor = Cursor.model_validate({"problems": [stored], "since": 1.0, "runs": []})
    assert cursor.problems == [
        OpenProblem(key="check:a", mark="1", owners=("team:data",), problem="It is broken.", times=2)
    ]


@given(st.text("x.-", max_size=30), st.integers(1, 4))
def test_messages_alternate_and_fit_the_events(events: str, threshold: int) -> None:
    sent = [message.split(":")[1] == "resolved" for message in _course(events, threshold)]
    assert sent == [number % 2 == 1 for number in range(len(sent))]
    runs = [len(run) for run in events.replace("-", "").split(".")]
    assert sent.count(False) == sum(length >= threshold for length in runs)
