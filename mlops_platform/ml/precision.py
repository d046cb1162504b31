"""How exact the numbers of a sentence encoder have to be: measured on the rows that it shall serve."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlops_platform.ml.encoder import Encoder
from mlops_platform.ml.model import Params, default_of
from mlops_platform.ml.scoring import Scorer, cut

LARGEST_LOSS = 0.005  # weighted F1 that the small encoder may lose
ROWS = 2000  # more are encoded twice for nothing: with 764, the difference has a standard error of .001
SEEDS = (0, 1, 2)
EXACT, SMALL = "float32", "int8"


@dataclass(frozen=True)
class Precision:
    """Which encoder was taken, and what both gave.

    Attributes:
        encoder: The one that was taken.
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
    """Take the small encoder unless the model loses weighted F1 by it, as 3x5-fold cross-validation sees it.

    Args:
        exact: The encoder with float32 weights.
        small: The same with 8-bit weights.
        texts: Training texts; of many, the 2,000 whose hash is smallest are looked at.
        labels: Tag of each text.
    """
    order = sorted(range(len(texts)), key=lambda row: hashlib.sha256(texts[row].encode("utf-8", "replace")).digest())
    some = order[:ROWS]
    known, tags = [texts[row] for row in some], [labels[row] for row in some]
    params = default_of(tags, exact)
    f1 = [_scored(known, tags, params, each) for each in (exact, small)]
    keeps = f1[0] - f1[1] < LARGEST_LOSS
    return Precision(small if keeps else exact, SMALL if keeps else EXACT, len(some), *f1)


def _scored(texts: Sequence[str], labels: Sequence[str], params: Params, encoder: Encoder) -> float:
    vectors = encoder.encode(texts)
    scorers = (Scorer(texts, labels, cut(texts, labels, seed), vectors) for seed in SEEDS)
    return float(np.mean([score for scorer in scorers for score in scorer.scores(params)]))
