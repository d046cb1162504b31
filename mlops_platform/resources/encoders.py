"""Encoders of the sentence tier: made once from weights, kept by their content, lent with a cache of vectors."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform.errors import ModelError
from mlops_platform.resources.vectors import VectorStore
from mlops_platform.resources.weights import find_weights

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from mlops_platform.ml.encoder import Encoder
    from mlops_platform.ml.precision import Precision

_GRAPH, _TOKENIZER = "encoder.onnx", "tokenizer.json"


class Encoders(dg.ConfigurableResource):
    """Makes and keeps encoders where the features are "sentence"; with "tfidf" there are none.

    `weights` is the folder that MLOPS_SENTENCE_MODEL names; `base_dir` holds what is made, a folder an encoder.
    """

    features: str
    weights: str | None
    base_dir: str

    def choose(self, texts: list[str], labels: list[str]) -> Precision | None:
        """Take the encoder for a training: with 8-bit weights, unless the model would lose by it.

        Args:
            texts: The training rows.
            labels: Their tags.

        Returns:
            The choice with its figures; None where the features are TF-IDF alone.

        Raises:
            ModelError: The weights cannot be had.
        """
        if self.features != "sentence":
            return None
        from mlops_platform.ml.precision import choose_precision

        exact, small = self._made()
        return choose_precision(exact, small, texts, labels)

    def of(self, tuned_params: Mapping[str, Any]) -> Encoder | None:
        """The encoder with which parameters were tuned.

        Args:
            tuned_params: The asset's value.

        Raises:
            ModelError: They were tuned for other features than are set now, or the encoder is gone.
        """
        if "encoder" in tuned_params and tuned_params["encoder"] is None:
            return None  # the model is streamed
        said = tuned_params.get("encoder")
        if (said is not None) != (self.features == "sentence"):
            raise ModelError(
                f"MLOPS_FEATURES is {self.features} and the parameters were tuned for the other features: "
                "materialize tuned_params again."
            )
        if said is None:
            return None
        encoder = self._kept(said["digest"]) or next((e for e in self._made() if e.digest == said["digest"]), None)
        if encoder is None:
            raise ModelError(
                f"The encoder {said['digest'][:12]}, for which the parameters were tuned, is gone and the weights have "
                "changed: materialize tuned_params again."
            )
        return encoder

    def lend_cache(self, model: Pipeline) -> Pipeline:
        """Let a loaded model look its sentence vectors up; one without them is left as it is.

        Args:
            model: A fitted pipeline.

        Returns:
            The same pipeline.
        """
        from mlops_platform.ml.model import encoder_of

        encoder = encoder_of(model)
        if encoder is not None:
            encoder.cache = self._vectors()
        return model

    def _vectors(self) -> VectorStore:
        return VectorStore(Path(self.base_dir) / "vectors")

    def _made(self) -> tuple[Encoder, Encoder]:
        """The exact and the small encoder of the weights, made if they are not there."""
        from filelock import FileLock

        base = Path(self.base_dir)
        weights = find_weights(Path(self.weights) if self.weights else None, base / "hub")
        note = base / f"{_recipe(weights.digest())}.json"
        base.mkdir(parents=True, exist_ok=True)
        with FileLock(base / ".lock"):
            if (kept := self._noted(note)) is not None:
                return kept
            from mlops_platform.ml import bert_graph
            from mlops_platform.ml.encoder import Encoder

            config, arrays, tokenizer = weights.load()
            try:
                graph = bert_graph.build(config, arrays)
            except ValueError as error:
                raise ModelError(f"The sentence encoder in {weights.folder} cannot be used: {error}") from None
            made = [self._keep(Encoder(each, tokenizer)) for each in (graph, bert_graph.quantized(graph))]
            unfinished = note.with_suffix(".tmp")
            unfinished.write_text(json.dumps([each.digest for each in made]), encoding="utf-8")
            unfinished.replace(note)
        return made[0], made[1]

    def _noted(self, note: Path) -> tuple[Encoder, Encoder] | None:
        """The two encoders that a note names, if both are there and whole."""
        try:
            exact, small = (self._kept(str(digest)) for digest in json.loads(note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return None if exact is None or small is None else (exact, small)

    def _keep(self, encoder: Encoder) -> Encoder:
        place = Path(self.base_dir) / encoder.digest
        unfinished = place.with_name(f".{place.name}.{os.getpid()}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        (unfinished / _GRAPH).write_bytes(encoder.graph)
        (unfinished / _TOKENIZER).write_text(encoder.tokenizer, encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)  # damaged, else it would not be made again
        unfinished.replace(place)
        encoder.cache = self._vectors()
        return encoder

    def _kept(self, digest: str) -> Encoder | None:
        """An encoder that is there and whole."""
        from mlops_platform.ml.encoder import Encoder

        place = Path(self.base_dir) / digest
        try:
            encoder = Encoder((place / _GRAPH).read_bytes(), (place / _TOKENIZER).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        encoder.cache = self._vectors()
        return encoder if encoder.digest == digest else None


def _recipe(weights: str) -> str:
    """What decides the encoders of some weights: the code and the libraries that make them, too."""
    from importlib.metadata import version

    from mlops_platform.ml import bert_graph

    code = Path(bert_graph.__file__).read_text(encoding="utf-8")
    parts = (weights, version("onnx"), version("onnxruntime"), code)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
