"""`mlops doctor` in production: what is missing, refused, or hangs is named with its setting, and nothing secret is."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr

from mlops_platform.cli.doctor import Check, Finding, evaluate, evaluate_in_parallel, services, try_warehouse
from mlops_platform.errors import PlatformError
from mlops_platform.settings import Settings
from mlops_platform_tests.conftest import run_mlops

SECRETS = {
    "MLOPS_AIRBYTE_CLIENT_SECRET": "hidden-one",
    "MLOPS_DBT_CLOUD_TOKEN": "hidden-two",
    "MLOPS_POSTGRES_URL": "postgresql://somebody:hidden-three@127.0.0.1:1/dagster",
}


class _Airbyte(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self._answer(200, b'{"access_token": "token"}')

    def do_GET(self) -> None:
        self._answer(200 if self.path.endswith("/known") else 404, b"{}")

    def _answer(self, code: int, body: bytes) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def airbyte() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Airbyte)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _finding(name: str, settings: Settings) -> Finding:
    (check,) = [check for check in services(settings) if check.name == name]
    return evaluate(check, settings)


def test_each_thing_that_is_not_set_is_named(tmp_path: Path) -> None:
    answer = run_mlops(tmp_path, "doctor", MLOPS_ENV="production", MLOPS_DBT_RUNNER="cloud")
    assert answer.returncode == 1
    for name in (
        "MLOPS_BIGQUERY_PROJECT",
        "MLOPS_AIRBYTE_URL",
        "MLOPS_AIRBYTE_CLIENT_ID",
        "MLOPS_AIRBYTE_CLIENT_SECRET",
        "MLOPS_AIRBYTE_PROJECTS_CONNECTION",
        "MLOPS_AIRBYTE_TAGS_CONNECTION",
        "MLOPS_DBT_CLOUD_ACCOUNT_ID",
        "MLOPS_DBT_CLOUD_TOKEN",
        "MLOPS_POSTGRES_URL",
        "MLOPS_MLFLOW_URI",
    ):
        assert name in answer.stdout
    assert "Traceback" not in answer.stdout + answer.stderr


def test_what_cannot_be_reached_is_named_and_no_secret_is_printed(tmp_path: Path) -> None:
    answer = run_mlops(
        tmp_path,
        "doctor",
        MLOPS_ENV="production",
        MLOPS_AIRBYTE_URL="http://127.0.0.1:1",
        MLOPS_AIRBYTE_WORKSPACE_ID="w",
        MLOPS_AIRBYTE_CLIENT_ID="us",
        MLOPS_AIRBYTE_PROJECTS_CONNECTION="a",
        MLOPS_AIRBYTE_TAGS_CONNECTION="b",
        MLOPS_DBT_RUNNER="cloud",
        MLOPS_DBT_CLOUD_URL="http://127.0.0.1:1",
        MLOPS_DBT_CLOUD_ACCOUNT_ID="7",
        MLOPS_MLFLOW_URI="http://127.0.0.1:1",
        **SECRETS,
    )
    assert answer.returncode == 1
    assert "Airbyte at http://127.0.0.1:1 is unavailable (ConnectionError)" in answer.stdout
    assert "accounts/7/ cannot be reached (ConnectionError)" in answer.stdout
    assert "The MLflow server http://127.0.0.1:1 does not answer (ConnectionError)" in answer.stdout
    assert "@127.0.0.1:1/dagster cannot be used" in answer.stdout
    assert "hidden" not in answer.stdout + answer.stderr


def test_a_connection_that_airbyte_does_not_know_is_named(airbyte: str) -> None:
    def settings(tags: str) -> Settings:
        return Settings(
            env="production",
            airbyte_url=airbyte,
            airbyte_workspace_id="w",
            airbyte_client_id="us",
            airbyte_client_secret=SecretStr("them"),
            airbyte_projects_connection="known",
            airbyte_tags_connection=tags,
        )

    found = _finding("Airbyte", settings("known"))
    assert (found.state, found.detail) == ("ok", f"Airbyte at {airbyte}, both connections are there")
    found = _finding("Airbyte", settings("lost"))
    assert found.state == "missing"
    assert "refused connection lost" in found.detail
    assert "MLOPS_AIRBYTE_TAGS_CONNECTION" in found.detail


def test_a_server_that_hangs_does_not_hide_the_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = Settings(env="production", mlflow_uri=address)
        hanging = [check for check in services(settings) if check.name == "MLflow server"]
        fine = Check("fine", lambda _: "there")
        started = time.monotonic()
        slow, quick = evaluate_in_parallel([*hanging, fine], settings, limit=0.5)
    assert time.monotonic() - started < 3
    assert (slow.state, slow.detail) == ("missing", "no answer within 0.5 s (MLOPS_MLFLOW_URI)")
    assert (quick.state, quick.detail) == ("ok", "there")


def test_an_address_that_cannot_be_read_shows_no_part_of_its_password() -> None:
    found = _finding("Postgres", Settings(env="production", postgres_url=SecretStr("postgresql://a:hid/den@b:5/c")))
    assert found.state == "missing"
    assert "MLOPS_POSTGRES_URL" in found.detail
    assert "hid" not in found.detail
    assert "den" not in found.detail


def test_smoke_leaves_nothing_behind(tmp_path: Path) -> None:
    from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse

    settings = Settings(home=tmp_path)
    assert "was created, loaded, queried and dropped" in try_warehouse(settings)
    warehouse = DuckDBWarehouse(path=str(settings.warehouse_path))
    assert not warehouse.has_table("mlops_doctor_scratch")
    settings.warehouse_path.write_bytes(b"no database")
    with pytest.raises(PlatformError, match="warehouse"):
        try_warehouse(settings)
