"""Rows that the sections at scale read, made once and kept for the next pass."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.generate import write


def rows(count: int) -> Path:
    """Return a folder with `projects.csv` and `tags.csv`, made when there is none.

    A row depends on its number alone, so they may be kept; they take 2.8 GB for 10^7 projects.

    Args:
        count: How many projects.
    """
    return _kept(str(count), lambda folder: write(folder, count))


def grow(folder: Path, count: int, more: int) -> None:
    """Append further rows to files, as whoever writes them does.

    Args:
        folder: Holds a copy of the files of `rows(count)`.
        count: How many projects there are.
        more: How many come.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for path in write(Path(name), more, start=count):
            with (folder / path.name).open("ab") as target, path.open("rb") as added:
                added.readline()  # the header
                shutil.copyfileobj(added, target, 1 << 20)


def _kept(name: str, make: Callable[[Path], object]) -> Path:
    folder = Path(tempfile.gettempdir()) / "mlops-bench-rows" / name
    if not folder.exists():
        partial = folder.with_name(f".{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        make(partial)
        partial.rename(folder)
    return folder
