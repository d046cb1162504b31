"""Optuna studies in a storage that outlives the process."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.errors import PlatformError
from mlops_platform.resources.postgres import advisory_lock, is_postgres, parsed, require_postgres, unreachable

if TYPE_CHECKING:
    import optuna

# Dagster lives in the same database, and its table alembic_version and Optuna's would be one and the same
SCHEMA = "optuna"


@dataclass(frozen=True)
class StudyStore:
    """Where studies persist: any storage URL that Optuna knows; in Postgres, in a schema of their own.

    A plain object and not a ConfigurableResource, because Dagster's UI shows the values of those: the password too.
    """

    url: str = field(repr=False)

    @contextmanager
    def hold(self, name: str) -> Iterator["optuna.Study"]:
        """Continue a study, or begin it, and be the only one to do so; another process waits its turn.

        A search fails the trials that a killed one has left running, so two at once would fail each other's.

        Args:
            name: Name of the study.

        Yields:
            The study; it maximizes.

        Raises:
            PlatformError: The storage can't be opened.
        """
        study = self.open(name)
        with self._alone(f"study {name}"):
            yield study

    def open(self, name: str) -> "optuna.Study":
        """Continue a study, or begin it.

        Args:
            name: Name of the study.

        Returns:
            The study; it maximizes.

        Raises:
            PlatformError: The storage can't be opened.
        """
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        if self.url.startswith("sqlite:///"):
            Path(self.url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        storage = self.url
        if is_postgres(self.url):
            require_postgres(self.url, create_schema=SCHEMA)
            own = parsed(self.url).update_query_dict({"options": f"-csearch_path={SCHEMA}"})
            storage = own.render_as_string(hide_password=False)
        try:
            # the first use makes the tables: of two processes at once the second failed
            with self._alone("tables"):
                return optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
        except SQLAlchemyError as error:
            if is_postgres(self.url):
                raise unreachable(self.url, error) from None
            raise PlatformError(
                f"The studies in {self.url} cannot be opened ({str(error).splitlines()[0]}): "
                "move the file away to begin the search anew."
            ) from error

    def _alone(self, purpose: str) -> AbstractContextManager[object]:
        """A lock that every process which uses this storage respects."""
        if is_postgres(self.url):
            return advisory_lock(self.url, purpose)
        from filelock import FileLock

        return FileLock(f"{self.url.removeprefix('sqlite:///')}.{purpose.partition(' ')[0]}.lock")
