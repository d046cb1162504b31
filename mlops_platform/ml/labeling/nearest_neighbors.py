"""Which texts are like one another: the nearest labeled neighbours of a text, and groups of near-duplicates.

Likeness is the cosine of word TF-IDF vectors. It needs no fitted model, so a person sees the same neighbours
whichever version serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

NEAR_DUPLICATE = 0.8  # cosine from which two texts count as one
BLOCK_ROWS = 512
BLOCK_PAIRS = 4_000_000  # pairs of texts held at a time: some 50 MB
_ROUNDING = 1e-9  # a text's likeness to its copy is 1 only up to this


@dataclass(frozen=True)
class Neighbour:
    """A labeled text and how like it is: the cosine, in (0, 1]."""

    id: int
    title: str
    tag: str
    similarity: float


@dataclass(frozen=True)
class LabeledTexts:
    """Labeled rows, as columns of one length."""

    ids: Sequence[int]
    titles: Sequence[str]
    texts: Sequence[str]
    tags: Sequence[str]

    def __post_init__(self) -> None:
        """Check the lengths.

        Raises:
            ValueError: They differ.
        """
        if not len(self.ids) == len(self.titles) == len(self.texts) == len(self.tags):
            raise ValueError(
                f"There are {len(self.ids)} ids, {len(self.titles)} titles, {len(self.texts)} texts and"
                f" {len(self.tags)} tags; give as many."
            )


def vectors(texts: Sequence[str]) -> sp.csr_matrix:
    """Weigh the words of texts by TF-IDF (sublinear); rows of length 1, or 0 where a text holds no word."""
    vectorizer = TfidfVectorizer(sublinear_tf=True, strip_accents="unicode")
    try:
        return vectorizer.fit_transform(texts)
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        return sp.csr_matrix((len(texts), 1))


def nearest_labeled(texts: Sequence[str], labeled: LabeledTexts, k: int = 3) -> list[list[Neighbour]]:
    """Find the labeled texts most like each text.

    Args:
        texts: n texts.
        labeled: Where to look.
        k: Neighbours wanted of each text, at least 1.

    Returns:
        Up to k neighbours of each text, the most like first and of equals the smaller id; fewer where fewer
        labeled texts share a word with it.

    Raises:
        ValueError: `k` is below 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}; it must be 1 or more.")
    if not len(texts) or not len(labeled.ids):
        return [[] for _ in texts]
    # equals come in the order of the rows
    order = sorted(range(len(labeled.ids)), key=lambda i: labeled.ids[i])
    both = vectors([*(labeled.texts[i] for i in order), *texts])
    known, asked = both[: len(order)], both[len(order) :]
    search = NearestNeighbors(n_neighbors=min(k, len(order)), metric="cosine", algorithm="brute").fit(known)
    found = []
    for start in range(0, len(texts), BLOCK_ROWS):
        distances, rows = search.kneighbors(asked[start : start + BLOCK_ROWS])
        for distance, row in zip(distances, rows, strict=True):
            near = [
                (round(min(1.0 - float(d), 1.0), 6), order[int(j)])
                for d, j in zip(distance, row, strict=True)
                if d < 1.0 - _ROUNDING
            ]
            near.sort(key=lambda pair: (-pair[0], labeled.ids[pair[1]]))
            found.append([Neighbour(int(labeled.ids[i]), labeled.titles[i], labeled.tags[i], like) for like, i in near])
    return found


def near_duplicates(texts: Sequence[str], threshold: float = NEAR_DUPLICATE) -> npt.NDArray[np.intp]:
    """Group texts that are nearly the same.

    Two texts with a cosine of `threshold` or more are in one group, and so are texts that a chain of such pairs
    links. Texts that differ in one rare word are far apart where all other words are in every text.

    No pair is missed: two unit vectors that share none of the rarest words of one of them, the ones left being
    shorter than the threshold, cannot reach it, so only pairs that share such a word are compared (prefix
    filtering: Bayardo, Ma & Srikant 2007). Pairs are held in blocks, so memory does not grow with their number.

    Args:
        texts: n texts.
        threshold: In (0, 1].

    Returns:
        For each text the row number of the first text of its group. A text without words is alone, unless
        another is equal to it.

    Raises:
        ValueError: `threshold` is out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}; it must lie above 0 and be at most 1.")
    distinct, first, copy_of = np.unique(np.asarray(texts, dtype=object), return_index=True, return_inverse=True)
    if not len(distinct):
        return np.zeros(0, dtype=np.intp)
    x = vectors(distinct.tolist())
    groups = _linked(x, _prefixes(x, threshold), threshold)
    earliest = np.full(len(distinct), len(texts), dtype=np.intp)
    np.minimum.at(earliest, groups, first)
    return earliest[groups][copy_of]


def _prefixes(x: sp.csr_matrix, threshold: float) -> sp.csr_matrix:
    """Mark in each row its rarest words: so many that those left are shorter than the threshold."""
    frequency = np.bincount(x.indices, minlength=x.shape[1])
    row = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    # the commonest first; the word's number settles equals in every row alike
    order = np.lexsort((-x.indices, -frequency[x.indices], row))
    squares = x.data[order] ** 2
    sums = np.cumsum(squares)
    before = np.concatenate(([0.0], sums))[x.indptr[:-1]]
    length = np.sqrt(np.maximum(sums - np.repeat(before, np.diff(x.indptr)), 0))
    kept = order[length >= threshold - _ROUNDING]
    marks = np.ones(len(kept), dtype=np.int32)
    return sp.csr_matrix((marks, (row[kept], x.indices[kept])), shape=x.shape)


def _linked(x: sp.csr_matrix, prefixes: sp.csr_matrix, threshold: float) -> npt.NDArray[np.intp]:
    """Number the groups of rows that pairs over the threshold link."""
    n = x.shape[0]
    columns = prefixes.T.tocsr()
    # the pairs that a row can at most be in, which cuts the blocks
    pairs = np.cumsum(prefixes @ np.diff(columns.indptr))
    groups = np.arange(n, dtype=np.intp)
    start = 0
    while start < n:
        limit = BLOCK_PAIRS + (pairs[start - 1] if start else 0)
        stop = max(int(np.searchsorted(pairs, limit, side="right")), start + 1)
        candidates = (prefixes[start:stop] @ columns).tocoo()
        a, b = candidates.row + start, candidates.col
        a, b = a[a < b], b[a < b]
        alike = np.concatenate(
            [
                np.asarray(x[a[i : i + 100_000]].multiply(x[b[i : i + 100_000]]).sum(axis=1)).ravel()
                for i in range(0, len(a), 100_000)
            ]
            or [np.zeros(0)]
        )
        near = alike >= threshold - _ROUNDING
        if near.any():
            links = sp.coo_matrix((np.ones(int(near.sum())), (groups[a[near]], groups[b[near]])), shape=(n, n))
            groups = connected_components(links, directed=False)[1][groups].astype(np.intp)
        start = stop
    return groups
