"""The log under threads, kills, full disks and torn ends: what was acknowledged is there, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.serving.prediction_log import (
    LogError,
    PredictionLog,
    records,
    seal_abandoned,
    segments,
    started,
)

# appends numbers for ever, and prints each when it is acknowledged
WRITER = """
import itertools, sys
from pathlib import Path
from mlops_platform.serving.prediction_log import PredictionLog
log = PredictionLog(Path(sys.argv[1]), seconds=60, max_bytes=20_000)
for number in itertools.count():
    log.append([{"id": f"{sys.argv[2]}-{number}", "text": "x" * 50}])
    print(number, flush=True)
"""
# the system refuses to let a file grow beyond 4,000 bytes, as a full disk would
FULL = """
import resource, signal, sys
from pathlib import Path
from mlops_platform.serving.prediction_log import LogError, PredictionLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
log = PredictionLog(Path(sys.argv[1]), seconds=60, max_bytes=20_000)
for number in range(100):
    try:
        log.append([{"id": number, "text": "x" * 50}])
        print(number)
    except LogError as error:
        print(error, file=sys.stderr)
log.close()
"""
# the limit comes and goes between two records; the disk has room beyond it, so what asks for room is told otherwise
LEARNS = """
import resource, sys, time
from pathlib import Path
from mlops_platform.serving.prediction_log import PredictionLog
PredictionLog._crowded = lambda self: True
log = PredictionLog(Path(sys.argv[1]), seconds=60, max_bytes=20_000)
log.append([{"id": 1}])
for limit, full in ((100, True), (resource.RLIM_INFINITY, False)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    end = time.monotonic() + 60
    while (log.problem is not None) != full and time.monotonic() < end:
        time.sleep(0.05)
    print(log.problem, flush=True)
log.append([{"id": 2}])
log.close()
"""


def _log(folder: Path, *, seconds: float = 60, max_bytes: int = 10_000) -> PredictionLog:
    return PredictionLog(folder, seconds=seconds, max_bytes=max_bytes)


def _ids(folder: Path) -> list[Any]:
    return [record["id"] for segment in segments(folder) for record in records(segment)]


def test_records_come_back_in_order_and_as_they_were(tmp_path: Path) -> None:
    log = _log(tmp_path / "log")
    log.append([{"id": 1, "text": "a\nb\u2028ü"}, {"id": 2, "text": ""}])
    log.append([{"id": 3, "text": "c"}])
    assert segments(tmp_path / "log") == []
    log.close()
    (segment,) = segments(tmp_path / "log")
    assert [record["text"] for record in records(segment)] == ["a\nb\u2028ü", "", "c"]
    assert abs(started(segment).timestamp() - time.time()) < 60
    assert segment.stat().st_mode & 0o007 == 0


def test_a_segment_is_sealed_by_size_and_never_split_in_a_record(tmp_path: Path) -> None:
    log = _log(tmp_path, max_bytes=300)
    for number in range(20):
        log.append([{"id": number, "text": "x" * 80}])
    log.append([{"id": 20, "text": "y" * 1000}])
    log.close()
    assert _ids(tmp_path) == list(range(21))
    sizes = [segment.stat().st_size for segment in segments(tmp_path)]
    assert len(sizes) == 8
    assert all(size <= 300 for size in sizes[:-1])


def test_a_segment_is_sealed_by_age_without_another_record(tmp_path: Path) -> None:
    log = _log(tmp_path, seconds=0.01)
    log.append([{"id": 1}])
    end = time.monotonic() + 30
    while not segments(tmp_path) and time.monotonic() < end:
        time.sleep(0.05)
    assert _ids(tmp_path) == [1]
    log.close()


def test_nothing_written_leaves_nothing(tmp_path: Path) -> None:
    _log(tmp_path / "log").close()
    assert not (tmp_path / "log").exists()


def test_threads_and_logs_side_by_side_lose_nothing(tmp_path: Path) -> None:
    logs = [_log(tmp_path, max_bytes=2_000) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: logs[number % 2].append([{"id": number}]), range(2_000)))
    assert seal_abandoned(tmp_path) == 0  # those have their writers
    for log in logs:
        log.close()
    assert sorted(_ids(tmp_path)) == list(range(2_000))


def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    acknowledged = []
    for name in "ab":
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                if int(line) > 700:
                    break
            os.kill(child.pid, signal.SIGKILL)
            last = [int(line) for line in child.stdout.read().split()]
            acknowledged += [f"{name}-{number}" for number in range(max([701, *last]) + 1)]
    assert seal_abandoned(tmp_path) == 2
    assert seal_abandoned(tmp_path) == 0
    found = _ids(tmp_path)
    assert len(found) == len(set(found))
    # a record that was written when the kill came may be there without having been acknowledged
    assert set(found) >= set(acknowledged)
    assert len(found) <= len(acknowledged) + 2


def test_half_a_record_is_set_aside(tmp_path: Path) -> None:
    left = tmp_path / "20260101T000000000000Z-1-abcdef12.open"
    left.write_bytes(b'{"id":1}\n{"id":2,"te')
    (tmp_path / "20260101T000001000000Z-1-abcdef12.open").touch()
    assert seal_abandoned(tmp_path) == 2
    assert _ids(tmp_path) == [1]
    assert (tmp_path / "20260101T000000000000Z-1-abcdef12.torn").read_bytes() == b'{"id":2,"te'
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_refuses_a_record_and_keeps_the_others_whole(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    kept = [int(line) for line in done.stdout.split()]
    assert 30 < len(kept) < 100
    assert _ids(tmp_path) == kept
    assert done.stderr.splitlines()[0] == (
        f"The prediction log {tmp_path} cannot be written (File too large): free some space, or check the "
        "permissions of MLOPS_HOME."
    )


def test_a_log_learns_of_a_full_disk_and_of_its_end_without_a_record(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LEARNS, str(tmp_path)], capture_output=True, text=True, check=True)
    full, again = done.stdout.splitlines()
    assert "cannot be written (" in full
    assert again == "None"
    assert _ids(tmp_path) == [1, 2]
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]


def test_a_segment_that_somebody_removes_is_followed_by_another(tmp_path: Path) -> None:
    log = _log(tmp_path, max_bytes=50)
    log.append([{"id": 1, "text": "x" * 30}])
    for path in tmp_path.iterdir():
        path.unlink()
    log.append([{"id": 2, "text": "x" * 30}])
    log.close()
    assert _ids(tmp_path) == [2]


def test_half_a_record_that_cannot_be_taken_back_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = _log(tmp_path)
    log.append([{"id": 1}])
    write, cut = os.write, os.ftruncate

    def half(descriptor: int, data: bytes) -> int:
        if len(data) > 10:
            return write(descriptor, data[:10])
        raise OSError(5, "Input/output error")

    def broken(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "write", half)
    monkeypatch.setattr(os, "ftruncate", broken)
    with pytest.raises(LogError, match="Input/output error"):
        log.append([{"id": 2, "text": "never acknowledged"}])
    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "ftruncate", cut)
    log.append([{"id": 3}])
    assert seal_abandoned(tmp_path) == 1
    log.close()
    assert _ids(tmp_path) == [1, 3]


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = _log(tmp_path / "file" / "log")
    with pytest.raises(LogError, match=r"cannot be written \(Not a directory\)"):
        log.append([{"id": 1}])
    log.close()


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "20260101T000000000000Z-1-abcdef12.jsonl"
    path.write_text('{"id":1}\n[2]\n')
    with pytest.raises(LogError, match=r"jsonl, line 2, is no record"):
        list(records(path))
