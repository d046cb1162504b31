"""The event log under threads, processes, kills and full disks: what was acknowledged is there, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.errors import EventLogError
from mlops_platform.resources.event_log import Event, EventLog
from mlops_platform.settings import PROJECT_ROOT

AT = datetime(2026, 3, 1, 10, tzinfo=UTC)

# appends numbers until it is killed or the count is reached, and prints each when it is acknowledged
WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from mlops_platform.resources.event_log import Event, EventLog
log = EventLog(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    log.append([Event("number", datetime.now(UTC), {"name": f"{sys.argv[2]}-{number}", "text": "x" * 50})])
    print(number, flush=True)
"""
# the system refuses to let a file grow beyond a limit, as a full disk would; then the limit is lifted
FULL = """
import resource, sys
from datetime import UTC, datetime
from pathlib import Path
from mlops_platform.errors import EventLogError
from mlops_platform.resources.event_log import Event, EventLog
log = EventLog(Path(sys.argv[1]))
def append(number):
    try:
        log.append([Event("number", datetime.now(UTC), {"name": number, "text": "x" * 5000})])
        print(number)
    except EventLogError as error:
        print(error, file=sys.stderr)
append(0)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
for number in range(1, 100):
    append(number)
log.probe()
assert log.problem is not None
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.probe()
assert log.problem is None
append(100)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "events.db"


def number(name: Any, at: datetime = AT) -> Event:
    return Event("number", at, {"name": name})


def names(path: Path) -> list[Any]:
    return [event.body["name"] for event in EventLog(path).read("number")]


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)


def test_events_come_back_in_order_and_unchanged(path: Path) -> None:
    log = EventLog(path)
    body = {"text": "a\nb\u2028ü\x00", "shares": {"a": 0.1}, "nothing": None}
    log.append([Event("first", AT, body), number(1), number(2)])
    log.append([number(3, datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=3))))])
    assert list(log.read("first")) == [Event("first", AT, body, 1)]
    assert [(event.row_id, event.body["name"]) for event in log.read("number")] == [(2, 1), (3, 2), (4, 3)]
    (last,) = (event for event in log.read("number") if event.row_id == 4)
    assert last.at == datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert [event.body["name"] for event in log.read_day("number", AT.date())] == [3, 1, 2]
    assert [event.row_id for event in log.read_rows(("first", "number"), 1, 3)] == [1, 2, 3]
    assert [event.row_id for event in log.read_rows(("first",), 1, 3)] == [1]
    assert (log.last_row("number"), log.last_row("first"), log.last_row("none")) == (4, 1, 0)
    log.close()
    assert path.stat().st_mode & 0o007 == 0
    log.append([number(4)])
    assert names(path) == [1, 2, 3, 4]


def test_days_are_those_of_utc(path: Path) -> None:
    log = EventLog(path)
    first, second = datetime(2026, 3, 1, 23, 59, 59, 999999, UTC), datetime(2026, 3, 2, 0, 0, 0, 0, UTC)
    log.append([number("a", first), number("b", second), Event("other", datetime(2026, 3, 3, tzinfo=UTC), {})])
    assert log.days(["number"], date(2026, 3, 1), date(2026, 3, 9)) == [date(2026, 3, 1), date(2026, 3, 2)]
    assert log.days(["number"], date(2026, 3, 2), date(2026, 3, 9)) == [date(2026, 3, 2)]
    assert log.days(["number", "other"], date(2026, 3, 2), date(2026, 3, 3)) == [date(2026, 3, 2)]
    assert [event.body["name"] for event in log.read_day("number", date(2026, 3, 2))] == ["b"]


def test_a_missing_file_is_an_empty_log(path: Path) -> None:
    log = EventLog(path)
    assert list(log.read("number")) == list(log.read_day("number", AT.date())) == []
    assert log.days(["number"], date(2020, 1, 1), date(2030, 1, 1)) == []
    assert (log.last_row("number"), log.identity()) == (0, None)
    assert not path.parent.exists()


def test_threads_and_logs_side_by_side_lose_nothing(path: Path) -> None:
    logs = [EventLog(path) for _ in range(2)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: logs[n % 2].append([number(n), number(-n - 1)]), range(500)))
    assert sorted(names(path)) == list(range(-500, 500))


def test_processes_that_create_the_log_at_once_lose_nothing(path: Path) -> None:
    writers = [writer(path, str(n), 40) for n in range(4)]
    for process in writers:
        process.communicate()
        assert process.returncode == 0
    assert sorted(names(path)) == sorted(f"{n}-{m}" for n in range(4) for m in range(40))


def test_a_killed_writer_loses_nothing_that_it_acknowledged(path: Path) -> None:
    acknowledged = []
    for name in "ab":
        with writer(path, name, 1_000_000) as process:
            assert process.stdout is not None
            for _ in range(200):
                process.stdout.readline()
            os.kill(process.pid, signal.SIGKILL)
            count = 200 + len(process.stdout.read().splitlines())
            acknowledged += [f"{name}-{n}" for n in range(count)]
    found = names(path)
    assert len(found) == len(set(found))
    assert set(found) >= set(acknowledged)
    # one event of each writer may be there without an acknowledgement
    assert len(found) <= len(acknowledged) + 2


def test_a_full_disk_refuses_an_event_and_heals(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    acknowledged = [int(line) for line in done.stdout.split()]
    assert 5 < len(acknowledged) < 100
    assert acknowledged[-1] == 100
    assert names(path) == acknowledged
    sentences = [line for line in done.stderr.splitlines() if "free some space" in line]
    assert sentences[0].startswith(f"The event log {path} cannot be written (")
    # one sentence for each refused event; the log itself reports a problem when it begins, not for each event
    refused = 101 - len(acknowledged)
    assert refused < len(sentences) < refused + 10


@pytest.mark.parametrize("kind", ["file", "folder", "nonsense"])
def test_a_log_that_cannot_be_opened_is_a_sentence_until_it_can(path: Path, kind: str) -> None:
    if kind == "file":
        path.parent.touch()
    elif kind == "folder":
        path.mkdir(parents=True)
    else:
        path.parent.mkdir()
        path.write_bytes(b"nonsense" * 1000)
    log = EventLog(path)
    with pytest.raises(EventLogError, match=r"events.db cannot be written \("):
        log.append([number(1)])
    assert "cannot be written" in (log.problem or "")
    if kind != "file":
        with pytest.raises(EventLogError, match=r"events.db cannot be read \("):
            list(log.read("number"))
    path.rename(path.with_name("away")) if kind != "file" else path.parent.unlink()
    log.append([number(1)])
    assert log.problem is None
    assert names(path) == [1]


def test_a_log_that_somebody_moves_away_is_followed_by_another(path: Path) -> None:
    log = EventLog(path)
    log.append([number(1)])
    first = log.identity()
    for file in path.parent.iterdir():
        file.unlink()
    log.append([number(2)])
    assert names(path) == [2]
    assert log.identity() not in (None, first)


def test_a_choice_sees_what_is_there_and_nobody_else_writes_meanwhile(path: Path) -> None:
    logs = [EventLog(path) for _ in range(4)]

    def increment(log: EventLog) -> None:
        log.append_chosen("number", lambda events: [number(len(events))])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(increment, logs * 10))
    assert names(path) == list(range(40))
    with pytest.raises(ZeroDivisionError):
        logs[0].append_chosen("number", lambda _: [number(1 // 0)])
    assert names(path) == list(range(40))
    increment(logs[0])
    assert names(path) == list(range(41))


def test_an_event_that_is_not_json_spoils_no_other(path: Path) -> None:
    log = EventLog(path)
    with pytest.raises(TypeError):
        log.append([number(object())])
    with pytest.raises(UnicodeEncodeError):
        log.append([number("\ud800")])
    log.append([number(1)])
    assert names(path) == [1]
