"""`mlops label`: the labeling page until Ctrl-C, and the queue and its labels as CSV files."""

from __future__ import annotations

import secrets
import threading
import webbrowser
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.cli.deployments import who
from mlops_platform.cli.ui import HOST, require_free
from mlops_platform.errors import PlatformError
from mlops_platform.settings import Settings, WarehouseSettings
from mlops_platform.sql import SQL, sql

if TYPE_CHECKING:
    from mlops_platform.resources.warehouse.base import Warehouse

_STOP_SECONDS = 2
_IDS_AT_ONCE = 10_000


def serve(settings: Settings, person: str | None, *, browser: bool) -> None:
    """Serve the page until interrupted; the warehouse is read at the start, and not held.

    Args:
        settings: Where the queue is, and the port.
        person: Who labels; by default the user of the system.
        browser: Whether to open it.

    Raises:
        PlatformError: There is no queue, the log of labels is damaged, or the port is taken.
    """
    from mlops_platform.labeling.queue import read_queue
    from mlops_platform.resources.labels import label_log

    name = label_log.require_person(person or who())
    require_free("MLOPS_LABEL_PORT", settings.label_port)
    queue = read_queue(_warehouse(settings))
    label_log.read(settings.event_log_path)  # reports a damaged log before the first label

    import uvicorn

    from mlops_platform.labeling.app import build_app

    token = secrets.token_urlsafe(24)
    # behind #: it is not sent, and in no log; the page sends it in a header
    address = f"http://{HOST}:{settings.label_port}/#{token}"
    print(f"Labeling as {name}: {address}")
    print("Ctrl-C stops it; each label is saved at once.", flush=True)
    if browser:
        # a moment later, when somebody listens
        opening = threading.Timer(1.0, webbrowser.open, [address])
        opening.daemon = True
        opening.start()
    uvicorn.run(
        build_app(queue, settings.event_log_path, name, token),
        host=HOST,
        port=settings.label_port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )


def export_queue(settings: Settings, target: Path) -> str:
    """Write the queue as a CSV file to fill in.

    Args:
        settings: Where the queue is.
        target: The file.

    Returns:
        What was done, in a sentence.

    Raises:
        PlatformError: There is no queue, or the file can't be written.
    """
    from mlops_platform.labeling.csv_exchange import write_queue
    from mlops_platform.labeling.queue import read_queue

    queue = read_queue(_warehouse(settings))
    write_queue(queue, target)
    return (
        f"{len(queue.rows)} projects in {target}: fill in the column tag with {', '.join(queue.tags)}, "
        f"then `mlops label --import {target}`."
    )


def import_labels(settings: Settings, source: Path, person: str | None) -> str:
    """Take the labels of a CSV file, all or none; what is there already is not taken again.

    Args:
        settings: Where the log of labels is.
        source: The file, with the columns id and tag.
        person: Who gave the labels that name nobody; by default the user of the system.

    Returns:
        What was done, in a sentence.

    Raises:
        PlatformError: The file is no such CSV, or a line of it can't be taken.
    """
    from mlops_platform.labeling import csv_exchange
    from mlops_platform.labeling.queue import read_classes
    from mlops_platform.resources.labels import label_log

    warehouse = _warehouse(settings)
    name = label_log.require_person(person or who())
    with warehouse.connect():
        if not warehouse.has_table("projects"):
            raise PlatformError("There are no projects yet to label: run `mlops run` first.")
        tags = [tag for tag, _ in read_classes(warehouse)]
        read = csv_exchange.read_labels(source, tags, name)
        known = _projects(warehouse, {label.id for _, label in read if not isinstance(label, str)})
    sound = list(csv_exchange.require_sound(source, read, known).values())
    at = label_log.now()
    added = label_log.append_missing(
        settings.event_log_path, lambda there: list(csv_exchange.missing(sound, there, at))
    )
    disputed: dict[int, set[str]] = {}
    for (key, _), tag in label_log.standing(label_log.read(settings.event_log_path).labels).items():
        disputed.setdefault(key, set()).add(tag)
    conflicts = sum(len(disputed.get(key, ())) > 1 for key in {label.id for label in sound})
    report = f"{len(added)} labels imported, {len(read) - len(added)} were there already."
    if conflicts:
        report += f" On {conflicts} of these projects people disagree."
    return report + (" Next: `mlops run`." if added else "")


def _projects(warehouse: Warehouse, ids: Iterable[int]) -> set[int]:
    """Return which of these ids are of projects."""
    wanted, known = sorted(project for project in ids if project < 2**63), set()
    for start in range(0, len(wanted), _IDS_AT_ONCE):
        numbers = SQL(", ".join(map(str, wanted[start : start + _IDS_AT_ONCE])))
        rows = warehouse.fetch_rows(sql("SELECT DISTINCT id FROM projects WHERE id IN ({numbers})", numbers=numbers))
        known |= {int(project) for (project,) in rows}
    return known


def _warehouse(settings: WarehouseSettings) -> Warehouse:
    from mlops_platform.resources.factory import build_warehouse

    return build_warehouse(settings)
