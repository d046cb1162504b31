"""A dbt Cloud for tests: the REST calls that dagster-dbt makes, and a dbt that really runs.

A run executes its commands with dbt in this process, on the DuckDB warehouse of a prepared project, and gives out the
artifacts that dbt wrote. It can misbehave: refuse requests, never end, be cancelled, lose its artifacts.
"""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlops_platform.resources.dbt.manifest import PreparedProject

TOKEN = "the-token"  # noqa: S105
ACCOUNT, PROJECT, ENVIRONMENT = 11, 22, 33
_QUEUED, _RUNNING, _SUCCESS, _ERROR, _CANCELLED = 1, 3, 10, 20, 30


@dataclass
class Run:
    """A run of the double: the commands it was given, and how it stands."""

    number: int
    steps: list[str]
    status: int = _QUEUED
    artifacts: dict[str, Any] = field(default_factory=dict)
    log: str = ""


class DbtCloud:
    """The account: its jobs and runs, and the faults it shows."""

    def __init__(self, project: PreparedProject, folder: Path) -> None:
        self.project, self.folder = project, folder
        self.url = ""
        self.jobs: list[dict[str, Any]] = []
        self.runs: list[Run] = []
        self.requests: list[str] = []
        self.refuse: list[int] = []  # HTTP statuses of the next answers
        self.hang = False  # runs never end
        self.cancel_at_start = False
        self.lose_artifacts = False

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Answer a request; the status and what is to become JSON."""
        self.requests.append(f"{method} {path}")
        if self.refuse:
            return self.refuse.pop(0), {"status": {"user_message": "not now"}}
        parts = path.removeprefix(f"/api/v2/accounts/{ACCOUNT}/").split("/")
        match method, parts:
            case "GET", ["jobs"]:
                return 200, {"data": self.jobs}
            case "POST", ["jobs"]:
                self.jobs.append({**body, "id": 100 + len(self.jobs)})
                return 201, {"data": self.jobs[-1]}
            case "POST", ["jobs", _, "run"]:
                self.runs.append(Run(1000 + len(self.runs), body["steps_override"]))
                threading.Thread(target=self._execute, args=[self.runs[-1]], daemon=True).start()
                return 200, {"data": self._details(self.runs[-1])}
            case "POST", ["runs", number, "cancel"]:
                self._run(number).status = _CANCELLED
                return 200, {"data": self._details(self._run(number))}
            case "GET", ["runs", number]:
                return 200, {"data": self._details(self._run(number))}
            case "GET", ["runs", number, "artifacts", name] if name in self._run(number).artifacts:
                return 200, self._run(number).artifacts[name]
        return 404, {"status": {"user_message": "not found"}}

    def _run(self, number: str) -> Run:
        return self.runs[int(number) - 1000]

    def _details(self, run: Run) -> dict[str, Any]:
        steps = [{"name": step, "logs": run.log, "status_humanized": "Done"} for step in run.steps]
        href = f"{self.url}/deploy/{ACCOUNT}/projects/{PROJECT}/runs/{run.number}"
        return {"id": run.number, "status": run.status, "href": href, "run_steps": steps}

    def _execute(self, run: Run) -> None:
        if self.cancel_at_start:
            run.status = _CANCELLED
            return
        run.status = _RUNNING
        if self.hang:
            return
        from dbt.cli.main import dbtRunner

        project, target = self.project, self.folder / str(run.number)
        where = [*project.options, "--target-path", str(target), "--log-path", str(target)]
        ok = True
        for step in run.steps:
            program, *arguments = shlex.split(step)
            assert program == "dbt"
            outcome = dbtRunner().invoke([*arguments, *where])
            run.log += str(outcome.exception or "")
            ok = ok and outcome.success
        results = target / "run_results.json"
        if results.exists() and not self.lose_artifacts:
            run.artifacts["run_results.json"] = json.loads(results.read_text(encoding="utf-8"))
        run.status = _SUCCESS if ok else _ERROR


@contextmanager
def serving(cloud: DbtCloud) -> Iterator[DbtCloud]:
    """Serve a double on a free port of 127.0.0.1, and put its address into `url`."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            if self.headers.get("Authorization") == f"Token {TOKEN}":
                status, content = cloud.answer(self.command, urlsplit(self.path).path, body)
            else:
                status, content = 401, {"status": {"user_message": "Invalid token."}}
            answer = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = _serve  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cloud.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield cloud
    finally:
        server.shutdown()
        server.server_close()
