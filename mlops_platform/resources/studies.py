"""Optuna studies in a storage that outlives the process."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

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
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        if self.url.startswith("sqlite:///"):
            Path(self.url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return optuna.create_study(study_name=name, storage=self.url, direction="maximize", load_if_exists=True)
