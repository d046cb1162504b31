"""The labels that people gave: an append-only CSV file, safe with several writers and with a writer that is killed.

One line a label; a label with an empty tag takes the person's earlier one back. Nothing is resolved here: which of
several labels counts is said by ``ml.labels``.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from mlops_platform.errors import PlatformError

# where a label came from; that of a row which the queue drew at random says so, as only such rows measure a model
PAGE, UNDO, IMPORT = "page", "page-undo", "import"
RANDOM = "-random"
LABELS_FINGERPRINT = "labels_fingerprint"  # metadata key: of the log that an asset took in
TORN = ".torn"  # what killed writers left, beside the log
_BIGGEST_ID = 2**63 - 1


class LabelError(PlatformError):
    """A label could not be kept, or is none."""


@dataclass(frozen=True)
class Label:
    """What a person said of a project.

    Attributes:
        id: Of the project.
        tag: The class; empty to take back what the person said before.
        labeled_at: When, ISO 8601 in UTC.
        labeled_by: The person.
        source: By which way it came: `page`, `page-undo`, or `import-` and the beginning of the file's digest; with
            `-random` after the first word where the queue drew the row at random.
    """

    id: int
    tag: str
    labeled_at: str
    labeled_by: str
    source: str


@dataclass(frozen=True)
class LabelLog:
    """What a log holds.

    Attributes:
        labels: In the order in which they were given.
        fingerprint: SHA-256 of its whole lines, in hex; None where there is no label.
    """

    labels: tuple[Label, ...] = ()
    fingerprint: str | None = None


COLUMNS = tuple(field.name for field in fields(Label))
_HEADER = ",".join(COLUMNS)


def now() -> str:
    """Return the time as a label has it: ISO 8601, in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def read(path: Path, known_tags: Sequence[str] = ()) -> LabelLog:
    """Read a log; a last line that is not whole was never acknowledged and does not count.

    Args:
        path: The file; it may be missing.
        known_tags: The classes; with none, every tag is taken.

    Raises:
        LabelError: A line is no label, or the file can't be read.
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            content = _whole_lines(file.read())
    except FileNotFoundError:
        return LabelLog()
    except OSError as error:
        raise LabelError(f"The labels in {path} cannot be read ({error.strerror}): check its permissions.") from error
    return LabelLog(tuple(_parsed(path, content, known_tags)), _fingerprint(content))


def fingerprint(path: Path) -> str | None:
    """Return the fingerprint of a log without reading its labels; None where there is none.

    Args:
        path: The file; it may be missing.
    """
    try:
        with path.open("rb") as file:
            return _fingerprint(_whole_lines(file.read()))
    except OSError:
        return None


def append(path: Path, labels: Sequence[Label]) -> None:
    """Append labels, all or none; they are on the disk when it returns.

    Args:
        path: The file; it and its folder are made when missing.
        labels: What was said.

    Raises:
        LabelError: They can't be written, and none of them is in the log; or one is no label.
    """
    data = _lines(labels)
    with _held(path) as descriptor:
        _write(descriptor, data)


def append_missing(path: Path, choose: Callable[[Sequence[Label]], Sequence[Label]]) -> Sequence[Label]:
    """Append what a function chooses in view of the labels that are there; nobody else writes meanwhile.

    Args:
        path: The file; it and its folder are made when missing.
        choose: Takes the labels that are there, returns those that come.

    Returns:
        What was appended.

    Raises:
        LabelError: The log holds a line that is no label, or can't be written.
    """
    with _held(path) as descriptor:
        there = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        coming = choose(tuple(_parsed(path, there, ())))
        if coming:
            _write(descriptor, _lines(coming))
    return coming


def standing(labels: Sequence[Label]) -> dict[tuple[int, str], str]:
    """Return what each person's last word on an id is, where it was not taken back.

    Args:
        labels: In any order; of those of the same time the later one counts.

    Returns:
        (id, person) to tag.
    """
    last: dict[tuple[int, str], str] = {}
    for label in sorted(labels, key=lambda each: datetime.fromisoformat(each.labeled_at)):
        last[label.id, label.labeled_by] = label.tag
    return {key: tag for key, tag in last.items() if tag}


def require_person(name: str) -> str:
    """Return a person's name, trimmed.

    Raises:
        LabelError: It is empty or holds a line break or the like.
    """
    if not name.strip() or not name.strip().isprintable():
        raise LabelError(f"{name!r} is no name of a person: give letters, on one line.")
    return name.strip()


@contextmanager
def _held(path: Path) -> Iterator[int]:
    """The file, open and locked; what a killed writer left at its end is set aside first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # without O_APPEND: Linux would let pwrite append too, but a failed write is cut off by its place
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _set_aside_torn(descriptor, path)
            yield descriptor
        finally:
            os.close(descriptor)
    except OSError as error:
        raise LabelError(
            f"The label could not be written to {path} ({error.strerror}): free some space, or check the permissions "
            "of MLOPS_HOME."
        ) from error


def _set_aside_torn(descriptor: int, path: Path) -> None:
    size = os.fstat(descriptor).st_size
    content = os.pread(descriptor, size, 0)
    whole = len(_whole_lines(content))
    if whole < size:
        with path.with_name(path.name + TORN).open("ab") as torn:
            torn.write(content[whole:] + b"\n")
            torn.flush()
            os.fsync(torn.fileno())
        os.ftruncate(descriptor, whole)
    if whole == 0:
        _write(descriptor, (_HEADER + "\n").encode())
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the file's name is on the disk too
        finally:
            os.close(folder)


def _write(descriptor: int, data: bytes) -> None:
    start = os.fstat(descriptor).st_size
    written = 0
    try:
        while written < len(data):
            written += os.pwrite(descriptor, data[written:], start + written)
        os.fsync(descriptor)
    except OSError:
        # a full disk takes a part: half a label would spoil the next one
        os.ftruncate(descriptor, start)
        raise


def _lines(labels: Sequence[Label]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for label in labels:
        try:
            _require(label)
            astuple(label)[1].encode()
        except ValueError as error:
            raise LabelError(f"The label of project {label.id} is none: {error}.") from error
        writer.writerow(astuple(label))
    return text.getvalue().encode()


def _parsed(path: Path, content: bytes, known_tags: Sequence[str]) -> Iterator[Label]:
    for number, raw in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
            if number == 1:
                if line != _HEADER:
                    raise ValueError(f"the first line must be {_HEADER}")
                continue
            (values,) = list(csv.reader([line], strict=True)) or [[]]
            if len(values) != len(COLUMNS):
                raise ValueError(f"it has {len(values)} values, not {len(COLUMNS)}")
            if not values[0].isascii() or not values[0].isdigit():
                raise ValueError(f"{values[0]!r} is no id")
            label = Label(int(values[0]), *values[1:])
            _require(label)
            if label.tag and known_tags and label.tag not in known_tags:
                raise ValueError(f"{label.tag!r} is none of the tags {', '.join(known_tags)}")
        except (ValueError, csv.Error) as error:
            raise LabelError(
                f"{path}, line {number}, is no label ({error}): mend the line, or move it to another file."
            ) from error
        yield label


def _require(label: Label) -> None:
    if not 0 <= label.id <= _BIGGEST_ID:
        raise ValueError(f"{label.id} is no id")
    if label.tag != label.tag.strip() or (label.tag and not label.tag.isprintable()):
        raise ValueError(f"{label.tag!r} is no tag")
    if datetime.fromisoformat(label.labeled_at).utcoffset() is None:
        raise ValueError(f"the time {label.labeled_at} has no offset from UTC")
    for name, value in (("labeled_by", label.labeled_by), ("source", label.source)):
        if not value.strip() or not value.isprintable():
            raise ValueError(f"{name} is {value!r}")


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _fingerprint(content: bytes) -> str | None:
    return hashlib.sha256(content).hexdigest() if content.count(b"\n") > 1 else None
