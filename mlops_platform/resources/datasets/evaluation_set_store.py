"""The holdout evaluation sets: a JSON file per version, which never changes; the newest is in use."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import dagster as dg

from mlops_platform.atomic_write import atomic_write
from mlops_platform.errors import PlatformError


class VersionedSet(Protocol):
    """What is stored: a version of the rows on which models are compared."""

    @property
    def version(self) -> int:
        """The number of the version, from 1."""

    @property
    def tags(self) -> Collection[int]:
        """The ids of its rows; empty in no version."""

    def to_dict(self) -> dict[str, Any]:
        """Return the content as values of JSON."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the set of such values; raise a ValueError, KeyError or TypeError if they are none."""


Set = TypeVar("Set", bound=VersionedSet)


class EvaluationSetStore(dg.ConfigurableResource):
    """The versions of the evaluation set, in a folder."""

    base_dir: str

    def path(self, version: int) -> Path:
        """Return the file of a version."""
        return Path(self.base_dir) / f"{version}.json"

    def versions(self) -> list[int]:
        """Return the versions, oldest first."""
        names = (path.stem for path in Path(self.base_dir).glob("*.json"))
        return sorted(int(name) for name in names if name.isdecimal())

    def current(self, kind: type[Set]) -> Set | None:
        """Read the newest version as a set of that class; return None before the first."""
        versions = self.versions()
        return self.read(versions[-1], kind) if versions else None

    def read(self, version: int, kind: type[Set]) -> Set:
        """Read a version as a set of that class; a missing or damaged file is a `PlatformError`."""
        path = self.path(version)
        try:
            evaluation_set = kind.from_dict(json.loads(path.read_text(encoding="utf-8")))
            if evaluation_set.version != version or not evaluation_set.tags:
                raise ValueError("it holds another version, or no rows")
        except FileNotFoundError:
            raise PlatformError(f"Evaluation set {path} is missing: restore it from a backup.") from None
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise PlatformError(
                f"Evaluation set {path} is damaged: restore it from a backup, or remove it to use the previous version "
                "(or a new one)."
            ) from error
        return evaluation_set

    def add(self, new: Set) -> Set:
        """Store a new version and return it, or what another run has stored under the same version."""
        from filelock import FileLock

        path = self.path(new.version)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / ".lock"):
            if path.exists():
                return self.read(new.version, type(new))
            with atomic_write(path) as file:
                file.write_text(json.dumps(new.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return new
