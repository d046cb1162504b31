"""`mlops label`: serve the labeling page until Ctrl-C, or exchange the queue and its labels as CSV files."""

from __future__ import annotations

import secrets
import threading
import webbrowser
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_platform.cli.deployments import who
from mlops_platform.cli.http_server import HOST, require_free, run_server
from mlops_platform.errors import PlatformError
from mlops_platform.settings import Settings
from mlops_platform.sql import SQL, sql

if TYPE_CHECKING:
    from mlops_platform.resources.warehouse.base import Warehouse

_STOP_SECONDS = 2
_IDS_AT_ONCE = 10_000


def label(
    port: Annotated[int | None, typer.Option(help="Port of the page (MLOPS_LABEL_PORT).")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address of the page.")] = False,
    person: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Who labels; you by default.")] = None,
    export: Annotated[Path | None, typer.Option("--export", help="Write the queue as a CSV to fill in.")] = None,
    source: Annotated[Path | None, typer.Option("--import", help="Import labels from a CSV with id and tag.")] = None,
) -> None:
    """Label the projects that the model would learn most from, in the browser or by CSV."""
    if export is not None and source is not None:
        raise typer.BadParameter("give either --export or --import")
    from mlops_platform.labeling.csv_exchange import write_queue
    from mlops_platform.labeling.queue import read_queue
    from mlops_platform.resources.factory import build_warehouse
    from mlops_platform.resources.labels.label_log import require_person

    settings = Settings(**({} if port is None else {"label_port": port}))  # type: ignore[arg-type]
    warehouse = build_warehouse(settings)
    if export is not None:
        queue = read_queue(warehouse)
        write_queue(queue, export)
        todo = f"fill in the column tag with {', '.join(queue.tags)}, then `mlops label --import {export}`"
        print(f"{len(queue.rows)} projects in {export}: {todo}.")
        return
    person = require_person(person or who())
    if source is not None:
        print(_import_labels(settings.event_log_path, warehouse, source, person))
    else:
        _serve(settings, warehouse, person, browser=not no_browser)


def _serve(settings: Settings, warehouse: Warehouse, person: str, *, browser: bool) -> None:
    """Serve the page until interrupted; the warehouse is read at the start and closed again."""
    from mlops_platform.labeling.label_app import build_app
    from mlops_platform.labeling.queue import read_queue
    from mlops_platform.resources.labels import label_log

    require_free("MLOPS_LABEL_PORT", settings.label_port)
    queue = read_queue(warehouse)
    label_log.read(settings.event_log_path)  # reports a damaged log before the first label
    token = secrets.token_urlsafe(24)
    # after a #, the token is neither sent with the address nor logged; the page sends it in a header
    address = f"http://{HOST}:{settings.label_port}/#{token}"
    print(f"Labeling as {person}: {address}")
    print("Ctrl-C stops it; each label is saved at once.", flush=True)
    if browser:
        # with a delay, so that the server listens by then
        opening = threading.Timer(1.0, webbrowser.open, [address])
        opening.daemon = True
        opening.start()
    app = build_app(queue, settings.event_log_path, person, token)
    run_server(app, HOST, settings.label_port, stop_seconds=_STOP_SECONDS)


def _import_labels(log: Path, warehouse: Warehouse, source: Path, person: str) -> str:
    """Import the labels of a CSV file, all or none; skip those in the log already."""
    from mlops_platform.labeling import csv_exchange
    from mlops_platform.labeling.queue import read_classes
    from mlops_platform.resources.labels import label_log

    with warehouse.connect():
        if not warehouse.has_table("projects"):
            raise PlatformError("There are no projects yet to label: run `mlops run` first.")
        tags = [tag for tag, _ in read_classes(warehouse)]
        labels = csv_exchange.read_labels(source, tags, person, lambda ids: _projects(warehouse, ids))
    at = label_log.now()
    added = label_log.append_missing(log, lambda logged: list(csv_exchange.missing(labels, logged, at)))
    tags_by_project: dict[int, set[str]] = {}
    for (project, _), tag in label_log.standing(label_log.read(log).labels).items():
        tags_by_project.setdefault(project, set()).add(tag)
    conflicts = sum(len(tags_by_project.get(project, ())) > 1 for project in {label.id for label in labels})
    report = f"{len(added)} labels imported, {len(labels) - len(added)} were imported before."
    if conflicts:
        report += f" People disagree on {conflicts} of these projects."
    return report + (" Next: `mlops run`." if added else "")


def _projects(warehouse: Warehouse, ids: Iterable[int]) -> set[int]:
    """Return which of these ids belong to projects."""
    candidates, known = sorted(project for project in ids if project < 2**63), set()
    for start in range(0, len(candidates), _IDS_AT_ONCE):
        numbers = SQL(", ".join(map(str, candidates[start : start + _IDS_AT_ONCE])))
        rows = warehouse.fetch_rows(sql("SELECT DISTINCT id FROM projects WHERE id IN ({numbers})", numbers=numbers))
        known |= {int(project) for (project,) in rows}
    return known
