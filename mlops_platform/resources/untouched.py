"""Says whether anybody else has written a DuckDB file since this program did: by its stat, as git does for a tree."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_held: dict[Path, Holding] = {}
_lock = threading.Lock()


@dataclass
class Holding:
    """A file while this process has it open; several openings at once share it.

    Attributes:
        untouched: Whether it is as this program left it.
        sure: Names of what has been looked at since it was opened, and found sound.
    """

    untouched: bool
    sure: set[str] = field(default_factory=set)
    _openings: int = 0

    def distrust(self) -> None:
        """Has all that is in the file looked at again."""
        self.untouched = False
        self.sure.clear()


@contextmanager
def holding(path: Path) -> Iterator[Holding]:
    """Yields what is known of a file that is opened in the block and closed before its end.

    At the end of the outermost block its stat is noted beside it, if it was untouched then; whoever has made sure of
    all that is in the file may set `untouched`. After an error nothing is known of it: work may have been half done.

    Args:
        path: The file.
    """
    path = path.absolute()
    with _lock:
        held = _held.setdefault(path, Holding(_noted(path) == _stat(path) is not None))
        held._openings += 1
    try:
        yield held
    except BaseException:
        held.distrust()
        raise
    finally:
        with _lock:
            held._openings -= 1
            if not held._openings:
                del _held[path]
                if held.untouched:
                    _note(path)


def known(path: Path) -> Holding | None:
    """What is known of a file that this process holds; None where it does not.

    Args:
        path: The file.
    """
    return _held.get(path.absolute())


def _stat(path: Path) -> list[list[int] | None] | None:
    """The file's, and that of its log, which holds what a program that was killed has written."""
    found = [_one(each) for each in (path, path.with_name(f"{path.name}.wal"))]
    return None if found[0] is None else found


def _one(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.left")


def _noted(path: Path) -> list[list[int] | None] | None:
    try:
        noted = json.loads(_beside(path).read_bytes())
    except (OSError, ValueError):
        return None
    return noted if isinstance(noted, list) else None


def _note(path: Path) -> None:
    now = _stat(path)
    if now is None or now == _noted(path):
        return
    try:
        _beside(path).write_text(json.dumps(now), encoding="utf-8")
    except OSError:
        return  # a full disk: the next look reads more
