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


def grown(count: int, more: int) -> Path:
    """Return a folder with the files of `rows(count)` and further rows behind theirs, made when there is none.

    Args:
        count: How many projects there were.
        more: How many came.
    """

    def make(folder: Path) -> None:
        new = write(folder / "new", more, start=count)
        for path in new:
            with (folder / path.name).open("wb") as target:
                with (rows(count) / path.name).open("rb") as old:
                    shutil.copyfileobj(old, target, 1 << 20)
                with path.open("rb") as added:
                    added.readline()  # the header
                    shutil.copyfileobj(added, target, 1 << 20)
        shutil.rmtree(folder / "new")

    return _kept(f"{count}-and-{more}", make)


def _kept(name: str, make: Callable[[Path], object]) -> Path:
    folder = Path(tempfile.gettempdir()) / "mlops-bench-rows" / name
    if not folder.exists():
        partial = folder.with_name(f".{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        make(partial)
        partial.rename(folder)
    return folder
