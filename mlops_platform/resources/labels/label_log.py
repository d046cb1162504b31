"""The labels that people give, as events of the event log.

A label with an empty tag withdraws the person's earlier one. Which of several people's labels counts is decided by
``ml.labeling.label_votes``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlops_platform.errors import EventLogError, LabelError
from mlops_platform.resources.event_log import Event, EventLog

# sources of a label; `-random` marks rows that the queue drew at random, as only those measure a model
PAGE, UNDO, IMPORT = "page", "page-undo", "import"
RANDOM = "-random"
LABELS_FINGERPRINT = "labels_fingerprint"  # metadata key: the fingerprint of the labels that an asset holds
KIND = "label"
_MAX_ID = 2**63 - 1


@dataclass(frozen=True)
class Label:
    """A label that a person gave a project.

    Attributes:
        id: The project's id.
        tag: Empty to withdraw the person's earlier label.
        labeled_at: UTC, ISO 8601.
        source: `page`, `page-undo`, or `import-` and the beginning of the file's digest; with `-random` after the
            first word if the queue drew the row at random.
    """

    id: int
    tag: str
    labeled_at: str
    labeled_by: str
    source: str


@dataclass(frozen=True)
class LabelLog:
    """The labels at one time.

    Attributes:
        labels: In the order in which they were given.
        fingerprint: Text that changes with each new label; None without labels.
    """

    labels: tuple[Label, ...] = ()
    fingerprint: str | None = None


def now() -> str:
    """Return the current time in the format of `Label.labeled_at`."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def read(path: Path, known_tags: Sequence[str] = ()) -> LabelLog:
    """Read the labels of an event log, which may be missing; without known tags, every tag is valid.

    Raises:
        LabelError: A person's last label of a project has a tag that is not known.
        EventLogError: The log cannot be read.
    """
    log = EventLog(path)
    events = list(log.read(KIND))
    labels = tuple(_label(event) for event in events)
    for (project, person), tag in standing(labels).items():
        if known_tags and tag not in known_tags:
            raise LabelError(
                f"Project {project} has the label {tag!r} by {person}, which is none of the tags "
                f"{', '.join(known_tags)}: add it to the suite, or import another label of that person with "
                "`mlops label --import`."
            )
    return LabelLog(labels, f"{log.identity()}-{events[-1].row_id}" if events else None)


def fingerprint(path: Path) -> str | None:
    """Return the fingerprint of the labels without reading them; None without labels.

    A log that cannot be read has one too: `read` reports the error.
    """
    log = EventLog(path)
    try:
        row_id = log.last_row(KIND)
        return f"{log.identity()}-{row_id}" if row_id else None
    except EventLogError:
        return "unreadable"


def append(path: Path, labels: Sequence[Label]) -> None:
    """Append labels, all or none; they are on the disk when this returns.

    Raises:
        LabelError: One of them is not valid; none is saved.
        EventLogError: The log cannot be written; none is saved.
    """
    events = [_event(label) for label in labels]
    with closing(EventLog(path)) as log:
        log.append(events)


def append_missing(path: Path, choose: Callable[[Sequence[Label]], Sequence[Label]]) -> Sequence[Label]:
    """Append the labels that a function chooses given those in the log, and return them; see `append`.

    Other writers wait meanwhile.
    """
    chosen: Sequence[Label] = ()

    def to_append(events: Sequence[Event]) -> list[Event]:
        nonlocal chosen
        chosen = choose([_label(event) for event in events])
        return [_event(label) for label in chosen]

    with closing(EventLog(path)) as log:
        log.append_chosen(KIND, to_append)
    return chosen


def standing(labels: Sequence[Label]) -> dict[tuple[int, str], str]:
    """Return each person's last label of each project as (id, person) to tag, unless it was withdrawn.

    Of labels of the same time, the later one in the sequence counts.
    """
    last: dict[tuple[int, str], str] = {}
    for label in sorted(labels, key=lambda label: datetime.fromisoformat(label.labeled_at)):
        last[label.id, label.labeled_by] = label.tag
    return {key: tag for key, tag in last.items() if tag}


def require_person(name: str) -> str:
    """Return a person's name, trimmed.

    Raises:
        LabelError: It is empty, or has characters that cannot be printed, such as a line break.
    """
    if not name.strip() or not name.strip().isprintable():
        raise LabelError(f"{name!r} is not a person's name: give letters, on one line.")
    return name.strip()


def _label(event: Event) -> Label:
    return Label(**event.body)


def _event(label: Label) -> Event:
    try:
        at = datetime.fromisoformat(label.labeled_at)
        if at.utcoffset() is None:
            raise ValueError(f"the time {label.labeled_at} has no offset from UTC")
        if not 0 <= label.id <= _MAX_ID:
            raise ValueError(f"{label.id} is not an id")
        if label.tag != label.tag.strip() or (label.tag and not label.tag.isprintable()):
            raise ValueError(f"{label.tag!r} is not a tag")
        for name, value in (("labeled_by", label.labeled_by), ("source", label.source)):
            if not value.strip() or not value.isprintable():
                raise ValueError(f"{name} is {value!r}")
    except ValueError as error:
        raise LabelError(f"The label of project {label.id} is not valid: {error}.") from error
    return Event(KIND, at, asdict(label))
