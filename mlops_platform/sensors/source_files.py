"""The sensor `source_files`: starts `dataops` when a source file or people's labels change.

What follows downstream of `dataops` is left to the conditions in ``automation``.
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
    """Return a text that differs when the source at a path or http(s) URL may have changed, without reading it.

    Returns:
        None if the source cannot be reached, or its server sends neither ETag nor Last-Modified.
    """
    if urlsplit(uri).scheme in ("http", "https"):
        import requests

        try:
            response = requests.head(uri, timeout=PROBE_TIMEOUT, allow_redirects=True)
            response.raise_for_status()
        except requests.RequestException:
            return None
        headers = [response.headers.get(name) for name in ("ETag", "Last-Modified", "Content-Length")]
        return json.dumps(headers) if headers[0] or headers[1] else None
    try:
        status = Path(uri).expanduser().stat()
    except OSError:
        return None
    return f"{status.st_mtime_ns}-{status.st_size}"


def _loaded_fingerprint(instance: dg.DagsterInstance, asset: str, key: str = SOURCE_FINGERPRINT) -> str | None:
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    if event is None or event.asset_materialization is None:
        return None
    value = event.asset_materialization.metadata.get(key)
    return str(value.value) if value is not None else None


def _same_content(uri: str, loaded: str | None) -> bool:
    """Return whether a local file still has the content that was last loaded; a URL would have to be fetched."""
    if loaded is None or urlsplit(uri).scheme in ("http", "https"):
        return False
    return fingerprint(Path(uri).expanduser()) == loaded


def build_source_sensor(projects_uri: str, tags_uri: str, event_log_path: Path | None = None) -> dg.SensorDefinition:
    """Build the sensor `source_files`.

    Its cursor holds one stamp per source. A change starts one run: if that fails on a damaged file, the next run starts
    when the file changes again or a person starts it.

    Args:
        projects_uri: Path or URL of the projects.
        tags_uri: Path or URL of the tags.
        event_log_path: The log of people's labels, which may be missing.
    """
    sources = {"projects": projects_uri, "tags": tags_uri}

    @dg.sensor(
        job_name="dataops",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Polls the source files and people's labels; changed content starts dataops.",
    )
    def source_files(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        cursor = json.loads(context.cursor) if context.cursor else {"stamps": {}, "requests": 0}
        now = {name: stamp(uri) for name, uri in sources.items()}
        unreachable = [sources[name] for name, mark in now.items() if mark is None]
        touched = [name for name, mark in now.items() if mark is not None and mark != cursor["stamps"].get(name)]
        changed = [
            name for name in touched if not _same_content(sources[name], _loaded_fingerprint(context.instance, name))
        ]
        if event_log_path is not None:
            # ABSENT is a state too: before the first label, or after the log was moved away
            now[LABELS] = label_log.fingerprint(event_log_path) or ABSENT
            loaded = _loaded_fingerprint(context.instance, "tags", LABELS_FINGERPRINT) or ABSENT
            if now[LABELS] not in (cursor["stamps"].get(LABELS, ABSENT), loaded):
                changed.append(LABELS)
        # a run would fail on an unreachable source: wait until both can be read
        if changed and unreachable:
            return dg.SkipReason(f"{', '.join(changed)} changed, but {', '.join(unreachable)} cannot be reached.")
        cursor["stamps"] |= {name: mark for name, mark in now.items() if mark is not None}
        if not changed:
            context.update_cursor(json.dumps(cursor))
            missing = f"; {', '.join(unreachable)} cannot be reached" if unreachable else ""
            return dg.SkipReason(f"No source has changed since it was loaded{missing}.")
        # counted, so that a source that returns to an earlier state has another run key; a tick that died before its
        # cursor was stored repeats its key, which Dagster drops
        cursor["requests"] += 1
        state = json.dumps(cursor, sort_keys=True)
        run_key = f"{cursor['requests']}-{hashlib.sha256(state.encode()).hexdigest()[:16]}"
        request = dg.RunRequest(run_key=run_key, tags={"mlops/changed_sources": ",".join(changed)})
        return dg.SensorResult(run_requests=[request], cursor=state)

    return source_files
