"""Store of exported sentence encoders, each in a folder named by its digest, and of the vectors they computed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import dagster as dg
from filelock import FileLock

from mlops_platform.atomic_write import atomic_write
from mlops_platform.resources.encoders.export import EncoderFiles, ModelFolder, find_model
from mlops_platform.resources.encoders.vector_cache import SqliteVectorCache

__all__ = ["EncoderStore"]

_GRAPH, _CONFIG = "encoder.onnx", "encoder.json"


class EncoderStore(dg.ConfigurableResource):
    """The encoders for the features "sentence"; with "tfidf" there are none.

    Attributes:
        features: "sentence" or "tfidf".
        model: The value of MLOPS_SENTENCE_MODEL: a folder, or a name on the hub.
        base_dir: The folder of the store.
    """

    features: str
    model: str | None
    base_dir: str

    @property
    def vectors(self) -> SqliteVectorCache:
        """The cache of vectors, of all encoders."""
        return SqliteVectorCache(Path(self.base_dir) / "vectors.db")

    def find_model(self) -> ModelFolder:
        """Return the model to export."""
        return find_model(self.model, Path(self.base_dir) / "hub")

    def lock(self) -> FileLock:
        """Return the store's lock: one process exports while the others wait for its export."""
        Path(self.base_dir).mkdir(parents=True, exist_ok=True)
        return FileLock(Path(self.base_dir) / ".lock")

    def exported(self, model: str) -> list[str]:
        """Return the digests of the encoders that were exported from a model with a digest; empty if there are none."""
        try:
            return list(map(str, json.loads(self._record(model).read_text(encoding="utf-8"))))
        except (OSError, TypeError, ValueError):
            return []

    def record(self, model: str, encoders: Sequence[str]) -> None:
        """Record the digests of the encoders that were exported from a model."""
        with atomic_write(self._record(model)) as partial:
            partial.write_text(json.dumps(list(encoders)), encoding="utf-8")

    def save(self, digest: str, files: EncoderFiles) -> None:
        """Save an encoder; an existing one is replaced."""
        config = asdict(files)
        graph = config.pop("graph")
        with atomic_write(Path(self.base_dir) / digest / _GRAPH) as partial:
            partial.write_bytes(graph)
        with atomic_write(Path(self.base_dir) / digest / _CONFIG) as partial:
            partial.write_text(json.dumps(config), encoding="utf-8")

    def load(self, digest: str) -> EncoderFiles | None:
        """Return an encoder's files, or None if one is missing or unreadable; a caller checks the digest."""
        folder = Path(self.base_dir) / digest
        try:
            config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
            return EncoderFiles(graph=(folder / _GRAPH).read_bytes(), **config)
        except (OSError, TypeError, ValueError):
            return None

    def _record(self, model: str) -> Path:
        return Path(self.base_dir) / f"{model[:16]}.json"
