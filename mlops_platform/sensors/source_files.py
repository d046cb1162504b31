"""What starts runs from outside the graph: here, source files that have changed.

The sensor looks; what it starts is the job `dataops`. What follows downstream is left to the conditions in
``automation``.
"""

import hashlib
import json
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg

from mlops_platform.resources.csv_ingest.source_file import SOURCE_FINGERPRINT, fingerprint
from mlops_platform.resources.labels import label_log
from mlops_platform.resources.labels.label_log import LABELS_FINGERPRINT

INTERVAL_SECONDS = 30
PROBE_TIMEOUT = 10.0
LABELS, ABSENT = "labels", "absent"


def stamp(uri: str) -> str | None:
    """Tell cheaply whether a source may have changed.

    Args:
        uri: Path or http(s) URL.

    Returns:
        Text that differs when the source has changed; None where the source can't be looked at or a server
        says nothing to tell versions by.
    """
    if urlsplit(uri).scheme in ("http", "https"):
        import requests

        try:
            answer = requests.head(uri, timeout=PROBE_TIMEOUT, allow_redirects=True)
            answer.raise_for_status()
        except requests.RequestException:
            return None
        marks = [answer.headers.get(name) for name in ("ETag", "Last-Modified", "Content-Length")]
        return json.dumps(marks) if marks[0] or marks[1] else None
    try:
        found = Path(uri).expanduser().stat()
    except OSError:
        return None
    return f"{found.st_mtime_ns}-{found.st_size}"


def _loaded_fingerprint(instance: dg.DagsterInstance, asset: str, key: str = SOURCE_FINGERPRINT) -> str | None:
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    if event is None or event.asset_materialization is None:
        return None
    value = event.asset_materialization.metadata.get(key)
    return str(value.value) if value is not None else None


def _same_content(uri: str, loaded: str | None) -> bool:
    """Whether a local file still holds what was loaded last; a URL would have to be fetched to know."""
    if loaded is None or urlsplit(uri).scheme in ("http", "https"):
        return False
    return fingerprint(Path(uri).expanduser()) == loaded


def build_source_sensor(projects_uri: str, tags_uri: str, event_log_path: Path | None = None) -> dg.SensorDefinition:
    """Make the sensor that runs `dataops` when a source file changes.

    Its cursor holds one stamp a source. A change is asked for once: a run that fails on a damaged file is not
    started again until the file changes or somebody runs the job.

    Args:
        projects_uri: Path or URL of the projects.
        tags_uri: Path or URL of the tags.
        event_log_path: Has the labels that people gave; it may be missing.
    """
    sources = {"projects": projects_uri, "tags": tags_uri}

    @dg.sensor(
        job_name="dataops",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Watches the source files and people's labels; a change of content runs dataops.",
    )
    def source_files(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        cursor = json.loads(context.cursor) if context.cursor else {"stamps": {}, "requests": 0}
        now = {name: stamp(uri) for name, uri in sources.items()}
        unseen = [sources[name] for name, mark in now.items() if mark is None]
        touched = [name for name, mark in now.items() if mark is not None and mark != cursor["stamps"].get(name)]
        changed = [
            name for name in touched if not _same_content(sources[name], _loaded_fingerprint(context.instance, name))
        ]
        if event_log_path is not None:
            # no label is a state like others: before the first one, or after somebody moved the log away
            now[LABELS] = label_log.fingerprint(event_log_path) or ABSENT
            loaded = _loaded_fingerprint(context.instance, "tags", LABELS_FINGERPRINT) or ABSENT
            if now[LABELS] not in (cursor["stamps"].get(LABELS, ABSENT), loaded):
                changed.append(LABELS)
        # a missing partner would only fail the run: wait until both can be read
        if changed and unseen:
            return dg.SkipReason(f"{', '.join(changed)} changed, but {', '.join(unseen)} cannot be looked at.")
        cursor["stamps"] |= {name: mark for name, mark in now.items() if mark is not None}
        if not changed:
            context.update_cursor(json.dumps(cursor))
            missing = f"; cannot look at {', '.join(unseen)}" if unseen else ""
            return dg.SkipReason(f"No source has changed since it was loaded{missing}.")
        # counted, so that a source that returns to an earlier state is loaded again; a tick that died before
        # its cursor was kept repeats the same key, and Dagster drops the repetition
        cursor["requests"] += 1
        state = json.dumps(cursor, sort_keys=True)
        run_key = f"{cursor['requests']}-{hashlib.sha256(state.encode()).hexdigest()[:16]}"
        request = dg.RunRequest(run_key=run_key, tags={"mlops/changed_sources": ",".join(changed)})
        return dg.SensorResult(run_requests=[request], cursor=state)

    return source_files
