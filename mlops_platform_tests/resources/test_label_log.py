"""The labels of people in the event log."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_platform.errors import EventLogError, LabelError
from mlops_platform.resources.labels.label_log import Label, append, append_missing, fingerprint, now, read, standing

AT = "2026-03-01T10:00:00+00:00"
FIRST = Label(1, "mlops", AT, "ann", "page")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "home" / "events.db"


def test_what_was_appended_is_read(log: Path) -> None:
    assert read(log).labels == ()
    assert fingerprint(log) is None
    second = Label(2, "", now(), 'Änn, "the" second', "page-undo")
    append(log, [FIRST])
    append(log, [second])
    found = read(log)
    assert found.labels == (FIRST, second)
    assert found.fingerprint == fingerprint(log)
    append(log, [FIRST])
    assert fingerprint(log) not in (None, found.fingerprint)


def test_a_tag_that_is_not_known_is_refused_until_the_person_gives_another(log: Path) -> None:
    append(log, [FIRST, Label(2, "gardening", AT, "bob", "page")])
    with pytest.raises(LabelError, match="Project 2 has the label 'gardening' by bob, which is none of the tags mlops"):
        read(log, ["mlops", "other"])
    assert len(read(log).labels) == 2
    append(log, [Label(2, "other", "2026-03-01T10:01:00Z", "bob", "import-abc")])
    assert len(read(log, ["mlops", "other"]).labels) == 3


@pytest.mark.parametrize(
    "label",
    [
        Label(-1, "mlops", AT, "ann", "page"),
        Label(1, "ml\nops", AT, "ann", "page"),
        Label(1, "mlops", AT, "an\nn", "page"),
        Label(1, "mlops", "now", "ann", "page"),
        Label(1, "mlops", AT, "ann\udc80", "page"),
        Label(2**63, "mlops", AT, "ann", "page"),
        Label(1, "mlops", "2026-01-01T00:00:00", "ann", "page"),
        Label(1, "mlops", AT, "", "page"),
    ],
)
def test_what_is_no_label_is_not_written(log: Path, label: Label) -> None:
    with pytest.raises(LabelError, match=r"The label of project .* is not valid"):
        append(log, [FIRST, label])
    assert not log.exists()


def test_a_log_that_cannot_be_read_has_a_fingerprint_and_a_sentence(log: Path) -> None:
    log.parent.mkdir()
    log.write_bytes(b"nonsense" * 1000)
    assert fingerprint(log) == "unreadable"
    with pytest.raises(EventLogError, match=r"events.db cannot be read"):
        read(log)


def test_append_missing_sees_what_is_there(log: Path) -> None:
    append(log, [FIRST])
    second = Label(2, "other", AT, "bob", "page")
    for added in ([second], []):
        chosen = append_missing(log, lambda there: [each for each in (FIRST, second) if each not in there])
        assert list(chosen) == added
    assert read(log).labels == (FIRST, second)


def test_the_last_word_of_each_person_stands() -> None:
    said = [
        Label(1, "other", "2026-03-01T12:00:00+01:00", "ann", "page"),  # an hour later by the clock, not in UTC
        Label(1, "mlops", "2026-03-01T11:30:00+00:00", "ann", "page"),
        Label(1, "other", AT, "bob", "page"),
        Label(2, "other", AT, "ann", "page"),
        Label(2, "", AT, "ann", "page-undo"),
    ]
    assert standing(said) == {(1, "ann"): "mlops", (1, "bob"): "other"}
