"""A local MLflow store before its first use: what MLflow reads, and its database.

This imports no Dagster, so that the process that makes the database has little to import.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CHILD = "import sys; from mlops_platform.resources.mlflow_store import make_database; make_database(sys.argv[1])"


def set_up_mlflow() -> None:
    """Set what MLflow reads at its first import."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # a server that dies in the middle is given up after about half a minute, not after many
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep the other users of a local store out of what only one may do at a time.

    Args:
        folder: Of the store; it is made when missing.
    """
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        yield


@contextmanager
def database_made_meanwhile(tracking_uri: str) -> Iterator[None]:
    """Let another process make the database of a local store, if there is none, while the block does other things.

    Whoever uses the store in the block waits for it or makes it; leaving the block ends that process.

    Args:
        tracking_uri: The store. Where it is a server, or the machine has one core, nothing is done.
    """
    path = tracking_uri.removeprefix("sqlite:///")
    if path == tracking_uri or Path(path).exists() or os.cpu_count() == 1:
        yield
        return
    # what it says is of no use: where it fails, the store's first user makes the database, or says why it can't
    child = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", _CHILD, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        child.kill()
        child.wait()


def make_database(path: str) -> None:
    """Make the database of a store, unless there is one: with MLflow's migrations, which take a second.

    Args:
        path: The file. It is there whole or not at all.
    """
    set_up_mlflow()
    from mlflow import db

    target = Path(path)
    with locked(target.parent):
        unfinished = target.parent / ".new"
        shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
        if target.exists():
            return
        unfinished.mkdir()
        made = unfinished / target.name
        db.upgrade.main([f"sqlite:///{made}"], standalone_mode=False)
        # unlike a renamed file, a link never takes the place of a database that somebody without the lock has made
        with suppress(FileExistsError):
            os.link(made, target)
        shutil.rmtree(unfinished)
