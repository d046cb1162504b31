"""The labels of people in the event log, and the import of the CSV file of earlier versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_platform.errors import EventLogError, LabelError
from mlops_platform.resources.labels.label_log import Label, append, append_missing, fingerprint, now, read, standing

AT = "2026-03-01T10:00:00+00:00"
FIRST = Label(1, "mlops", AT, "ann", "page")
HEADER = "id,tag,labeled_at,labeled_by,source\n"


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


def test_a_csv_file_of_an_earlier_version_is_imported_once(log: Path) -> None:
    log.parent.mkdir()
    old = log.with_name("labels.csv")
    lines = HEADER + '1,mlops,2026-03-01T10:00:00+00:00,ann,page\n2,"a, b",2026-03-01T11:00:00Z,"Änn, ""2nd""",page\n'
    old.write_text(lines + "3,torn")  # the last line was never acknowledged
    assert fingerprint(log) is not None
    expected = (FIRST, Label(2, "a, b", "2026-03-01T11:00:00Z", 'Änn, "2nd"', "page"))
    assert read(log).labels == expected
    assert not old.exists()
    assert old.with_name("labels.csv.imported").read_text() == lines + "3,torn"
    # a kill before it was renamed; and a spreadsheet may have saved it
    old.write_bytes(b"\xef\xbb\xbf" + lines.replace("\n", "\r\n").encode())
    second = Label(5, "other", AT, "bob", "page")
    append(log, [second])
    assert read(log).labels == (*expected, second)
    for empty in ("", "i", HEADER):
        old.write_text(empty)
        assert read(log).labels == (*expected, second)
        assert not old.exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("x,mlops,2026-01-01T00:00:00Z,ann,page", "'x'"),
        ("99999999999999999999,mlops,2026-01-01T00:00:00Z,ann,page", "is not an id"),
        ("1,mlops,yesterday,ann,page", "yesterday"),
        ("1,mlops,2026-01-01T00:00:00,ann,page", "has no offset from UTC"),
        ("1,mlops,2026-01-01T00:00:00Z,,page", "labeled_by is ''"),
        ("1,mlops,2026-01-01T00:00:00Z,ann", "it has 4 values, not 5"),
        ('1,"mlops,2026-01-01T00:00:00Z,ann,page', "line 3"),
    ],
)
def test_a_damaged_csv_file_is_reported_and_not_imported(log: Path, line: str, says: str) -> None:
    old = log.with_name("labels.csv")
    old.parent.mkdir()
    old.write_text(HEADER + "1,mlops,2026-03-01T10:00:00+00:00,ann,page\n" + line + "\n")
    with pytest.raises(LabelError) as error:
        read(log)
    assert str(error.value).startswith(f"{old}, line 3, is not a label (")
    assert says in str(error.value)
    assert old.exists()
    assert not log.exists()


def test_bytes_and_a_foreign_file_are_refused(log: Path) -> None:
    old = log.with_name("labels.csv")
    old.parent.mkdir()
    old.write_text("id,tag\n1,mlops\n")
    with pytest.raises(LabelError, match=r"line 1, is not a label .the first line must be id,tag"):
        read(log)
    old.write_bytes(HEADER.encode() + b"1,\xff,2026-01-01T00:00:00Z,ann,page\n")
    with pytest.raises(LabelError, match="line 2"):
        read(log)


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
