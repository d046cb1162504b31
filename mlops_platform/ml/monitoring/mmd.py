"""The two-sample test of texts: maximum mean discrepancy with permutations (Gretton et al. 2012)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer

LIMIT = 1000  # rows of each side: the Gram matrix is 2000 x 2000 at most
PERMUTATIONS = 1999  # the smallest p is 0.0005; 0.01 over 8 tests needs 0.00125


@dataclass(frozen=True)
class Discrepancy:
    """The unbiased squared MMD, its permutation p-value, and the number of rows compared."""

    statistic: float
    p_value: float
    reference_rows: int
    window_rows: int


def squared_mmd(gram: npt.NDArray[np.float32], members: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the unbiased squared MMD of each split of the same rows.

    Args:
        gram: Kernel of all pairs of rows, shape (n, n).
        members: Mask of the rows of the second set, shape (splits, n), with equally many in each split.
    """
    m = int(members[0].sum())
    n = len(gram) - m
    pairs = gram - np.diag(np.diagonal(gram))
    chosen = members.astype(np.float32)
    within = np.einsum("pi,pi->p", chosen @ pairs, chosen).astype(float)
    touching = (chosen @ pairs.sum(axis=1)).astype(float)
    total = float(pairs.sum(dtype=float))
    across = touching - within
    return within / (m * (m - 1)) + (total - 2 * across - within) / (n * (n - 1)) - 2 * across / (m * n)


def text_mmd(reference: Sequence[str], window: Sequence[str], *, seed: int = 0) -> Discrepancy:
    """Test whether the texts of the window and the reference have the same distribution.

    The kernel is the cosine of word TF-IDF, with the vocabulary and document frequencies of both sets together: with
    the champion's features, which know the reference's words only, a window would differ without any drift. So the
    p-value, (1 + count) / (1 + permutations), is exact. Each side needs two texts, and is sampled beyond `LIMIT`.
    """
    draw = np.random.default_rng(seed)
    first, second = (
        [side[i] for i in sorted(draw.choice(len(side), LIMIT, replace=False))] if len(side) > LIMIT else list(side)
        for side in (reference, window)
    )
    try:
        vectors = TfidfVectorizer(sublinear_tf=True, strip_accents="unicode").fit_transform([*first, *second])
    except ValueError:
        return Discrepancy(0.0, 1.0, len(first), len(second))  # neither side has a word
    gram = (vectors @ vectors.T).toarray().astype(np.float32)
    observed = np.arange(len(gram)) >= len(first)
    splits = np.stack([observed, *(draw.permutation(observed) for _ in range(PERMUTATIONS))])
    values = squared_mmd(gram, splits)
    count = int((values[1:] >= values[0] - 1e-9).sum())
    return Discrepancy(float(values[0]), (1 + count) / (1 + PERMUTATIONS), len(first), len(second))
