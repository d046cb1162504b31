"""A file is replaced as a whole, by any number of threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from mlops_platform.atomic_write import atomic_write

WRITERS = 8


def test_threads_that_write_the_same_file_do_not_mix_their_contents(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "values.json"
    all_started = Barrier(WRITERS)

    def write(number: int) -> None:
        with atomic_write(path) as partial, partial.open("w", encoding="utf-8") as file:
            file.write(str(number) * 1000)
            all_started.wait(timeout=10)
            file.write(str(number) * 1000)

    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(write, range(WRITERS)))
    assert path.read_text() in {str(number) * 2000 for number in range(WRITERS)}
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_block_leaves_the_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "values.json"
    path.write_text("old")

    def write() -> None:
        with atomic_write(path) as partial:
            partial.write_text("new")
            raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
