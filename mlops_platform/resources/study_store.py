"""Persistent storage of Optuna studies; what a search tries belongs to the tuning asset and `ml.tuning`."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from mlops_platform.errors import PlatformError, first_line
from mlops_platform.resources.postgres import advisory_lock, is_postgres, parsed, require_postgres, unreachable

if TYPE_CHECKING:
    import optuna

# Dagster's tables are in the same database, and both have a table alembic_version
SCHEMA = "optuna"


@dataclass(frozen=True)
class StudyStore:
    """A storage by its Optuna URL; in Postgres, studies have their own schema.

    A plain object and not a ConfigurableResource, because Dagster's UI shows the values of those: the password, too.
    """

    url: str = field(repr=False)

    @contextmanager
    def hold(self, name: str) -> Iterator["optuna.Study"]:
        """Open a study, and hold its lock while other processes wait.

        A search marks trials that a killed process left running as failed: two at once would fail each other's trials.
        """
        study = self.open(name)
        with self._lock(f"study {name}"):
            yield study

    def open(self, name: str) -> "optuna.Study":
        """Return a study, which maximizes; it is created if missing."""
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        if self.url.startswith("sqlite:///"):
            Path(self.url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        storage = self.url
        if is_postgres(self.url):
            require_postgres(self.url, create_schema=SCHEMA)
            url = parsed(self.url).update_query_dict({"options": f"-csearch_path={SCHEMA}"})
            storage = url.render_as_string(hide_password=False)
        try:
            # the first use creates the tables: of two processes that do so at once, one fails
            with self._lock("tables"):
                return optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
        except SQLAlchemyError as error:
            if is_postgres(self.url):
                raise unreachable(self.url, error) from None
            raise PlatformError(
                f"The studies in {self.url} cannot be opened ({first_line(error)}): "
                "move the file away to start a new search."
            ) from error

    def _lock(self, purpose: str) -> AbstractContextManager[object]:
        """Return a lock that all processes with this storage share."""
        if is_postgres(self.url):
            return advisory_lock(self.url, purpose)
        return FileLock(f"{self.url.removeprefix('sqlite:///')}.{purpose.partition(' ')[0]}.lock")
