"""The choice between the float32 and the int8 encoder, by cross-validation on the training rows.

Exporting and storing encoders belongs in `resources.encoders`.
"""

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


@dataclass(frozen=True)
class Precision:
    """The chosen encoder, the number of rows used, and the mean weighted F1 over the folds with either encoder."""

    encoder: Encoder
    name: str
    rows: int
    f1_exact: float
    f1_small: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values, with the encoder's digest."""
        return {
            "digest": self.encoder.digest,
            "precision": self.name,
            "rows": self.rows,
            "f1_float32": self.f1_exact,
            "f1_int8": self.f1_small,
        }


def choose_precision(exact: Encoder, small: Encoder, texts: Sequence[str], labels: Sequence[str]) -> Precision:
    """Choose the small encoder unless it costs weighted F1 in 3x5-fold cross-validation.

    Args:
        exact: The encoder with float32 weights.
        small: The encoder with int8 weights.
        texts: Training texts; at most 2,000 are used, those with the smallest hash.
        labels: Tag of each text.
    """
    order = sorted(range(len(texts)), key=lambda row: hashlib.sha256(texts[row].encode("utf-8", "replace")).digest())
    sample, tags = [texts[row] for row in order[:ROWS]], [labels[row] for row in order[:ROWS]]
    params = default_of(tags, exact)
    f1_exact, f1_small = (
        cross_validate(sample, tags, params, repeats=REPEATS, encoder=encoder).score for encoder in (exact, small)
    )
    encoder, name = (small, "int8") if f1_exact - f1_small < LARGEST_LOSS else (exact, "float32")
    return Precision(encoder, name, len(sample), f1_exact, f1_small)
