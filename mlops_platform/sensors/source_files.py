"""The sensor `source_files`: starts `dataops` when a source file or people's labels change.

What follows downstream of `dataops` is left to the conditions in ``automation``.
"""

import hashlib
import json
from pathlib import Path

import dagster as dg

from mlops_platform.resources.csv_ingest.source_file import SOURCE_FINGERPRINT, fingerprint, is_url
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
    if is_url(uri):
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


def _loaded_fingerprint(instance: dg.DagsterInstance, asset: str, key: str) -> str | None:
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    metadata = event.asset_materialization.metadata if event and event.asset_materialization else {}
    return str(metadata[key].value) if key in metadata else None


def _is_loaded(instance: dg.DagsterInstance, asset: str, uri: str) -> bool:
    """Return whether a local file still has the content that was last loaded; a URL would have to be fetched."""
    loaded = _loaded_fingerprint(instance, asset, SOURCE_FINGERPRINT)
    return loaded is not None and not is_url(uri) and fingerprint(Path(uri).expanduser()) == loaded


def build_source_sensor(projects_uri: str, tags_uri: str, event_log_path: Path) -> dg.SensorDefinition:
    """Build the sensor `source_files` on two paths or URLs and the log of people's labels, which may be missing.

    Its cursor holds one stamp per source. A change starts one run: if that fails on a damaged file, the next run starts
    when the file changes again or a person starts it.
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
        stamps = cursor["stamps"]
        now = {name: stamp(uri) for name, uri in sources.items()}
        unreachable = [sources[name] for name, mark in now.items() if mark is None]
        changed = [
            name
            for name, mark in now.items()
            if mark not in (None, stamps.get(name)) and not _is_loaded(context.instance, name, sources[name])
        ]
        # ABSENT is a state too: before the first label, or after the log was moved away
        now[LABELS] = label_log.fingerprint(event_log_path) or ABSENT
        loaded_labels = _loaded_fingerprint(context.instance, "tags", LABELS_FINGERPRINT) or ABSENT
        if now[LABELS] not in (stamps.get(LABELS, ABSENT), loaded_labels):
            changed.append(LABELS)
        # a run would fail on an unreachable source: wait until both can be read
        if changed and unreachable:
            return dg.SkipReason(f"{', '.join(changed)} changed, but {', '.join(unreachable)} cannot be reached.")
        stamps |= {name: mark for name, mark in now.items() if mark is not None}
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
