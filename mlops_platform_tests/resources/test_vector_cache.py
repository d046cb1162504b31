"""The cache of vectors: what is written is read, whoever else writes, and whatever happens to its file."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from mlops_platform.ml.embeddings.encoder import Vectors
from mlops_platform.resources.encoders.vector_cache import SqliteVectorCache
from mlops_platform.settings import PROJECT_ROOT

SIZE = 8
WRITE = """
import sys
from pathlib import Path
from mlops_platform.resources.encoders.vector_cache import SqliteVectorCache
from mlops_platform_tests.resources.test_vector_cache import numbered
cache = SqliteVectorCache(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), 1000, 20):
    cache.write("e", numbered(range(number, number + 20)))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "encoders" / "vectors.db"


def numbered(numbers: range) -> dict[bytes, Vectors]:
    """Vectors by key, both of which follow from the numbers."""
    return {hashlib.sha256(b"%d" % i).digest(): np.full(SIZE, i % 1000, np.float32) for i in numbers}


def read(path: Path, wanted: dict[bytes, Vectors], encoder: str = "e") -> dict[bytes, Vectors]:
    return SqliteVectorCache(path).read(encoder, SIZE, list(wanted))


def same(vectors: dict[bytes, Vectors], wanted: dict[bytes, Vectors]) -> bool:
    return vectors.keys() == wanted.keys() and all((vectors[key] == wanted[key]).all() for key in wanted)


def test_what_was_written_is_read_and_nothing_else(path: Path) -> None:
    wanted = numbered(range(1200))
    SqliteVectorCache(path).write("e", wanted)
    assert same(read(path, numbered(range(1300))), wanted)
    assert read(path, wanted, "another encoder") == {}
    assert SqliteVectorCache(path).read("e", SIZE + 1, list(wanted)) == {}
    assert read(path.with_name("other.db"), wanted) == {}


def test_threads_and_processes_write_at_once(path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(path), str(start)], cwd=PROJECT_ROOT) for start in (0, 10)
    ]
    cache = SqliteVectorCache(path)
    threads = [
        threading.Thread(target=lambda n=n: cache.write("e", numbered(range(n, n + 100))))
        for n in range(1000, 1800, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(120) for process in processes] == [0, 0]
    wanted = numbered(range(1800))
    assert same(read(path, wanted), wanted)


def test_a_changed_vector_is_not_returned(path: Path) -> None:
    wanted = numbered(range(3))
    SqliteVectorCache(path).write("e", wanted)
    changed = list(wanted)[1]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE vectors SET vector = zeroblob(16) WHERE text = ?", [changed])
    assert same(read(path, wanted), {key: vector for key, vector in wanted.items() if key != changed})
    SqliteVectorCache(path).write("e", wanted)
    assert same(read(path, wanted), wanted)


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_file_is_replaced_by_an_empty_one(path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    wanted = numbered(range(5000))
    SqliteVectorCache(path).write("e", wanted)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 + 100] if damage == "cut" else b"no database" * 1000)
    assert read(path, wanted) == {}
    assert "is damaged" in caplog.text
    SqliteVectorCache(path).write("e", wanted)
    assert same(read(path, wanted), wanted)


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "encoders").write_text("a file where the folder should be", encoding="utf-8")
    cache = SqliteVectorCache(tmp_path / "encoders" / "vectors.db")
    cache.write("e", numbered(range(3)))
    assert cache.read("e", SIZE, list(numbered(range(3)))) == {}
    assert "texts are encoded again" in caplog.text
