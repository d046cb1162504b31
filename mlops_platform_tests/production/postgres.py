"""A real Postgres server from Debian's packages, on loopback, for one test session or benchmark."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

USER = "mlops"
PASSWORD = "s3cret@wörd/1"  # noqa: S105 - of a server that lives as long as the tests; its signs need quoting
START_SECONDS = 60.0


def installed() -> Path | None:
    """Where the newest Postgres that is installed has its programs; None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[4]))
    on_path = shutil.which("postgres")
    if found:
        return found[-1].parent
    return Path(on_path).parent if on_path else None


def binaries() -> Path:
    """Where the newest Postgres that is installed has its programs; without one the test fails."""
    if found := installed():
        return found
    pytest.fail("No Postgres server is installed: run `apt-get install postgresql`.", pytrace=False)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_somebody() -> dict[str, Any]:
    """Arguments of a subprocess: the server refuses to run as root."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    pytest.fail("Postgres cannot run as root, and there is no user `postgres`.", pytrace=False)


@dataclass
class Server:
    """A running server."""

    port: int
    password: str = PASSWORD

    def url(self, database: str, *, password: str = PASSWORD) -> str:
        """Address of a database, as a user would set it."""
        return f"postgresql://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database.

        Returns:
            Its address.
        """
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.query("postgres", f"create database {name}")
        return self.url(name)

    def query(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement; a database is given by name or address."""
        import psycopg2  # type: ignore[import-untyped]

        connection = psycopg2.connect(database if "://" in database else self.url(database))
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server with an empty cluster; it ends with the session."""
    with running() as server:
        yield server


@contextmanager
def running() -> Iterator[Server]:
    """Start a server with an empty cluster, and stop it at the end."""
    programs, somebody = binaries(), _as_somebody()
    # not below pytest's folder, which only its owner may enter
    folder = Path(tempfile.mkdtemp(prefix="mlops-postgres-"))
    process = None
    try:
        (folder / "password").write_text(PASSWORD, encoding="utf-8")
        if somebody:
            for path in (folder, folder / "password"):
                os.chown(path, somebody["user"], somebody["group"])
        data = folder / "data"
        options = [f"--pwfile={folder / 'password'}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", USER, "--auth=scram-sha-256", *options],
            check=True,
            capture_output=True,
            cwd=folder,
            **somebody,
        )
        server = Server(free_port())
        where = ["-p", str(server.port), "-h", "127.0.0.1", "-k", str(folder)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, *where, "-c", "fsync=off"],
                stdout=log,
                stderr=log,
                cwd=folder,
                **somebody,
            )
        _wait(server, process, folder / "log")
        yield server
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # SIGTERM would wait for every client to go
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg2

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            server.query("postgres", "select 1")
        except psycopg2.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"Postgres did not start:\n{log.read_text(errors='replace')}", pytrace=False)
            time.sleep(0.1)
        else:
            return
