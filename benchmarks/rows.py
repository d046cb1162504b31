"""Rows that the sections at scale read, made once and kept for the next pass."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from benchmarks.generate import write


def rows(count: int) -> Path:
    """Return a folder with `projects.csv` and `tags.csv`, made when there is none.

    A row depends on its number alone, so they may be kept; they take 2.8 GB for 10^7 projects.

    Args:
        count: How many projects.
    """
    folder = Path(tempfile.gettempdir()) / "mlops-bench-rows" / str(count)
    if not folder.exists():
        partial = folder.with_name(f".{count}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        write(partial, count)
        partial.rename(folder)
    return folder
