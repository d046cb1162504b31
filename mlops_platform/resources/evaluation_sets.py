"""The frozen evaluation sets: JSON files, one a version; the newest is in use, and none is ever changed."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from mlops_platform.errors import PlatformError

if TYPE_CHECKING:
    from mlops_platform.ml.evaluation_set import EvaluationSet


class EvaluationSetStore(dg.ConfigurableResource):
    """Where the versions of the evaluation set lie."""

    base_dir: str

    def path(self, version: int) -> Path:
        """Where a version is, or will be."""
        return Path(self.base_dir) / f"{version}.json"

    def versions(self) -> list[int]:
        """The versions that are there, oldest first."""
        found = (path.stem for path in Path(self.base_dir).glob("*.json"))
        return sorted(int(name) for name in found if name.isdecimal())

    def current(self) -> "EvaluationSet | None":
        """Read the newest version; None before the first.

        Raises:
            PlatformError: Its file is damaged.
        """
        known = self.versions()
        return self.read(known[-1]) if known else None

    def read(self, version: int) -> "EvaluationSet":
        """Read a version.

        Args:
            version: Which one.

        Raises:
            PlatformError: Its file is missing or damaged.
        """
        from mlops_platform.ml.evaluation_set import EvaluationSet

        path = self.path(version)
        try:
            found = EvaluationSet.from_dict(json.loads(path.read_text(encoding="utf-8")))
            if found.version != version or not found.tags:
                raise ValueError("it holds another version, or no rows")
        except FileNotFoundError:
            raise PlatformError(f"Evaluation set {path} is missing: restore it from a backup.") from None
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise PlatformError(
                f"Evaluation set {path} is damaged: restore it from a backup, or remove it, and the version before it "
                "(or a new choice) is used."
            ) from error
        return found

    def add(self, chosen: "EvaluationSet") -> "EvaluationSet":
        """Keep a new version, unless another run was faster.

        Args:
            chosen: The set.

        Returns:
            What is kept under that version: the given set, or the other run's.
        """
        from filelock import FileLock

        path = self.path(chosen.version)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / ".lock"):
            if path.exists():
                return self.read(chosen.version)
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(json.dumps(chosen.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            temporary.replace(path)
        return chosen
