"""Copies of the last champions on this disk, for a start of the service while the MLflow server is away."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mlops_platform.atomic_write import atomic_write
from mlops_platform.resources.registry.model_files import load_model
from mlops_platform.resources.registry.model_registry import RegisteredVersion

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

KEPT = 2  # the present and the last one
_LAST, _COMING = "champion.json", ".coming-"
_LEFT = 3600  # age in seconds of a partial copy that a killed worker has left
_log = logging.getLogger(__name__)


class Source(Protocol):
    """Where models are copied from; `MlflowTracking` implements it."""

    def load(self, version: str) -> Pipeline:
        """Load a version's pipeline."""

    def download(self, version: str, folder: Path) -> None:
        """Copy a version's files into an empty folder."""


class ModelCopies:
    """A folder of models; several workers may share it."""

    def __init__(self, folder: Path, source: Source, read: Callable[[Path], Pipeline] = load_model) -> None:
        """Create nothing yet."""
        self._folder, self._source, self._read = folder, source, read

    def load(self, found: RegisteredVersion) -> Pipeline:
        """Load a version from its copy; if that cannot be created or read, from its source."""
        try:
            copy = self._copied(found)
        except Exception as error:  # not even a full disk, whose error MLflow wraps, may hold a promotion back
            _log.warning("Version %s is not copied to %s: %s", found.version, self._folder, error)
            return self._source.load(found.version)
        try:
            return self._read(copy)
        except Exception:  # damaged, or removed by another worker that is ahead
            shutil.rmtree(copy, ignore_errors=True)
            return self._source.load(found.version)

    def remember(self, found: RegisteredVersion) -> None:
        """Note that a version is served, and remove all copies but the last two."""
        try:
            with atomic_write(self._folder / _LAST) as partial:
                content = {**asdict(found), "created_at": found.created_at.isoformat()}
                partial.write_text(json.dumps(content), encoding="utf-8")
            self._prune(self._place(found))
        except OSError as error:
            _log.warning("Which version was served last cannot be noted in %s: %s", self._folder, error.strerror)

    def last(self) -> RegisteredVersion | None:
        """Return the version that was served last, if its copy is there."""
        try:
            noted = json.loads((self._folder / _LAST).read_text(encoding="utf-8"))
            found = RegisteredVersion(**{**noted, "created_at": datetime.fromisoformat(noted["created_at"])})
        except FileNotFoundError:
            return None
        return found if self._place(found).is_dir() else None

    def _place(self, found: RegisteredVersion) -> Path:
        return self._folder / f"{found.version}-{found.run_id}"

    def _copied(self, found: RegisteredVersion) -> Path:
        place = self._place(found)
        if place.is_dir():
            return place
        self._folder.mkdir(parents=True, exist_ok=True)
        coming = Path(tempfile.mkdtemp(dir=self._folder, prefix=_COMING))
        try:
            self._source.download(found.version, coming)
            try:
                coming.rename(place)
            except OSError:
                if not place.is_dir():  # else another worker was faster
                    raise
        finally:
            shutil.rmtree(coming, ignore_errors=True)
        return place

    def _prune(self, served: Path) -> None:
        if served.is_dir():
            os.utime(served)  # a rollback makes an old copy the newest
        dated = sorted((path.stat().st_mtime, path) for path in self._folder.iterdir() if path.name != _LAST)
        copies = [path for _, path in dated if not path.name.startswith(".")]
        left = [path for changed, path in dated if path.name.startswith(".") and changed < time.time() - _LEFT]
        for path in [*copies[:-KEPT], *left]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
