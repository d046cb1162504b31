"""A proxy before an HTTP service that answers some requests itself, with faults."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

RESET = 0  # a status of none: the connection is closed without an answer


@dataclass
class Fault:
    """What the next requests that match get.

    Attributes:
        match: A pattern for "METHOD path".
        status: The HTTP status, or `RESET`.
        reason: Google's reason.
        message: Google's message.
        times: How many requests get it.
        pass_on: The service gets the request all the same: only its answer is lost.
    """

    match: str
    status: int
    reason: str
    message: str = "this is a test"
    times: int = 1
    pass_on: bool = False


@dataclass
class Proxy:
    """Where the proxy listens, the requests it received, and the faults of the next ones."""

    url: str = ""
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def count(self, match: str) -> int:
        """Return the number of requests that matched."""
        return sum(re.search(match, line) is not None for line, _ in self.requests)

    def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs that were requested: queries, and loads with their upload."""
        return [
            json.loads(body) for line, body in self.requests if re.match(r"POST /bigquery/\S+/jobs\?", line) and body
        ]


@contextmanager
def proxy_to(service: str) -> Iterator[Proxy]:
    """Start a proxy on a free port of 127.0.0.1, and stop it at the end."""
    proxy = Proxy()
    target = urlsplit(service)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            line = f"{self.command} {self.path}"
            proxy.requests.append((line, body))
            fault = next((fault for fault in proxy.faults if fault.times > 0 and re.search(fault.match, line)), None)
            if fault is not None:
                fault.times -= 1
                if fault.pass_on:
                    self._forward(body)
                if fault.status == RESET:
                    self.close_connection = True
                    return
                self._answer(fault.status, [("Content-Type", "application/json")], _google_error(fault))
                return
            self._answer(*self._forward(body))

        def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(target.netloc, timeout=60)
            try:
                headers = {name: value for name, value in self.headers.items() if name != "Accept-Encoding"}
                connection.request(self.command, self.path, body or None, headers)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            finally:
                connection.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()


def _google_error(fault: Fault) -> bytes:
    detail = {"message": fault.message, "reason": fault.reason, "domain": "global"}
    return json.dumps({"error": {"code": fault.status, "message": fault.message, "errors": [detail]}}).encode()
