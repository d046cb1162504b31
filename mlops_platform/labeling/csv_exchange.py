"""The queue as a CSV file for spreadsheets, and the import of labels from such a file.

Reading a CSV file's dialect and header belongs to ``resources.csv_ingest``.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mlops_platform.atomic_write import atomic_write
from mlops_platform.errors import LabelError, PlatformError
from mlops_platform.labeling.queue import Queue
from mlops_platform.resources.csv_ingest.inspection import inspect_csv, match_columns
from mlops_platform.resources.labels.label_log import IMPORT, RANDOM, Label, require_person, standing

_COLUMNS = ("id", "tag", "title", "description", "given", "guess", "probability", "reason", "neighbours")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")  # prefixes of a formula, and the apostrophe itself
_CLOCK_TOLERANCE = timedelta(minutes=5)
_SHOWN = 5


def write_queue(queue: Queue, target: Path) -> None:
    """Write the queue with an empty column `tag`.

    A text that a spreadsheet would run as a formula is escaped by an apostrophe; the import does not read the texts.

    Raises:
        PlatformError: The file cannot be written.
    """
    try:
        # the byte order mark tells spreadsheets that it is UTF-8
        with atomic_write(target) as partial, partial.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            for row in queue.rows:
                near = "; ".join(f"{other.get('title') or ''} [{other.get('tag')}]" for other in row["neighbours"])
                values = {**row, "tag": "", "probability": f"{row['probability']:.2f}", "neighbours": near}
                writer.writerow([row["id"], *(_escaped(values[name]) for name in _COLUMNS[1:])])
    except OSError as error:
        raise PlatformError(f"{target} cannot be written ({error.strerror}): give another path.") from error


def read_labels(
    path: Path, tags: Sequence[str], person: str, find_known: Callable[[set[int]], Collection[int]]
) -> list[Label]:
    """Return the labels of a CSV file with the columns id and tag, and optionally labeled_by, labeled_at and reason.

    Args:
        path: The file; a row with an empty tag is skipped, and one with the reason `random` was drawn at random.
        tags: The tags that a label may have.
        person: The person for labels without a `labeled_by`.
        find_known: Return which of some ids belong to projects.

    Returns:
        The labels without repetitions. The time of a label is empty if the file has none.

    Raises:
        SourceError: The file is not a CSV file with these columns.
        LabelError: A line is not a label, has an unknown project, or contradicts an earlier line.
    """
    labels, problems = _parse(path, tags, person)
    known = find_known({label.id for label in labels.values()})
    first: dict[tuple[int, str, str], int] = {}
    for line, label in labels.items():
        earlier = first.setdefault((label.id, label.labeled_by, label.labeled_at), line)
        if label.id not in known:
            problems[line] = f"there is no project {label.id}"
        elif label.tag != labels[earlier].tag:
            problems[line] = f"project {label.id} has another tag in line {earlier}"
    if problems:
        shown = "; ".join(f"line {line}: {problem}" for line, problem in sorted(problems.items())[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise LabelError(f"{path} is not imported, correct it first ({shown}{more}).")
    return [labels[line] for line in first.values()]


def _parse(path: Path, tags: Sequence[str], person: str) -> tuple[dict[int, Label], dict[int, str]]:
    """Return the labels and the problems of a file by line."""
    file = inspect_csv(path, str(path))
    places = match_columns(file.header, ("id", "tag"), str(path))
    names = [name.strip().lower() for name in file.header]
    places |= {name: names.index(name) for name in ("labeled_by", "labeled_at", "reason") if name in names}
    labels: dict[int, Label] = {}
    problems: dict[int, str] = {}
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle)
        next(reader)
        line = reader.line_num + 1
        try:
            for values in reader:
                start, line = line, reader.line_num + 1
                row = {name: values[place].strip() if place < len(values) else "" for name, place in places.items()}
                if not row["tag"].removeprefix("'").strip():
                    continue
                source = IMPORT + RANDOM if row.get("reason") == "random" else IMPORT
                try:
                    labels[start] = _label(row, tags, person, f"{source}-{file.fingerprint[:12]}")
                except (ValueError, LabelError) as error:
                    problems[start] = str(error)
        except csv.Error as error:
            problems[line] = str(error)
    return labels, problems


def missing(labels: Sequence[Label], logged: Sequence[Label], now: str) -> Iterator[Label]:
    """Yield the labels of a file that are not in the log; those without a time get the current one.

    A label that was imported from the same file before is not imported again, though the person may have changed it.
    """
    imported = {(label.id, label.tag, label.labeled_by, label.source) for label in logged}
    timed = {(label.id, label.tag, label.labeled_by, datetime.fromisoformat(label.labeled_at)) for label in logged}
    last = standing(logged)
    for label in labels:
        if (label.id, label.tag, label.labeled_by, label.source) in imported:
            continue
        if label.labeled_at:
            if (label.id, label.tag, label.labeled_by, datetime.fromisoformat(label.labeled_at)) not in timed:
                yield label
        elif last.get((label.id, label.labeled_by)) != label.tag:
            yield Label(label.id, label.tag, now, label.labeled_by, label.source)


def _label(row: dict[str, str], tags: Sequence[str], person: str, source: str) -> Label:
    if not (row["id"].isascii() and row["id"].isdigit()):
        raise ValueError(f"{row['id']!r} is not an id")
    tag = row["tag"].removeprefix("'").strip()
    if tag not in tags:
        raise ValueError(f"{tag!r} is none of the tags {', '.join(tags)}")
    at = row.get("labeled_at", "")
    if at:
        try:
            time = datetime.fromisoformat(at)
        except ValueError:
            raise ValueError(f"{at!r} is not a time such as 2026-01-31T12:00:00Z") from None
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        if time > datetime.now(UTC) + _CLOCK_TOLERANCE:
            raise ValueError(f"{at} is in the future")
        at = time.isoformat(timespec="microseconds")
    by = row.get("labeled_by", "").removeprefix("'")
    return Label(int(row["id"]), tag, at, require_person(by) if by else person, source)


def _escaped(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
