"""The cache of vectors: what is written is read, whoever else writes, and whatever became of its files."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mlops_platform.ml.encoder import Vectors
from mlops_platform.resources import vectors as module
from mlops_platform.resources.vectors import FILES, VectorStore
from mlops_platform.settings import PROJECT_ROOT

SIZE = 8
WRITE = """
import sys
from pathlib import Path
from mlops_platform_tests.resources.test_vectors import some
from mlops_platform.resources.vectors import VectorStore
store = VectorStore(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), 1000, 20):
    store.write("e", some(range(number, number + 20)))
"""


def some(numbers: range) -> dict[bytes, Vectors]:
    """Vectors by key, both of which follow from the numbers."""
    return {hashlib.sha256(b"%d" % i).digest(): np.full(SIZE, i % 1000, np.float32) for i in numbers}


def read(folder: Path, wanted: dict[bytes, Vectors], encoder: str = "e") -> dict[bytes, Vectors]:
    return VectorStore(folder).read(encoder, SIZE, list(wanted))


def same(found: dict[bytes, Vectors], wanted: dict[bytes, Vectors]) -> bool:
    return found.keys() == wanted.keys() and all((found[key] == wanted[key]).all() for key in wanted)


def test_what_was_written_is_read_by_another_process_and_nothing_else(tmp_path: Path) -> None:
    wanted = some(range(100))
    VectorStore(tmp_path).write("e", wanted)
    assert same(read(tmp_path, some(range(200))), wanted)
    assert read(tmp_path, wanted, "another encoder") == {}
    assert VectorStore(tmp_path / "nowhere").read("e", SIZE, list(wanted)) == {}


def test_an_empty_write_leaves_nothing(tmp_path: Path) -> None:
    VectorStore(tmp_path).write("e", {})
    assert not list(tmp_path.iterdir())


def test_many_writes_leave_few_files_and_lose_nothing(tmp_path: Path) -> None:
    store, wanted = VectorStore(tmp_path), some(range(200))
    for number in range(0, 200, 2):
        store.write("e", some(range(number, number + 2)))
        assert len(list((tmp_path / "e").glob("*.parquet"))) <= FILES + 1
    assert same(read(tmp_path, wanted), wanted)


def test_full_files_are_merged_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FULL_BYTES", 3000)
    store, wanted = VectorStore(tmp_path), some(range(3000))
    for number in range(0, 3000, 10):
        store.write("e", some(range(number, number + 10)))
    full = [file for file in (tmp_path / "e").glob("*.parquet") if file.stat().st_size >= 3000]
    assert 1 < len(full) < 30
    assert same(read(tmp_path, wanted), wanted)


def test_a_text_that_was_written_twice_is_kept_once(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    for _ in range(FILES + 1):
        VectorStore(tmp_path).write("e", some(range(50)))
    (file,) = (tmp_path / "e").glob("*.parquet")
    assert pq.read_metadata(file).num_rows == 50


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "another table"])
def test_a_damaged_file_is_thrown_away_with_its_vectors_alone(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    VectorStore(tmp_path).write("e", some(range(50)))
    (file,) = (tmp_path / "e").glob("*.parquet")
    VectorStore(tmp_path).write("e", some(range(50, 60)))
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "another table":
        pq.write_table(pa.table({"id": [1]}), file)
    else:
        file.write_bytes(content[:1200] + bytes([content[1200] ^ 4]) + content[1201:])
    assert same(read(tmp_path, some(range(60))), some(range(50, 60)))
    assert "is damaged" in caplog.text
    assert not file.exists()
    VectorStore(tmp_path).write("e", some(range(50)))
    assert same(read(tmp_path, some(range(60))), some(range(60)))


def test_what_a_killed_writer_left_is_not_read(tmp_path: Path) -> None:
    VectorStore(tmp_path).write("e", some(range(5)))
    (file,) = (tmp_path / "e").glob("*.parquet")
    (tmp_path / "e" / f".{file.stem}.1.tmp").write_bytes(file.read_bytes()[:100])
    assert same(read(tmp_path, some(range(5))), some(range(5)))


def test_vectors_of_another_size_are_not_read(tmp_path: Path) -> None:
    VectorStore(tmp_path).write("e", some(range(5)))
    assert VectorStore(tmp_path).read("e", SIZE + 1, list(some(range(5)))) == {}


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be", encoding="utf-8")
    store, wanted = VectorStore(tmp_path / "taken"), some(range(5))
    store.write("e", wanted)
    assert "will be computed again" in caplog.text
    assert same(store.read("e", SIZE, list(wanted)), wanted)  # from memory


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 10)
    store = VectorStore(tmp_path)
    store.write("e", some(range(30)))
    assert len(store._memory) == 10
    assert same(store.read("e", SIZE, list(some(range(30)))), some(range(30)))


def test_processes_that_write_and_merge_at_once_lose_nothing(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path), str(begin)], cwd=PROJECT_ROOT)
        for begin in (0, 10)
    ]
    # and a reader, which must never find less than it found before
    wanted = some(range(1010))
    counts: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            counts.append(len(read(tmp_path, wanted)))
            ended.wait(0.05)

    reader = threading.Thread(target=look)
    reader.start()
    assert [process.wait(timeout=200) for process in processes] == [0, 0]
    ended.set()
    reader.join()
    assert counts == sorted(counts)
    assert same(read(tmp_path, wanted), wanted)
    assert len(list((tmp_path / "e").glob("*.parquet"))) <= 2 * FILES
