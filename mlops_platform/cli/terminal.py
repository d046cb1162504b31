"""Redirection of what libraries print, so that a command's own lines stay readable."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def library_output_to(log: Path | None) -> Iterator[TextIO]:
    """Redirect the output of libraries and child processes to a file, and yield the terminal for our own lines.

    Args:
        log: The file, which is appended to; None leaves their output on the terminal.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # file descriptors and not `sys.stdout`: native code and child processes write to these
    saved = [os.dup(1), os.dup(2)]
    try:
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
        with os.fdopen(os.dup(saved[0]), "w", buffering=1, encoding="utf-8") as terminal:
            yield terminal
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
