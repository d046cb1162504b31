"""The split of rows into train and test by a hash of the id, so that no row moves when rows are added.

The same split in SQL belongs in `resources.warehouse.split_sql`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2_contingency

_DIGITS = 8  # hex digits of the MD5 that are compared: 32 bits


def assign_splits(ids: Iterable[int], test_share: float) -> npt.NDArray[np.str_]:
    """Return "train" or "test" for each id.

    An id is in the test split if the first 8 hex digits of the MD5 of its decimal form are below
    ``test_share`` of their range: the same on every machine and in every process, unlike Python's `hash`.

    Args:
        ids: Integer ids.
        test_share: Expected share of ids in the test split, in (0, 1).

    Raises:
        ValueError: `test_share` is out of range.
    """
    if not 0.0 < test_share < 1.0:
        raise ValueError(f"test_share is {test_share}; it must lie between 0 and 1, both excluded.")
    threshold = f"{min(max(round(test_share * 16**_DIGITS), 1), 16**_DIGITS - 1):0{_DIGITS}x}"
    digests = (hashlib.md5(b"%d" % int(i), usedforsecurity=False).hexdigest() for i in ids)
    return np.array(["test" if digest[:_DIGITS] < threshold else "train" for digest in digests], dtype="<U5")


def hash_fractions(ids: Iterable[int], salt: str) -> npt.NDArray[np.float64]:
    """Return a pseudorandom number in [0, 1) for each id, which depends on the id and `salt` alone.

    The numbers agree on every machine, are stable when rows are added, and independent for different salts and of
    `assign_splits`.
    """
    digests = (hashlib.md5(f"{salt}:{int(i)}".encode(), usedforsecurity=False).digest() for i in ids)
    # 53 bits, the precision of a float, so that nothing rounds up to 1
    return np.array([(int.from_bytes(digest[:8], "big") >> 11) / 2**53 for digest in digests], dtype=float)


@dataclass(frozen=True)
class ClassShare:
    """Rows of a class in each split, and its share of all rows and of each split."""

    train_rows: int
    test_rows: int
    whole_share: float
    train_share: float
    test_share: float


@dataclass(frozen=True)
class Stratification:
    """Agreement of the class mix of the test split with that of all rows.

    Attributes:
        p_value: P-value of Pearson's chi-squared test that class and split are independent; a small one (say, below
            0.01) means that the test split is not representative.
        statistic: The chi-squared statistic.
        max_gap: Largest absolute difference of a class's share between the test split and all rows.
        classes: Shares by class.
    """

    p_value: float
    statistic: float
    max_gap: float
    classes: dict[str, ClassShare]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return asdict(self)


def stratification(labels: npt.ArrayLike, splits: npt.ArrayLike) -> Stratification:
    """Check that the test split's class mix agrees with the whole.

    Args:
        labels: Class of each row, length n.
        splits: "train" or "test" of each row, length n.

    Returns:
        The chi-squared test of independence (Pearson 1900) and the shares. Few expected rows in a cell make
        the p-value approximate, as ever with this test.

    Raises:
        ValueError: The lengths differ, or a split is empty.
    """
    label_of, split_of = np.asarray(labels, dtype=str), np.asarray(splits, dtype=str)
    if label_of.shape != split_of.shape:
        raise ValueError(f"There are {label_of.size} labels and {split_of.size} splits; give as many.")
    classes, codes = np.unique(label_of, return_inverse=True)
    train, test = (np.bincount(codes[split_of == split], minlength=len(classes)) for split in ("train", "test"))
    return stratification_of({str(name): (int(train[k]), int(test[k])) for k, name in enumerate(classes)})


def stratification_of(rows_of: Mapping[str, tuple[int, int]]) -> Stratification:
    """Check as `stratification` does, from counts.

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
    statistic, p_value = chi2_contingency(counts)[:2] if len(classes) > 1 else (0.0, 1.0)
    return Stratification(
        p_value=float(p_value),
        statistic=float(statistic),
        max_gap=float(np.abs(shares[1] - whole).max()),
        classes={
            str(name): ClassShare(
                int(counts[0, k]),
                int(counts[1, k]),
                float(whole[k]),
                float(shares[0, k]),
                float(shares[1, k]),
            )
            for k, name in enumerate(classes)
        },
    )
