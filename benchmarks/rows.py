"""Rows that the sections at scale read, made once and kept for the next pass."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb

from benchmarks.generate import write

REAL_LENGTH = 103  # characters


def rows(count: int) -> Path:
    """Return a folder with `projects.csv` and `tags.csv`, made when there is none.

    A row depends on its number alone, so they may be kept; they take 2.8 GB for 10^7 projects.

    Args:
        count: How many projects.
    """
    return _kept(str(count), lambda folder: write(folder, count))


def short_rows(count: int) -> Path:
    """Return a folder with the same rows, whose descriptions are cut to the mean length of the Made With ML ones.

    Args:
        count: How many projects.
    """
    return _kept(f"{count}-short", lambda folder: _shorten(rows(count), folder))


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


def _shorten(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    shutil.copy(source / "tags.csv", folder)
    with duckdb.connect() as connection:
        connection.execute(
            f"copy (select * replace (left(description, {REAL_LENGTH}) as description) "  # noqa: S608
            f"from '{source / 'projects.csv'}') to '{folder / 'projects.csv'}' (header)"
        )


def _kept(name: str, make: Callable[[Path], object]) -> Path:
    folder = Path(tempfile.gettempdir()) / "mlops-bench-rows" / name
    if not folder.exists():
        partial = folder.with_name(f".{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        make(partial)
        partial.rename(folder)
    return folder
