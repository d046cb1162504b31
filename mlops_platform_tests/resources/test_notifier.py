"""Routes of alerts, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from pydantic import SecretStr

from mlops_platform.errors import PlatformError
from mlops_platform.resources.notifier import Notifier


class Inbox:
    """A web hook that keeps what it is sent, by path."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                inbox.received.append((self.path, json.loads(body)))
                self.send_response(inbox.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"json://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    made = Inbox()
    Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_message_goes_to_its_owners_and_to_everyone(inbox: Inbox) -> None:
    routes = f"{inbox.address}/all team:data={inbox.address}/data\n team:ml={inbox.address}/ml?a=b"
    Notifier(SecretStr(routes)).send(["team:data"], "title", "It is broken & <b>.")
    assert sorted(path for path, _ in inbox.received) == ["/all", "/data"]
    assert {(body["title"], body["message"]) for _, body in inbox.received} == {("title", "It is broken & <b>.")}


def test_without_a_route_nothing_is_sent(inbox: Inbox) -> None:
    Notifier(SecretStr("")).send(["team:data"], "title", "text")
    Notifier(SecretStr(f"team:ml={inbox.address}")).send(["team:data"], "title", "text")
    assert inbox.received == []


def test_what_does_not_work_is_a_sentence_without_the_address(inbox: Inbox) -> None:
    inbox.status = 500
    for routes, said in (
        (f"{inbox.address}/hidden", "An alert could not be sent by json: check MLOPS_ALERTS and that service."),
        ("hidden", "Entry 1 of MLOPS_ALERTS is not an address: "),
        (f"{inbox.address} team:data", "Entry 2 of MLOPS_ALERTS is not an address: "),
        ("nosuch://hidden", "MLOPS_ALERTS: apprise does not understand the address of nosuch; correct it."),
    ):
        with pytest.raises(PlatformError) as error:
            Notifier(SecretStr(routes)).send([], "title", "text")
        assert str(error.value).startswith(said)
        assert "hidden" not in str(error.value)
