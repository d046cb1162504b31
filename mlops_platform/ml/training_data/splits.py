"""The split of rows into train and test by a hash of the id, so that no row moves when rows are added.

The same split in SQL belongs in `resources.warehouse.split_sql`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2_contingency


def assign_splits(ids: Iterable[int], test_share: float) -> npt.NDArray[np.str_]:
    """Return "train" or "test" for each id.

    An id is in the test split if the first 32 bits of the MD5 of its decimal form are below `test_share` of their
    range: the same on every machine and in every process, unlike Python's `hash`.

    Raises:
        ValueError: `test_share` is not in (0, 1).
    """
    if not 0.0 < test_share < 1.0:
        raise ValueError(f"test_share is {test_share}; it must lie between 0 and 1, both excluded.")
    threshold = min(max(round(test_share * 2**32), 1), 2**32 - 1)
    return np.array(["test" if _md5(str(int(i)), 4) < threshold else "train" for i in ids], dtype="<U5")


def hash_fractions(ids: Iterable[int], salt: str) -> npt.NDArray[np.float64]:
    """Return a pseudorandom number in [0, 1) for each id, which depends on the id and `salt` alone.

    The numbers agree on every machine, are stable when rows are added, and independent for different salts and of
    `assign_splits`.
    """
    # 53 bits, the precision of a float, so that nothing rounds up to 1
    return np.array([(_md5(f"{salt}:{int(i)}", 8) >> 11) / 2**53 for i in ids], dtype=float)


def _md5(text: str, size: int) -> int:
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[:size], "big")


@dataclass(frozen=True)
class Stratification:
    """Agreement of the class mix of the test split with that of all rows.

    Attributes:
        p_value: P-value of Pearson's chi-squared test that class and split are independent; a small one (say, below
            0.01) means that the test split is not representative. Few expected rows in a cell make it approximate.
        max_gap: Largest absolute difference of a class's share between the test split and all rows.
        classes: By class its rows in each split, and its share of all rows and of each split.
    """

    p_value: float
    max_gap: float
    classes: dict[str, dict[str, float]]


def stratification_of(rows_of: Mapping[str, tuple[int, int]]) -> Stratification:
    """Check that the test split's class mix agrees with the whole.

    Args:
        rows_of: Rows in the train and in the test split of each class.

    Raises:
        ValueError: A split is empty.
    """
    classes = sorted(rows_of)
    counts = np.array([rows_of[name] for name in classes], dtype=np.intp).reshape(-1, 2).T
    rows = counts.sum(axis=1)
    if not rows.all():
        raise ValueError(
            f"The train split has {rows[0]} rows and the test split {rows[1]}: both need some, so add rows or"
            " change the test share."
        )
    shares, whole = counts / rows[:, None], counts.sum(axis=0) / rows.sum()
    # with one class there is nothing that could differ, and scipy's test has no degree of freedom
    p_value = float(chi2_contingency(counts).pvalue) if len(classes) > 1 else 1.0
    names = ("train_rows", "test_rows", "whole_share", "train_share", "test_share")
    columns = zip(*counts.tolist(), whole.tolist(), *shares.tolist(), strict=True)
    by_class = {name: dict(zip(names, column, strict=True)) for name, column in zip(classes, columns, strict=True)}
    return Stratification(p_value, float(np.abs(shares[1] - whole).max()), by_class)
