"""`python -m benchmarks.ticks`: CPU time of the partition sensor's tick on BigQuery, with 10,000 partitions.

The sensor, the warehouse and Google's client are the real ones. Their server is `--answer`, a subprocess
on loopback that answers the query for partitions and accepts others; BigQuery's own time is not included.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PARTITIONS = 10_000
_PROJECT, _DATASET = "demo-project", "mlops_course"
_LOOK, _STATEMENT = "look", "statement"
_FIELDS = {"table_name": "STRING", "created": "INTEGER", "partitions": "STRING"}


def _rows(partitions: int, changed: int) -> list[dict[str, Any]]:
    """Return what BigQuery's REST API answers on a table of projects by day, and one of tags without partitions."""
    start, first = dt.date(1999, 1, 1), 1_600_000_000_000_000
    days = [
        f"{start + dt.timedelta(n):%Y%m%d} {first + 7_919 * n + (n < changed)} {100 + n % 7}" for n in range(partitions)
    ]
    rows = (("projects", first, ";".join(days)), ("tags", first, f"__UNPARTITIONED__ {first} 1000"))
    return [{"f": [{"v": str(value)} for value in row]} for row in rows]


class _Answers(BaseHTTPRequestHandler):
    """A token, one query's job and its rows; `POST /changed/N` sets how many partitions have changed."""

    protocol_version = "HTTP/1.1"
    body = b""

    def do_POST(self) -> None:
        request = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/token":
            self._say({"access_token": "token", "expires_in": 3600, "token_type": "Bearer"})
        elif self.path.startswith("/changed/"):
            partitions, changed = (int(part) for part in self.path.rsplit("/", 2)[1:])
            rows = _rows(partitions, changed)
            _Answers.body = json.dumps({**_result(len(rows)), "rows": rows}).encode()
            self._say({})
        elif self.path.split("?")[0].endswith("/tables"):
            self._send(request)  # the table as requested
        else:
            job = _LOOK if b"INFORMATION_SCHEMA.PARTITIONS" in request else _STATEMENT
            self._say(
                {
                    "jobReference": {"projectId": _PROJECT, "jobId": job, "location": "EU"},
                    "configuration": {"jobType": "QUERY", "query": {"query": ""}},
                    "status": {"state": "DONE"},
                    "statistics": {"query": {"statementType": "SELECT"}},
                }
            )

    def do_GET(self) -> None:
        whole = _LOOK in self.path and "maxResults=0" not in self.path
        self._send(_Answers.body if whole else json.dumps(_result(0)).encode())

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _say(self, answer: dict[str, Any]) -> None:
        self._send(json.dumps(answer).encode())

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _result(rows: int) -> dict[str, Any]:
    return {
        "jobComplete": True,
        "totalRows": str(rows),
        "jobReference": {"projectId": _PROJECT, "jobId": _LOOK, "location": "EU"},
        "schema": {"fields": [{"name": name, "type": kind} for name, kind in _FIELDS.items()]},
    }


@contextmanager
def _answering() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.ticks", "--answer"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()  # it holds nothing, and a parent that ignores SIGTERM hands that on


def tick_seconds(ticks: int, partitions: int = PARTITIONS) -> dict[str, list[float]]:
    """Tick the sensor.

    Args:
        ticks: How often, each way.
        partitions: Of the table of projects.

    Returns:
        CPU seconds of each tick, where nothing has changed and where one partition has.
    """
    import dagster as dg
    import requests
    from pydantic import SecretStr

    from mlops_platform.resources.warehouse.bigquery.credentials import BigQueryKey
    from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
    from mlops_platform.sensors.new_partitions import build_partition_sensor
    from mlops_platform_tests.production.bigquery_emulator import service_account_key

    sensor, instance = build_partition_sensor(), dg.DagsterInstance.ephemeral()
    seconds: dict[str, list[float]] = {"unchanged": [], "changed": []}
    cursor: str | None = None
    with _answering() as url, requests.Session() as session:
        session.trust_env = False
        warehouse = BigQueryWarehouse(
            project=_PROJECT,
            schema_name=_DATASET,
            location="EU",
            key=BigQueryKey(SecretStr(service_account_key(f"{url}/token"))),
            endpoint=url,
        )

        def tick(changed: int) -> tuple[float, int]:
            nonlocal cursor
            session.post(f"{url}/changed/{partitions}/{changed}", timeout=60)
            resources = {"warehouse": warehouse}
            with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
                begun = time.process_time()
                data = sensor.evaluate_tick(context)
                took = time.process_time() - begun
            cursor = data.cursor
            return took, len(data.run_requests or [])

        assert tick(0)[1] == 1  # all is new
        for _ in range(ticks):
            for case, changed in (("unchanged", 0), ("changed", 1), ("back", 0)):
                took, requests_made = tick(changed)
                assert requests_made == (case != "unchanged")
                if case in seconds:
                    seconds[case].append(took)
    return seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answer", action="store_true")
    parser.add_argument("--ticks", type=int, default=10)
    options = parser.parse_args()
    if options.answer:
        with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
            print(server.server_port, flush=True)
            server.serve_forever()
    else:
        print(json.dumps(tick_seconds(options.ticks)))
