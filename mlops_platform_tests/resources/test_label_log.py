"""The log of people's labels: several writers, killed writers, damage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_platform.resources.label_log import (
    Label,
    LabelError,
    append,
    append_missing,
    fingerprint,
    now,
    read,
    standing,
)
from mlops_platform.settings import PROJECT_ROOT

AT = "2026-03-01T10:00:00+00:00"
FIRST = Label(1, "mlops", AT, "ann", "page")
HEADER = "id,tag,labeled_at,labeled_by,source\n"

WRITER = """
import sys
from pathlib import Path
from mlops_platform.resources.label_log import Label, append, now
for number in range(int(sys.argv[3])):
    append(Path(sys.argv[1]), [Label(number, "mlops", now(), sys.argv[2], "page")])
    print(number, flush=True)
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)],
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "home" / "labels.csv"


def test_what_was_appended_is_read(log: Path) -> None:
    assert read(log).labels == ()
    assert fingerprint(log) is None
    second = Label(2, "", now(), 'Änn, "the" second', "page-undo")
    append(log, [FIRST])
    append(log, [second])
    found = read(log)
    assert found.labels == (FIRST, second)
    assert found.fingerprint == fingerprint(log)
    assert log.read_text().startswith(HEADER)


def test_several_processes_lose_nothing(log: Path) -> None:
    writers = [writer(log, f"writer {number}", 40) for number in range(3)]
    for process in writers:
        assert process.wait(60) == 0
        process.communicate()
    labels = read(log).labels
    assert len(labels) == 120
    for number in range(3):
        assert [each.id for each in labels if each.labeled_by == f"writer {number}"] == list(range(40))


def test_a_killed_writer_loses_nothing_that_it_had_acknowledged(log: Path) -> None:
    process = writer(log, "ann", 100_000)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    told = 20 + len([line for line in process.communicate()[0].splitlines() if line.strip()])
    assert len(read(log).labels) in (told, told + 1)
    append(log, [FIRST])
    assert read(log).labels[-1] == FIRST


def test_a_torn_line_is_set_aside_and_spoils_nothing(log: Path) -> None:
    append(log, [FIRST])
    whole = fingerprint(log)
    with log.open("a") as file:
        file.write("2,mlo")
    assert read(log).labels == (FIRST,)
    assert fingerprint(log) == whole
    append(log, [Label(3, "other", AT, "ann", "page")])
    assert [label.id for label in read(log).labels] == [1, 3]
    assert log.with_name("labels.csv.torn").read_text() == "2,mlo\n"


@pytest.mark.parametrize("torn", ["i", HEADER[:-1], ""])
def test_a_torn_header_is_written_anew(log: Path, torn: str) -> None:
    log.parent.mkdir()
    log.write_text(torn)
    assert read(log).labels == ()
    append(log, [FIRST])
    assert read(log).labels == (FIRST,)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("x,mlops,2026-01-01T00:00:00Z,ann,page", "'x' is no id"),
        ("99999999999999999999,mlops,2026-01-01T00:00:00Z,ann,page", "is no id"),
        ("1,mlops,yesterday,ann,page", "yesterday"),
        ("1,mlops,2026-01-01T00:00:00,ann,page", "has no offset from UTC"),
        ("1,mlops,2026-01-01T00:00:00Z,,page", "labeled_by is ''"),
        ("1,mlops,2026-01-01T00:00:00Z,ann", "it has 4 values, not 5"),
        ("", "it has 0 values, not 5"),
        ('1,"mlops,2026-01-01T00:00:00Z,ann,page', "line 3"),
        ("1,gardening,2026-01-01T00:00:00Z,ann,page", "'gardening' is none of the tags mlops, other"),
    ],
)
def test_a_damaged_line_is_refused_by_file_and_line(log: Path, line: str, says: str) -> None:
    append(log, [FIRST])
    with log.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(LabelError) as error:
        read(log, ["mlops", "other"])
    assert str(error.value).startswith(f"{log}, line 3, is no label (")
    assert says in str(error.value)


def test_bytes_and_a_foreign_file_are_refused(log: Path) -> None:
    log.parent.mkdir()
    log.write_text("id,tag\n1,mlops\n")
    with pytest.raises(LabelError, match=r"line 1, is no label .the first line must be id,tag"):
        read(log)
    log.write_bytes(HEADER.encode() + b"1,\xff,2026-01-01T00:00:00Z,ann,page\n")
    with pytest.raises(LabelError, match="line 2"):
        read(log)


def test_a_spreadsheet_may_have_saved_it(log: Path) -> None:
    append(log, [FIRST])
    log.write_bytes(b"\xef\xbb\xbf" + log.read_bytes().replace(b"\n", b"\r\n"))
    assert read(log).labels == (FIRST,)


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
    with pytest.raises(LabelError, match="The label of project"):
        append(log, [FIRST, label])
    assert not log.exists()


def test_a_full_disk_is_a_sentence_and_nothing_is_half_written(log: Path) -> None:
    append(log, [FIRST])
    # the limit on the size of files stands for a full disk: write fails with an OSError
    code = (
        "import resource, signal, sys; from pathlib import Path; "
        "from mlops_platform.resources.label_log import *; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({log.stat().st_size + 20}, resource.RLIM_INFINITY)); "
        "append(Path(sys.argv[1]), [Label(2, 'mlops', now(), 'ann', 'page')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(log)], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    assert f"LabelError: The label could not be written to {log} (File too large)" in ran.stderr
    assert read(log).labels == (FIRST,)
    assert log.read_bytes().endswith(b"page\n")


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
