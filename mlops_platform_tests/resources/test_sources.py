"""Sources over a real HTTP server on this machine: answers, retries, time limits, sentences."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlops_platform.errors import SourceError
from mlops_platform.resources.csv_ingest import source_file
from mlops_platform.resources.csv_ingest.inspection import inspect_csv
from mlops_platform.resources.csv_ingest.source_file import display_name, fetched

BODY = b"id,tag\n1,a\n"
Answer = Callable[[BaseHTTPRequestHandler, int], None]


class Server:
    """Answers GET /x.csv with what `answer` says; it gets the handler and the number of the request."""

    def __init__(self) -> None:
        self.answer: Answer = lambda handler, _: send(handler, 200, BODY)
        self.requests = 0
        self.closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                outer.answer(self, outer.requests)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/x.csv"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", length: int | None = None) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(source_file, "_BACKOFF_SECONDS", 0.01)
    server = Server()
    yield server
    server.closing.set()
    server.http.shutdown()
    server.http.server_close()


def fetch(uri: str, timeout: float = 5.0) -> bytes:
    with fetched(uri, timeout) as source:
        return source.path.read_bytes()


def refusal(uri: str, timeout: float = 5.0) -> str:
    with pytest.raises(SourceError) as caught:
        fetch(uri, timeout)
    return str(caught.value)


def test_a_url_becomes_a_file_that_is_gone_afterwards(server: Server) -> None:
    with fetched(server.url, 5.0) as source:
        assert (source.name, source.path.read_bytes()) == (server.url, BODY)
    assert not source.path.exists()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server: Server, status: int) -> None:
    server.answer = lambda handler, n: send(handler, status if n < 3 else 200, BODY)
    assert fetch(server.url) == BODY
    assert server.requests == 3


def test_a_server_that_stays_busy_is_given_up(server: Server) -> None:
    server.answer = lambda handler, _: send(handler, 503)
    assert refusal(server.url) == (f"{server.url} is not available (HTTP 503 after 3 retries); try again later.")
    assert server.requests == 4


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(404, "does not exist on the server"), (403, "needs a login"), (418, "cannot be fetched")],
)
def test_a_refusal_is_not_retried(server: Server, status: int, sentence: str) -> None:
    server.answer = lambda handler, _: send(handler, status, b"no")
    assert sentence in refusal(server.url)
    assert server.requests == 1


def test_a_server_that_stalls_is_given_up_in_time(server: Server) -> None:
    def stall(*_: object) -> None:
        server.closing.wait(10)

    server.answer = stall
    assert "did not answer within 0.1 s" in refusal(server.url, timeout=0.1)


def test_a_download_that_stalls_in_the_middle_is_given_up_in_time(server: Server) -> None:
    def stall(handler: BaseHTTPRequestHandler, _: int) -> None:
        send(handler, 200, BODY[:3], length=len(BODY))
        handler.wfile.flush()
        server.closing.wait(10)

    server.answer = stall
    assert "did not answer within 0.1 s" in refusal(server.url, timeout=0.1)


def test_a_download_that_breaks_off_starts_again(server: Server) -> None:
    server.answer = lambda handler, n: send(handler, 200, BODY if n == 2 else BODY[:3], length=len(BODY))
    assert fetch(server.url) == BODY
    assert server.requests == 2


def test_a_download_that_always_breaks_off_is_no_short_file(server: Server) -> None:
    server.answer = lambda handler, _: send(handler, 200, BODY[:3], length=len(BODY))
    assert "broke off in the middle of the download, 4 times" in refusal(server.url)


def test_a_web_page_with_status_200_is_no_csv(server: Server) -> None:
    server.answer = lambda handler, _: send(handler, 200, b"<!doctype html><title>Log in</title>")
    with fetched(server.url, 5.0) as source, pytest.raises(SourceError) as caught:
        inspect_csv(source.path, source.name)
    assert str(caught.value).startswith(f"{server.url} is a web page or XML, not a CSV")


def test_a_full_disk_is_said_plainly(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        assert "cannot be saved" in refusal(server.url)


@pytest.mark.usefixtures("server")
def test_nobody_there() -> None:
    assert "cannot be reached" in refusal("http://127.0.0.1:1/x.csv")


@pytest.mark.usefixtures("server")
def test_a_host_that_does_not_exist() -> None:
    assert "names a host that cannot be found" in refusal("http://host.invalid/x.csv")


@pytest.mark.parametrize("uri", ["s3://bucket/x.csv", "file:///x.csv", "ftp://host/x.csv"])
def test_other_schemes_are_refused(uri: str) -> None:
    assert "neither a path nor an http(s) URL" in refusal(uri)


def test_secrets_in_a_url_are_not_shown(server: Server) -> None:
    server.answer = lambda handler, _: send(handler, 404)
    port = server.http.server_port
    message = refusal(f"http://user:secret@127.0.0.1:{port}/x.csv?token=secret")
    assert message.startswith(f"http://127.0.0.1:{port}/x.csv does not exist")
    assert "secret" not in message
    assert display_name("a/b?c@d") == "a/b?c@d"


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(BODY)
    with fetched(str(path), 1.0) as source:
        assert source.path == path
    assert path.exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none.csv", "does not exist; check the path."),
        (".", "is a folder; give the CSV"),
        ("empty", "is empty"),
    ],
)
def test_a_path_without_a_file_is_refused(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "empty").touch()
    uri = f"{tmp_path}/{name}"
    assert refusal(uri).startswith(f"{uri} {sentence}")
