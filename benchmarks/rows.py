"""Generated rows for the sections at scale, cached for the next pass."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb

from benchmarks.generate import write

REAL_LENGTH = 103  # characters


def rows(count: int) -> Path:
    """Return a folder with `projects.csv` and `tags.csv` of `count` projects, generated once.

    A row depends on its number alone, so the cache never expires; it takes 2.8 GB for 10^7 projects.
    """
    return _cached(str(count), lambda folder: write(folder, count))


def short_rows(count: int) -> Path:
    """Return a folder with the same rows, descriptions cut to the mean length of the Made With ML ones."""
    return _cached(f"{count}-short", lambda folder: _shorten(rows(count), folder))


def _shorten(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    shutil.copy(source / "tags.csv", folder)
    with duckdb.connect() as connection:
        connection.execute(
            f"copy (select * replace (left(description, {REAL_LENGTH}) as description) "  # noqa: S608
            f"from '{source / 'projects.csv'}') to '{folder / 'projects.csv'}' (header)"
        )


def _cached(name: str, generate: Callable[[Path], object]) -> Path:
    folder = Path(tempfile.gettempdir()) / "mlops-bench-rows" / name
    if not folder.exists():
        partial = folder.with_name(f".{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        generate(partial)
        partial.rename(folder)
    return folder
