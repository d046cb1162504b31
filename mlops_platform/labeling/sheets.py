"""The queue as a CSV file that people fill in with a spreadsheet, and the labels that come back in one."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mlops_platform.errors import PlatformError
from mlops_platform.labeling.queue import Queue
from mlops_platform.resources.csv_inspection import inspect_csv, match_columns
from mlops_platform.resources.label_log import IMPORT, RANDOM, Label, LabelError, require_person, standing
from mlops_platform.resources.warehouse_base import written_whole

_COLUMNS = ("id", "tag", "title", "description", "given", "guess", "probability", "reason", "neighbours")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")  # what a spreadsheet may take for one; and what undoes the mark
_CLOCKS_DIFFER = timedelta(minutes=5)
_SHOWN = 5


def write_queue(queue: Queue, target: Path) -> None:
    """Write the queue with an empty column `tag`; it appears whole or not at all.

    A text that a spreadsheet would run as a formula has an apostrophe before it; the import reads only other columns.

    Args:
        queue: What is to be labeled.
        target: The file; it is replaced.

    Raises:
        PlatformError: It can't be written.
    """
    try:
        # the mark at its start tells spreadsheets that it is UTF-8
        with written_whole(target) as partial, partial.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            for row in queue.rows:
                near = "; ".join(f"{each.get('title') or ''} [{each.get('tag')}]" for each in row["neighbours"])
                values = {**row, "tag": "", "probability": f"{row['probability']:.2f}", "neighbours": near}
                writer.writerow([row["id"], *(_harmless(values[name]) for name in _COLUMNS[1:])])
    except OSError as error:
        raise PlatformError(f"{target} cannot be written ({error.strerror}): give another path.") from error


def read_labels(path: Path, tags: Sequence[str], person: str) -> list[tuple[int, Label | str]]:
    """Read the labels of a CSV file with the columns id, tag and, if it likes, labeled_by, labeled_at and reason.

    Args:
        path: The file; a row with an empty tag is none, and one with the reason `random` was drawn so by the queue.
        tags: The tags that a label may have.
        person: Who gave a label that names nobody.

    Returns:
        (line, label), or (line, what is wrong with it). A label without a time has an empty one.

    Raises:
        SourceError: The file is no such CSV.
    """
    file = inspect_csv(path, str(path))
    places = match_columns(file.header, {"id": "BIGINT", "tag": "VARCHAR"}, str(path))
    names = [name.strip().lower() for name in file.header]
    places |= {name: names.index(name) for name in ("labeled_by", "labeled_at", "reason") if name in names}
    found: list[tuple[int, Label | str]] = []
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle)
        next(reader)
        line = reader.line_num + 1
        try:
            for values in reader:
                here, line = line, reader.line_num + 1
                given = {name: values[place].strip() if place < len(values) else "" for name, place in places.items()}
                if not given["tag"].removeprefix("'").strip():
                    continue
                try:
                    way = IMPORT + RANDOM if given.get("reason") == "random" else IMPORT
                    found.append((here, _label(given, tags, person, f"{way}-{file.fingerprint[:12]}")))
                except (ValueError, LabelError) as error:
                    found.append((here, str(error)))
        except csv.Error as error:
            found.append((line, str(error)))
    return found


def require_sound(path: Path, read: Sequence[tuple[int, Label | str]], known: Collection[int]) -> dict[int, Label]:
    """Return the labels by their lines if all of them can be taken.

    Args:
        path: The file, for the sentence.
        read: What `read_labels` found.
        known: Ids of projects that there are.

    Raises:
        LabelError: A line is no label, names no project, or contradicts an earlier one; none is taken.
    """
    sound: dict[int, Label] = {}
    problems: list[tuple[int, str]] = []
    first: dict[tuple[int, str, str], int] = {}
    for line, label in read:
        if isinstance(label, str):
            problems.append((line, label))
        elif label.id not in known:
            problems.append((line, f"there is no project {label.id}"))
        else:
            earlier = first.setdefault((label.id, label.labeled_by, label.labeled_at), line)
            if earlier == line:
                sound[line] = label
            elif sound[earlier].tag != label.tag:
                problems.append((line, f"project {label.id} has another tag in line {earlier}"))
    if problems:
        told = "; ".join(f"line {line}: {problem}" for line, problem in problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise LabelError(f"{path} is not imported, mend it first ({told}{more}).")
    return sound


def missing(coming: Sequence[Label], there: Sequence[Label], now: str) -> Iterator[Label]:
    """Yield the labels that a log does not hold; those without a time get one.

    What was imported from the same file before is there, though the person may have changed it since.

    Args:
        coming: What was imported.
        there: What the log holds.
        now: The time of labels that have none.
    """
    imported = {(each.id, each.tag, each.labeled_by, each.source) for each in there}
    timed = {(each.id, each.tag, each.labeled_by, datetime.fromisoformat(each.labeled_at)) for each in there}
    last = standing(there)
    for label in coming:
        if (label.id, label.tag, label.labeled_by, label.source) in imported:
            continue
        if label.labeled_at:
            if (label.id, label.tag, label.labeled_by, datetime.fromisoformat(label.labeled_at)) not in timed:
                yield label
        elif last.get((label.id, label.labeled_by)) != label.tag:
            yield Label(label.id, label.tag, now, label.labeled_by, label.source)


def _label(given: dict[str, str], tags: Sequence[str], person: str, source: str) -> Label:
    key = given["id"]
    if not (key.isascii() and key.isdigit()):
        raise ValueError(f"{key!r} is no id")
    tag = given["tag"].removeprefix("'").strip()
    if tag not in tags:
        raise ValueError(f"{tag!r} is none of the tags {', '.join(tags)}")
    at = given.get("labeled_at", "")
    if at:
        try:
            time = datetime.fromisoformat(at)
        except ValueError:
            raise ValueError(f"{at!r} is no time such as 2026-01-31T12:00:00Z") from None
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        if time > datetime.now(UTC) + _CLOCKS_DIFFER:
            raise ValueError(f"{at} is in the future")
        at = time.isoformat(timespec="microseconds")
    by = given.get("labeled_by", "").removeprefix("'")
    return Label(int(key), tag, at, require_person(by) if by else person, source)


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
