"""A stand-in for an Airbyte server: its public API over HTTP, syncs that really load, and faults on command.

It follows Airbyte's APIs as dagster-airbyte 0.29 uses them: the public API (`/api/public/v1` of a self-managed server,
`/v1` of Airbyte Cloud) and the configuration API (`/api/v1`). It does not show that a real Airbyte behaves so.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from mlops_platform.resources.airbyte.workspace import Airbyte

WORKSPACE, CLIENT_ID, CLIENT_SECRET = str(uuid.UUID(int=1)), "an-application", "its-secret-7f3a"
CONNECTIONS = {"projects": str(uuid.UUID(int=10)), "tags": str(uuid.UUID(int=11))}
OVER = ("succeeded", "failed", "cancelled")
Answer = tuple[int, Mapping[str, Any]]


@dataclass
class Job:
    """A job and the statuses that it will still go through, one per poll; the last one stays."""

    number: int
    connection: str
    script: list[str]
    kind: str = "sync"
    status: str = "pending"
    rows: int | None = None
    started: float = field(default_factory=time.time)

    def body(self) -> dict[str, Any]:
        moved = {} if self.rows is None else {"rowsSynced": self.rows, "bytesSynced": 100 * self.rows}
        return {
            "jobId": self.number,
            "status": self.status,
            "jobType": self.kind,
            "startTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
            "connectionId": self.connection,
            "duration": "PT1S",
            **moved,
        }


class AirbyteDouble:
    """The server; set its attributes to make it misbehave.

    Args:
        load: Called with the name of a connection when its sync succeeds; writes the rows and returns how many.

    Attributes:
        script: The statuses that jobs created from now on go through.
        unavailable: How many requests get a 503; `unavailable_for` matches the requests that count.
        lost_starts: How many times it creates a job and responds 500.
        late_jobs: From how many listings a new job is missing.
        dead_starts: How many times it creates no job and responds 500.
        slow_starts: Seconds until it responds after it has created a job; one for each start.
        refuses: A status with which it responds to every request that bears a token, such as 401.
    """

    def __init__(self, load: Callable[[str], int]) -> None:
        self.load = load
        self.script = ["pending", "running", "succeeded"]
        self.unavailable, self.unavailable_for = 0, re.compile("")
        self.lost_starts = self.late_jobs = self.dead_starts = 0
        self.slow_starts: list[float] = []
        self.refuses: int | None = None
        self.jobs: dict[int, Job] = {}
        self.requests: list[str] = []
        self._tokens: set[str] = set()
        self._lock = threading.RLock()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, at the same port as before."""
        self._server = _Server(("127.0.0.1", self._port), _handler(self))
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Go down: connections are refused; jobs and data stay."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def count(self, pattern: str) -> int:
        """Count the requests that match, such as `POST .*/jobs$`."""
        return sum(re.fullmatch(pattern, request) is not None for request in list(self.requests))

    def make_job(self, connection: str, kind: str = "sync") -> Job:
        """Create a job as if somebody else had started it."""
        with self._lock:
            job = Job(100 + len(self.jobs), connection, list(self.script), kind)
            self.jobs[job.number] = job
            return job

    def answer(self, method: str, target: str, body: Mapping[str, Any], authorization: str | None) -> Answer:
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        with self._lock:
            self.requests.append(f"{method} {path}")
            if self.unavailable and self.unavailable_for.match(f"{method} {path}"):
                self.unavailable -= 1
                return 503, {"title": "not now"}
            path = re.sub(r"^(/api(/public)?)?/v1", "", path)
            if path == "/applications/token":
                if (body.get("client_id"), body.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
                    return 403, {"title": "forbidden", "detail": "unknown application"}
                token = uuid.uuid4().hex
                self._tokens.add(f"Bearer {token}")
                return 200, {"access_token": token, "token_type": "Bearer", "expires_in": 180}
            if authorization not in self._tokens:
                return 401, {"title": "unauthorized"}
            if self.refuses is not None:
                return self.refuses, {"title": "refused"}
            if path == "/connections/get" and body["connectionId"] in CONNECTIONS.values():
                return 200, {"connectionId": body["connectionId"], "name": "a connection"}
            if path in {f"/connections/{connection}" for connection in CONNECTIONS.values()}:
                return 200, {"connectionId": path.rsplit("/")[-1], "workspaceId": WORKSPACE, "status": "active"}
            if path == "/jobs" and method == "GET":
                return self._list(query)
            if path == "/jobs" and method == "POST":
                return self._begin(body)
            if found := re.fullmatch(r"/jobs/(\d+)", path):
                return self._one(method, self.jobs.get(int(found[1])))
            return 404, {"title": "resource-not-found"}

    def _list(self, query: Mapping[str, list[str]]) -> Answer:
        jobs = [job for job in self.jobs.values() if job.connection == query["connectionId"][0]]
        if jobs and self.late_jobs and self.count("POST .*/jobs"):
            self.late_jobs -= 1
            jobs.pop()
        one = {name: values[0] for name, values in query.items()}
        listed = [job.body() for job in jobs if one.get("status", job.status) == job.status]
        listed = [body for body in listed if body["startTime"] >= one.get("createdAtStart", "")]
        # oldest first, unless the request orders otherwise
        listed.sort(key=lambda body: (body["startTime"], body["jobId"]), reverse=one.get("orderBy") == "createdAt|DESC")
        first, size = int(one.get("offset", 0)), int(one.get("limit", 20))
        more = f"{self.url}/v1/jobs?limit={size}&offset={first + size}" if len(listed) >= first + size else ""
        return 200, {"previous": "", "next": more, "data": listed[first : first + size]}

    def _begin(self, body: Mapping[str, Any]) -> Answer:
        if body["connectionId"] not in CONNECTIONS.values():
            return 404, {"title": "resource-not-found", "detail": "no such connection"}
        if self.dead_starts:
            self.dead_starts -= 1
            return 500, {"title": "Internal Server Error"}
        # the real one refuses a second sync too; here it is created, so that a test sees it
        under_way = [job for job in self.jobs.values() if job.kind != "sync" and job.status not in OVER]
        if under_way:
            return 409, {"title": "try-again-later", "detail": "a reset is already running"}
        job = self.make_job(body["connectionId"], body["jobType"])
        if self.lost_starts:
            self.lost_starts -= 1
            return 500, {"title": "Internal Server Error"}
        return 200, job.body()

    def _one(self, method: str, job: Job | None) -> Answer:
        if job is None:
            return 404, {"title": "resource-not-found"}
        if method == "DELETE":
            if job.status not in OVER:
                job.status, job.script = "cancelled", []
        elif job.script:
            job.status = job.script.pop(0)
            if job.status == "succeeded":
                (name,) = (name for name, number in CONNECTIONS.items() if number == job.connection)
                job.rows = self.load(name)
        return 200, job.body()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""


def _handler(double: AirbyteDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            status, content = double.answer(self.command, self.path, body, self.headers.get("Authorization"))
            if self.command == "POST" and self.path.endswith("/jobs") and double.slow_starts:
                time.sleep(double.slow_starts.pop(0))
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815

    return Handler


def airbyte(double: AirbyteDouble, **changes: Any) -> Airbyte:
    """The platform's Airbyte on a double, with short pauses."""
    known: dict[str, Any] = {
        "url": double.url,
        "cloud": False,
        "workspace_id": WORKSPACE,
        "client_id": CLIENT_ID,
        "client_secret": SecretStr(CLIENT_SECRET),
        "poll_interval": 0.02,
        "poll_timeout": 10.0,
        "request_retry_delay": 0.02,
    }
    return Airbyte(**{**known, **changes})
