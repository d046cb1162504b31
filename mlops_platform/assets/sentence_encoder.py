"""The sentence encoder of a model: exported once, its precision chosen by F1, with a cache of vectors.

The encoder itself is in ``ml.embeddings``; its files and the cache are in ``resources.encoders``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import ModelError
from mlops_platform.resources.encoders.encoder_store import EncoderStore

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from mlops_platform.ml.embeddings.encoder import Encoder
    from mlops_platform.ml.tuning.encoder_precision import Precision

__all__ = ["choose_encoder", "export_encoders", "tuned_encoder", "with_vector_cache"]


def choose_encoder(store: EncoderStore, texts: list[str], labels: list[str]) -> Precision | None:
    """Choose the encoder for training texts with their labels: int8 weights, unless they cost the model F1.

    Returns:
        The choice with its F1; None where the features are TF-IDF alone.
    """
    if store.features != "sentence":
        return None
    from mlops_platform.ml.tuning.encoder_precision import choose_precision

    exact, quantized = export_encoders(store)
    return choose_precision(exact, quantized, texts, labels)


def tuned_encoder(store: EncoderStore, tuned_params: Mapping[str, Any]) -> Encoder | None:
    """Return the encoder that the parameters in the value of `tuned_params` were tuned with; None without one.

    Raises:
        ModelError: They were tuned for other features than MLOPS_FEATURES, or the encoder is gone.
    """
    if "encoder" in tuned_params and tuned_params["encoder"] is None:
        return None  # the model is trained out of core
    chosen = tuned_params.get("encoder")
    if (chosen is not None) != (store.features == "sentence"):
        raise ModelError(
            f"MLOPS_FEATURES is {store.features}, but the parameters were tuned for other features: "
            "materialize tuned_params again."
        )
    if chosen is None:
        return None
    digest = chosen["digest"]
    encoder = _load(store, digest) or next((e for e in export_encoders(store) if e.digest == digest), None)
    if encoder is None:
        raise ModelError(
            f"The encoder {digest[:12]}, for which the parameters were tuned, is gone, and MLOPS_SENTENCE_MODEL is now "
            "another model: materialize tuned_params again."
        )
    return encoder


def with_vector_cache(store: EncoderStore, model: Pipeline) -> Pipeline:
    """Give a fitted pipeline the store's cache of sentence vectors; one without an encoder is not changed."""
    from mlops_platform.ml.classifier.text_classifier import encoder_of

    encoder = encoder_of(model)
    if encoder is not None:
        encoder.cache = store.vectors
    return model


def export_encoders(store: EncoderStore) -> tuple[Encoder, Encoder]:
    """Return the float32 and the int8 encoder of the configured model, exported if they are not in the store."""
    from mlops_platform.ml.embeddings.encoder import Encoder
    from mlops_platform.resources.encoders.export import export

    model = store.find_model()
    with store.lock():
        stored = [_load(store, digest) for digest in store.exported(model.digest())]
        encoders = [encoder for encoder in stored if encoder is not None]
        if len(encoders) != 2:
            encoders = []
            for files in export(model):
                encoder = Encoder(files.graph, files.tokenizer, files.max_tokens, files.pooling)
                store.save(encoder.digest, files)
                encoder.cache = store.vectors
                encoders.append(encoder)
            store.record(model.digest(), [encoder.digest for encoder in encoders])
    exact, quantized = encoders
    return exact, quantized


def _load(store: EncoderStore, digest: str) -> Encoder | None:
    """Return a stored encoder, or None if it is missing or damaged."""
    from mlops_platform.ml.embeddings.encoder import Encoder

    files = store.load(digest)
    if files is None:
        return None
    encoder = Encoder(files.graph, files.tokenizer, files.max_tokens, files.pooling)
    encoder.cache = store.vectors
    return encoder if encoder.digest == digest else None
