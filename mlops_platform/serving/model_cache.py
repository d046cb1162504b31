"""Copies of the last champions on this disk, for a start of the service while the MLflow server is unavailable.

Which version to serve is decided in ``champion``.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.atomic_write import atomic_write
from mlops_platform.resources.registry.model_files import load_model
from mlops_platform.resources.registry.model_registry import MlflowTracking, RegisteredVersion

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

KEPT = 2  # the current and the previous one
_LAST = "champion.json"
_ABANDONED_SECONDS = 3600  # age of a partial copy that a killed worker did not complete
_log = logging.getLogger(__name__)


class ModelCopies:
    """A folder of models; several workers may share it."""

    def __init__(self, folder: Path, registry: MlflowTracking) -> None:
        """Create nothing yet."""
        self._folder, self._registry = folder, registry

    def load(self, version: RegisteredVersion) -> Pipeline:
        """Load a version from its copy; if that cannot be created or read, from the registry."""
        try:
            copy = self._copy(version)
        except Exception as error:  # nothing may delay a promotion, not even a full disk, whose error MLflow wraps
            _log.warning("Version %s is not copied to %s: %s", version.version, self._folder, error)
            return self._registry.load(version.version)
        try:
            return load_model(copy)
        except Exception:  # damaged, or already removed by another worker
            shutil.rmtree(copy, ignore_errors=True)
            return self._registry.load(version.version)

    def remember(self, version: RegisteredVersion) -> None:
        """Record that a version is served, and remove all copies but the last two."""
        try:
            with atomic_write(self._folder / _LAST) as partial:
                content = {**asdict(version), "created_at": version.created_at.isoformat()}
                partial.write_text(json.dumps(content), encoding="utf-8")
            self._prune(self._path(version))
        except OSError as error:
            _log.warning("The last served version cannot be recorded in %s: %s", self._folder, error.strerror)

    def last(self) -> RegisteredVersion | None:
        """Return the version that was served last, if its copy is there."""
        try:
            record = json.loads((self._folder / _LAST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        version = RegisteredVersion(**{**record, "created_at": datetime.fromisoformat(record["created_at"])})
        return version if self._path(version).is_dir() else None

    def _path(self, version: RegisteredVersion) -> Path:
        return self._folder / f"{version.version}-{version.run_id}"

    def _copy(self, version: RegisteredVersion) -> Path:
        path = self._path(version)
        if path.is_dir():
            return path
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".partial-") as folder:
            partial = Path(folder, "model")
            partial.mkdir()
            self._registry.download(version.version, partial)
            try:
                partial.rename(path)
            except OSError:
                if not path.is_dir():  # else another worker was faster
                    raise
        return path

    def _prune(self, served: Path) -> None:
        if served.is_dir():
            os.utime(served)  # a rollback makes an old copy the newest
        dated = sorted((path.stat().st_mtime, path) for path in self._folder.iterdir() if path.name != _LAST)
        copies = [path for _, path in dated if not path.name.startswith(".")]
        oldest = time.time() - _ABANDONED_SECONDS
        abandoned = [path for changed, path in dated if path.name.startswith(".") and changed < oldest]
        for path in [*copies[:-KEPT], *abandoned]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
