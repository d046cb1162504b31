"""The connection to MLflow: a server by its address, or a local store in SQLite.

What the platform stores there belongs in ``model_registry``; saving and loading models belongs in ``model_files``.
"""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from mlops_platform.atomic_write import atomic_write
from mlops_platform.errors import ModelError, first_line
from mlops_platform.settings import without_password

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SERVER_SECONDS = 5.0
_SQLITE = "sqlite:///"


def configure_mlflow() -> None:
    """Set what MLflow reads from the environment at its first import."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # give up a server that dies during a request after half a minute instead of many minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")


@dataclass(frozen=True)
class MlflowStore:
    """An MLflow tracking and registry store.

    Attributes:
        uri: `http(s)://...` of a server, or `sqlite:///...` of a local database.
        folder: The database and artifacts of a local store; unused with a server.
    """

    uri: str
    folder: Path

    @property
    def is_server(self) -> bool:
        """Whether the store is a server, which coordinates its clients and chooses where artifacts go."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def artifacts_uri(self) -> str | None:
        """The artifact location of a local store."""
        return None if self.is_server else (self.folder / "artifacts").as_uri()

    def exists(self) -> bool:
        """Return whether there is a store to query; a local one is created by its first client."""
        return self.is_server or self._database.exists()

    def require_server(self) -> None:
        """Raise a `ModelError` if there is a server that does not answer within about 10 s."""
        if not self.is_server:
            return
        import requests

        try:
            # MLflow's own client would retry for minutes
            response = requests.get(f"{self.uri.rstrip('/')}/health", timeout=SERVER_SECONDS)
            problem = None if response.ok else f"status {response.status_code}"
        except requests.RequestException as error:
            problem = type(error).__name__
        if problem:
            raise ModelError(
                f"The MLflow server {without_password(self.uri)} does not answer ({problem}): start it, or set "
                "MLOPS_MLFLOW_URI to its address."
            )

    def client(self) -> MlflowClient:
        """Return a client, and make this the store of `mlflow`'s module-level functions.

        Raises:
            ModelError: The server does not answer, or the database cannot be opened.
        """
        self.require_server()
        configure_mlflow()
        import mlflow
        from sqlalchemy.exc import SQLAlchemyError

        for name in ("alembic", "mlflow.store", "mlflow.tracking", "mlflow.models", "mlflow.sklearn"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with self.lock():
            if not self.exists():
                from mlflow import db

                # created atomically: a killed process would leave MLflow's migrations incomplete
                with atomic_write(self._database) as partial:
                    db.upgrade.main([f"{_SQLITE}{partial}"], standalone_mode=False)
            mlflow.set_tracking_uri(self.uri)
            try:
                return mlflow.MlflowClient(self.uri)
            except SQLAlchemyError as error:
                raise ModelError(
                    f"The MLflow store {self.uri} cannot be opened ({first_line(error)}): "
                    "restore its database, or move it away to start with an empty one."
                ) from error

    def lock(self) -> AbstractContextManager[object]:
        """Return the lock of a local store, for what only one process may do at a time."""
        if self.is_server:
            return nullcontext()
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock")

    @property
    def _database(self) -> Path:
        return Path(self.uri.removeprefix(_SQLITE))
