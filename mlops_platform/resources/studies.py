"""Optuna studies in a storage that outlives the process."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from mlops_platform.errors import PlatformError

if TYPE_CHECKING:
    import optuna


class StudyStore(dg.ConfigurableResource):
    """Where studies persist: any storage URL that Optuna knows."""

    url: str

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
        try:
            return optuna.create_study(study_name=name, storage=self.url, direction="maximize", load_if_exists=True)
        except SQLAlchemyError as error:
            raise PlatformError(
                f"The studies in {self.url} cannot be opened ({str(error).splitlines()[0]}): "
                "move the file away to begin the search anew."
            ) from error
