"""Whether two sets of texts are of one kind: maximum mean discrepancy with permutations (Gretton et al. 2012)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer

LIMIT = 1000  # rows of each side: the Gram matrix is of 2000 x 2000 at most
PERMUTATIONS = 1999  # p may be as small as .0005: .01 over 8 tests needs .00125


@dataclass(frozen=True)
class Discrepancy:
    """What was measured: the unbiased squared MMD, its permutation p-value, and the rows compared."""

    statistic: float
    p_value: float
    reference_rows: int
    window_rows: int


def squared_mmd(gram: npt.NDArray[np.float32], members: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the unbiased squared MMD of each split of the same rows.

    Args:
        gram: Kernel of all pairs of rows, shape (n, n).
        members: Which rows are of the second set, shape (splits, n); as many in each split.
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


def text_mmd(
    reference: Sequence[str], window: Sequence[str], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Discrepancy:
    """Test whether the texts of a window come from where those of the reference do.

    The kernel is the cosine of word TF-IDF. Its vocabulary and document frequencies are those of both sets
    together, not the champion's: with features that know the reference's words only, a window would differ from it
    without any drift. So the p-value, (1 + count) / (1 + permutations), is exact.

    Args:
        reference: At least two texts; beyond `LIMIT` a sample of them is taken.
        window: Likewise.
        permutations: How many random splits the measured one is held against.
        seed: Of the sample and the permutations.
    """
    draw = np.random.default_rng(seed)
    first, second = (
        [side[i] for i in sorted(draw.choice(len(side), LIMIT, replace=False))] if len(side) > LIMIT else list(side)
        for side in (reference, window)
    )
    try:
        vectors = TfidfVectorizer(sublinear_tf=True, strip_accents="unicode").fit_transform([*first, *second])
    except ValueError:
        return Discrepancy(0.0, 1.0, len(first), len(second))  # no word on either side: nothing differs
    gram = (vectors @ vectors.T).toarray().astype(np.float32)
    measured = np.arange(len(gram)) >= len(first)
    splits = np.stack([measured, *(draw.permutation(measured) for _ in range(permutations))])
    values = squared_mmd(gram, splits)
    count = int((values[1:] >= values[0] - 1e-9).sum())
    return Discrepancy(float(values[0]), (1 + count) / (1 + permutations), len(first), len(second))
