"""The split of rows into train and test as SQL: the same answer as `ml.splits.assign_splits` gives in Python."""

from __future__ import annotations

from mlops_platform.sql import SQL, literal, sql

_DIGITS = 8  # hex digits of the MD5 that are compared


def split_sql(id_column: str, test_share: float) -> SQL:
    """Return an expression that is 'train' or 'test', by the MD5 of an integer id.

    Args:
        id_column: Name of the column.
        test_share: Expected share of ids in the test split, in (0, 1).
    """
    if not 0.0 < test_share < 1.0:
        raise ValueError(f"test_share is {test_share}; it must lie between 0 and 1, both excluded.")
    threshold = min(max(round(test_share * 16**_DIGITS), 1), 16**_DIGITS - 1)
    # the whole digest is compared: with equal first digits the longer text is the greater
    return sql(
        "CASE WHEN md5(CAST({id} AS STRING)) < {threshold} THEN 'test' ELSE 'train' END",
        id=id_column,
        threshold=literal(f"{threshold:0{_DIGITS}x}"),
    )
