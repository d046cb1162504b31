"""A BigQuery emulator in a process of its own (local-bigquery, mended in two places), and the settings to reach it.

No real BigQuery was reached with these tests. The emulator answers REST and the Storage API; it checks no permission,
bills nothing and knows no quota: what depends on those is tested through `misbehaving.py`.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from mlops_platform.settings import PROJECT_ROOT

if TYPE_CHECKING:
    from google.cloud import bigquery

LAUNCHER = Path(__file__).with_name("bigquery_launcher.py")
PROJECT = "demo-project"
LOCATION = "EU"
_STARTING_SECONDS = 60.0


@dataclass(frozen=True)
class Emulator:
    """Where the emulator listens, and a key that opens it.

    Attributes:
        url: Of the REST API.
        storage: host:port of the Storage API.
        credentials: A service-account key as base64, made for this session.
    """

    url: str
    storage: str
    credentials: str

    def env(self, dataset: str, home: Path) -> dict[str, str]:
        """The environment of a platform in production whose warehouse is a dataset of the emulator."""
        return {
            "MLOPS_ENV": "production",
            "MLOPS_HOME": str(home),
            "MLOPS_LOADER": "csv",
            "MLOPS_SCHEMA_NAME": dataset,
            "MLOPS_BIGQUERY_PROJECT": PROJECT,
            "MLOPS_BIGQUERY_LOCATION": LOCATION,
            "MLOPS_BIGQUERY_CREDENTIALS": self.credentials,
            "MLOPS_BIGQUERY_ENDPOINT": self.url,
            "MLOPS_BIGQUERY_STORAGE_ENDPOINT": self.storage,
        }

    def client(self) -> bigquery.Client:
        """A client of the tests' own, beside the warehouse's."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import bigquery

        return bigquery.Client(
            project=PROJECT,
            location=LOCATION,
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": self.url},
        )


@contextmanager
def running(folder: Path) -> Iterator[Emulator]:
    """Start the emulator on free ports of 127.0.0.1, and stop it at the end.

    Args:
        folder: Takes its data and its log.
    """
    subprocess.run([PROJECT_ROOT / "scripts" / "bigquery-emulator.sh"], check=True)
    environment = PROJECT_ROOT / ".venv-bigquery"
    rest, storage = _free_port(), _free_port()
    log = folder / "emulator.log"
    with log.open("w") as output, _token_server() as token_uri:
        process = subprocess.Popen(
            [
                str(environment / "bin" / "python"),
                *(str(LAUNCHER), "serve", "--host", "127.0.0.1"),
                *("--port", str(rest), "--grpc-port", str(storage), "--project", PROJECT),
                *("--data-dir", str(folder / "data")),
            ],
            env={"PATH": os.environ["PATH"], "HOME": str(environment / "home")},
            stdout=output,
            stderr=output,
        )
        try:
            url = f"http://127.0.0.1:{rest}"
            _wait_for(f"{url}/bigquery/v2/projects/{PROJECT}/datasets", process, log)
            yield Emulator(url, f"127.0.0.1:{storage}", service_account_key(token_uri))
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _STARTING_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=10).read()  # noqa: S310
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"the BigQuery emulator did not start:\n{log.read_text()[-3000:]}") from None
            time.sleep(0.1)


class _TokenHandler(BaseHTTPRequestHandler):
    """Gives every caller a token, as Google's token endpoint gives one to the holder of a key."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps({"access_token": "token", "expires_in": 3600, "token_type": "Bearer"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def _token_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _TokenHandler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token"
    finally:
        server.shutdown()
        server.server_close()


def service_account_key(token_uri: str) -> str:
    """Make a key, as base64, whose tokens are got at an address."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    info = {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "made-for-this-session",
        "private_key": key.decode(),
        "client_email": f"tests@{PROJECT}.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_uri,
    }
    return base64.b64encode(json.dumps(info).encode()).decode()
