"""Sentence vectors: an encoder that needs only onnxruntime and tokenizers, and its scikit-learn step.

This file is bundled with each registered model that uses it, so that such a model loads where this package is absent:
import nothing of the package here. Exporting, storing and caching belong in `resources.encoders`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

CHUNK = 512  # texts per write to the cache, which a killed process loses at most
REMEDY = "pip install '.[sentence-serving]'"
_RUNTIME = ("onnxruntime", "tokenizers")

Vectors = npt.NDArray[np.float32]
_sessions: WeakValueDictionary[str, Any] = WeakValueDictionary()  # models with the same encoder share its session


class VectorCache(Protocol):
    """A cache of computed vectors."""

    def read(self, encoder: str, size: int, keys: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """Return the cached vectors of length `size` by key."""

    def write(self, encoder: str, vectors: Mapping[bytes, Vectors]) -> None:
        """Store vectors by key."""


class Encoder:
    """Encodes a text as a vector of norm 1, and a text without words as zeros.

    Texts are not batched: padding would change the range over which activations are quantized, and so let other texts
    change a vector. Values are rounded to half precision, so that cached and computed vectors are equal.

    Attributes:
        cache: Cache of vectors, or None. It is not saved with the encoder.
    """

    def __init__(self, graph: bytes, tokenizer: str, max_tokens: int, pooling: str) -> None:
        """Store the encoder; the session is created on first use.

        Args:
            graph: ONNX graph from int64 "input_ids", "attention_mask" and, for BERT, "token_type_ids", shape
                (1, tokens), to float32 token vectors, shape (1, tokens, size).
            tokenizer: Content of a tokenizer.json.
            max_tokens: Tokens after which a text is truncated.
            pooling: "mean" of the token vectors, or "cls", the first of them.
        """
        self.cache: VectorCache | None = None
        self.__setstate__(
            {
                "graph": np.frombuffer(graph, np.uint8),
                "tokenizer": tokenizer,
                "max_tokens": max_tokens,
                "pooling": pooling,
            }
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return everything that determines a vector."""
        # skops writes a shared array once, but shared bytes each time
        return {
            "graph": self._graph,
            "tokenizer": self._tokenizer,
            "max_tokens": self._max_tokens,
            "pooling": self._pooling,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the saved state.

        Raises:
            ModuleNotFoundError: The packages that run an encoder are not installed.
        """
        if missing := [name for name in _RUNTIME if find_spec(name) is None]:
            raise ModuleNotFoundError(
                f"The model uses sentence vectors, which need packages that are not installed ({', '.join(missing)}):"
                f" run {REMEDY}."
            )
        self._graph: npt.NDArray[np.uint8] = state["graph"]
        self._tokenizer, self._max_tokens = str(state["tokenizer"]), int(state["max_tokens"])
        self._pooling = str(state["pooling"])
        self._loaded: tuple[Any, Any] | None = None
        self._digest = ""
        self.cache = None

    def __deepcopy__(self, memo: Any) -> Encoder:
        """Return the same encoder: it is immutable, so scikit-learn's clones share it."""
        return self

    def __repr__(self) -> str:
        return f"Encoder({self.digest[:12]})"

    @property
    def digest(self) -> str:
        """Identity: the SHA-256 of graph, tokenizer, maximum length and pooling."""
        if not self._digest:
            content = hashlib.sha256(self._graph.data)
            content.update(f"\n{self._max_tokens}\n{self._pooling}\n{self._tokenizer}".encode())
            self._digest = content.hexdigest()
        return self._digest

    @property
    def graph(self) -> bytes:
        """The ONNX graph."""
        return self._graph.tobytes()

    @property
    def tokenizer(self) -> str:
        """The tokenizer as JSON."""
        return self._tokenizer

    @property
    def size(self) -> int:
        """Length of a vector."""
        return int(self._runtime()[0].get_outputs()[0].shape[-1])

    def encode(self, texts: Iterable[str]) -> Vectors:
        """Encode n texts to vectors, shape (n, size)."""
        # a lone surrogate, which JSON allows, cannot be encoded
        encoded = [text.encode("utf-8", "replace") for text in texts]
        keys = [hashlib.sha256(text).digest() for text in encoded]
        text_of = dict(zip(keys, encoded, strict=True))
        vectors = dict(self.cache.read(self.digest, self.size, list(text_of))) if self.cache else {}
        missing = [key for key in text_of if key not in vectors]
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            computed = dict(zip(chunk, self._compute([text_of[key].decode() for key in chunk]), strict=True))
            if self.cache:
                self.cache.write(self.digest, computed)
            vectors.update(computed)
        return np.stack([vectors[key] for key in keys]) if keys else np.zeros((0, self.size), np.float32)

    def _compute(self, texts: Sequence[str]) -> list[Vectors]:
        session, tokenizer = self._runtime()
        inputs = {node.name for node in session.get_inputs()}

        def encode_one(text: str) -> Vectors:
            tokens = tokenizer.encode(text)
            if sum(tokens.special_tokens_mask) == len(tokens):
                return np.zeros(self.size, np.float32)
            arrays = {
                "input_ids": tokens.ids,
                "attention_mask": tokens.attention_mask,
                "token_type_ids": tokens.type_ids,
            }
            feed = {name: np.array([values], np.int64) for name, values in arrays.items() if name in inputs}
            token_vectors = np.asarray(session.run(None, feed)[0][0])
            vector = token_vectors[0] if self._pooling == "cls" else token_vectors.mean(axis=0)
            return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float16).astype(np.float32)

        threads = min(os.cpu_count() or 1, len(texts))
        if threads == 1:
            return [encode_one(text) for text in texts]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(encode_one, texts))

    def _runtime(self) -> tuple[Any, Any]:
        """Return the session and the tokenizer, loaded once."""
        if self._loaded is None:
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_str(self._tokenizer)
            tokenizer.no_padding()
            tokenizer.enable_truncation(self._max_tokens)
            self._loaded = self._session(), tokenizer
        return self._loaded

    def _session(self) -> Any:
        import onnxruntime

        session = _sessions.get(self.digest)
        if session is None:
            options = onnxruntime.SessionOptions()
            # texts run in parallel instead, which is faster than parallelism within a short text
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(self.graph, options, providers=["CPUExecutionProvider"])
            _sessions[self.digest] = session
        return session


class SentenceVectors(TransformerMixin, BaseEstimator):
    """The pipeline step that turns texts into sentence vectors; there is nothing to fit."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def fit(self, X: Any, y: Any = None) -> SentenceVectors:  # noqa: N803, ARG002 - scikit-learn's names
        """Do nothing."""
        return self

    def transform(self, X: Iterable[str]) -> Vectors:  # noqa: N803 - scikit-learn's name
        """Encode n texts to vectors, shape (n, size)."""
        return self.encoder.encode(X)

    def __sklearn_is_fitted__(self) -> bool:
        return True
