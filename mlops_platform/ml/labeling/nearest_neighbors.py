"""The nearest labeled neighbors of a text, by the cosine of word TF-IDF vectors.

This needs no fitted model, so people see the same neighbors whichever version is the champion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

NEAR_DUPLICATE = 0.8  # cosine from which two texts count as one
BLOCK_ROWS = 512
_ROUNDING = 1e-9  # rounding error of a cosine


@dataclass(frozen=True)
class Neighbor:
    """A labeled text and its similarity, a cosine in (0, 1]."""

    id: int
    title: str
    tag: str
    similarity: float


@dataclass(frozen=True)
class LabeledTexts:
    """Labeled rows, as columns of equal length."""

    ids: Sequence[int]
    titles: Sequence[str]
    texts: Sequence[str]
    tags: Sequence[str]

    def __post_init__(self) -> None:
        """Raise ValueError if the columns differ in length."""
        if not len(self.ids) == len(self.titles) == len(self.texts) == len(self.tags):
            raise ValueError(
                f"There are {len(self.ids)} ids, {len(self.titles)} titles, {len(self.texts)} texts and"
                f" {len(self.tags)} tags; give as many."
            )


def vectors(texts: Sequence[str]) -> sp.csr_matrix:
    """Return the sublinear word TF-IDF vectors of texts, of length 1, or 0 for a text without words."""
    vectorizer = TfidfVectorizer(sublinear_tf=True, strip_accents="unicode")
    try:
        return vectorizer.fit_transform(texts)
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        return sp.csr_matrix((len(texts), 1))


def nearest_labeled(texts: Sequence[str], labeled: LabeledTexts, k: int = 3) -> list[list[Neighbor]]:
    """Find the labeled texts that are most similar to each text.

    Args:
        texts: n texts.
        labeled: The labeled texts.
        k: Number of neighbors, at least 1.

    Returns:
        Up to k neighbors of each text, the most similar first, then by id; fewer if fewer labeled texts share a word.

    Raises:
        ValueError: `k` is below 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}; it must be 1 or more.")
    if not len(texts) or not len(labeled.ids):
        return [[] for _ in texts]
    # equally similar neighbors are returned in the order of the rows
    order = sorted(range(len(labeled.ids)), key=lambda i: labeled.ids[i])
    both = vectors([*(labeled.texts[i] for i in order), *texts])
    known, queries = both[: len(order)], both[len(order) :]
    index = NearestNeighbors(n_neighbors=min(k, len(order)), metric="cosine", algorithm="brute").fit(known)
    neighbors = []
    for start in range(0, len(texts), BLOCK_ROWS):
        distances, rows = index.kneighbors(queries[start : start + BLOCK_ROWS])
        for distance, row in zip(distances, rows, strict=True):
            near = [
                (round(min(1.0 - float(d), 1.0), 6), order[int(j)])
                for d, j in zip(distance, row, strict=True)
                if d < 1.0 - _ROUNDING
            ]
            near.sort(key=lambda pair: (-pair[0], labeled.ids[pair[1]]))
            neighbors.append(
                [Neighbor(int(labeled.ids[i]), labeled.titles[i], labeled.tags[i], cosine) for cosine, i in near]
            )
    return neighbors
