"""Store of exported sentence encoders, each in a folder named by its digest, and of the vectors they computed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from mlops_platform.atomic_write import atomic_write
from mlops_platform.resources.encoders.export import EncoderFiles, ModelFolder, find_model
from mlops_platform.resources.encoders.vector_cache import SqliteVectorCache

__all__ = ["EncoderStore"]

_GRAPH, _TOKENIZER, _CONFIG = "encoder.onnx", "tokenizer.json", "config.json"


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
        """Return the folder of the model to export; see `export.find_model`."""
        return find_model(self.model, Path(self.base_dir) / "hub")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store's lock, so that one process exports and the others use its export."""
        from filelock import FileLock

        base = Path(self.base_dir)
        base.mkdir(parents=True, exist_ok=True)
        with FileLock(base / ".lock"):
            yield

    def exported(self, model: str) -> list[str]:
        """Return the digests of the encoders that were exported from a model with a digest; empty if there are none."""
        try:
            digests = json.loads(self._record(model).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return [str(digest) for digest in digests] if isinstance(digests, list) else []

    def record(self, model: str, encoders: Sequence[str]) -> None:
        """Record the digests of the encoders that were exported from a model."""
        with atomic_write(self._record(model)) as partial:
            partial.write_text(json.dumps(list(encoders)), encoding="utf-8")

    def save(self, digest: str, files: EncoderFiles) -> None:
        """Save an encoder; an existing one is replaced."""
        folder = Path(self.base_dir) / digest
        config = json.dumps({"max_tokens": files.max_tokens, "pooling": files.pooling})
        content = {_GRAPH: files.graph, _TOKENIZER: files.tokenizer.encode(), _CONFIG: config.encode()}
        for name, data in content.items():
            with atomic_write(folder / name) as partial:
                partial.write_bytes(data)

    def load(self, digest: str) -> EncoderFiles | None:
        """Return an encoder's files, or None if one is missing or unreadable; a caller checks the digest."""
        folder = Path(self.base_dir) / digest
        try:
            config = json.loads((folder / _CONFIG).read_bytes())
            return EncoderFiles(
                (folder / _GRAPH).read_bytes(),
                (folder / _TOKENIZER).read_text(encoding="utf-8"),
                int(config["max_tokens"]),
                str(config["pooling"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _record(self, model: str) -> Path:
        return Path(self.base_dir) / f"{model[:16]}.json"
