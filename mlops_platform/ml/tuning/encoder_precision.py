"""The choice between the float32 and the int8 encoder, by cross-validation on the training rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlops_platform.ml.classifier.text_classifier import default_of
from mlops_platform.ml.embeddings.encoder import Encoder
from mlops_platform.ml.tuning.cross_validation import cross_validate

LARGEST_LOSS = 0.005  # weighted F1 that the small encoder may lose
ROWS = 2000  # with 764 rows the difference has a standard error of 0.001
REPEATS = 3
EXACT, SMALL = "float32", "int8"


@dataclass(frozen=True)
class Precision:
    """The chosen encoder, and the F1 of both.

    Attributes:
        encoder: The chosen one.
        name: "int8" or "float32".
        rows: Rows that both were measured on.
        f1_exact: Mean weighted F1 over the folds with the exact encoder.
        f1_small: The same with the small one, on the same folds.
    """

    encoder: Encoder
    name: str
    rows: int
    f1_exact: float
    f1_small: float

    def to_dict(self) -> dict[str, Any]:
        """Return all as JSON-able values, the encoder by its digest."""
        return {
            "digest": self.encoder.digest,
            "precision": self.name,
            "rows": self.rows,
            "f1_float32": self.f1_exact,
            "f1_int8": self.f1_small,
        }


def choose_precision(exact: Encoder, small: Encoder, texts: Sequence[str], labels: Sequence[str]) -> Precision:
    """Choose the int8 encoder unless the model loses weighted F1 by it in 3x5-fold cross-validation.

    Args:
        exact: The encoder with float32 weights.
        small: The same with int8 weights.
        texts: Training texts; of many, the 2,000 with the smallest hash are used.
        labels: Tag of each text.
    """
    order = sorted(range(len(texts)), key=lambda row: hashlib.sha256(texts[row].encode("utf-8", "replace")).digest())
    sample, tags = [texts[row] for row in order[:ROWS]], [labels[row] for row in order[:ROWS]]
    params = default_of(tags, exact)
    f1_exact, f1_small = (
        cross_validate(sample, tags, params, repeats=REPEATS, encoder=encoder).score for encoder in (exact, small)
    )
    keeps = f1_exact - f1_small < LARGEST_LOSS
    return Precision(small if keeps else exact, SMALL if keeps else EXACT, len(sample), f1_exact, f1_small)
