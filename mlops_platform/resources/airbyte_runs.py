"""Which syncs a Dagster run has started: noted as tags of the run, where a retry of it finds them."""

from __future__ import annotations

import dagster as dg
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG

_TAG = "airbyte_sync/"  # and the connection


def note_start(connection_id: str, job: int) -> None:
    """Notes that this run has started a sync; without a run there is nothing to note.

    Args:
        connection_id: The connection.
        job: The sync's number.
    """
    context = _context()
    if context is not None:
        context.instance.add_run_tags(context.run_id, {_TAG + connection_id: str(job)})


def started_by_this_run(connection_id: str, job: int) -> bool:
    """Tells whether a sync was started by this run, or by the one that this run is a retry of.

    Args:
        connection_id: The connection.
        job: The sync's number.
    """
    context = _context()
    if context is None:
        return False
    own = context.instance.get_run_by_id(context.run_id)
    tags = own.tags if own is not None else {}
    earlier = {tags[name] for name in (PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG) if name in tags}
    runs = [own, *(context.instance.get_run_by_id(run) for run in earlier)]
    return any(run is not None and run.tags.get(_TAG + connection_id) == str(job) for run in runs)


def _context() -> dg.OpExecutionContext | None:
    try:
        return dg.OpExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return None
