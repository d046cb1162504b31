"""What `replace_rows` does on each warehouse: the same statements are run against both."""

from __future__ import annotations

import datetime
from pathlib import Path

import duckdb
import pytest

from mlops_platform.errors import WarehouseError
from mlops_platform.resources.warehouse.base import Warehouse

COLUMNS = (
    "id::BIGINT AS id, score::DOUBLE AS score, day::DATE AS day, 'v' || id AS model, "
    "day::TIMESTAMP + INTERVAL 1 HOUR AS scored_at, id > 1 AS fine"
)
KINDS = [
    ("id", "BIGINT"),
    ("score", "DOUBLE"),
    ("day", "DATE"),
    ("model", "VARCHAR"),
    ("scored_at", "TIMESTAMP"),
    ("fine", "BOOLEAN"),
]
OTHER_COLUMNS = [
    "* EXCLUDE (model)",
    "*, 1::BIGINT AS more",
    "* RENAME (score AS points)",
    "* REPLACE (score::VARCHAR AS score)",
]
FIRST, SECOND = datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)
TWO_DAYS = "(1, 0.25, DATE '2026-01-01'), (2, 0.5, DATE '2026-01-01'), (3, 0.75, DATE '2026-01-02')"


def scores(folder: Path, values: str, columns: str = "*", where: str = "true") -> Path:
    """A Parquet file of rows (id, score, day), with columns of each type made from them."""
    file = folder / "scores.parquet"
    rows = f"SELECT {COLUMNS} FROM (VALUES {values}) AS v(id, score, day)"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT {columns} FROM ({rows}) WHERE {where}) TO '{file}' (FORMAT parquet)")
    return file


def replaces_only_what_meets_the_condition(warehouse: Warehouse, folder: Path) -> None:
    """Make a table, and change it by day, by text, by number, by two of them and as a whole."""

    def ids() -> list[int]:
        return [each for (each,) in warehouse.fetch_rows("SELECT id FROM scores ORDER BY id")]

    assert warehouse.replace_rows("scores", scores(folder, TWO_DAYS), {"day": FIRST}) == 3
    assert warehouse.describe("scores") == KINDS
    row = (3, 0.75, SECOND, "v3", datetime.datetime(2026, 1, 2, 1), True)
    assert warehouse.fetch_rows("SELECT * FROM scores WHERE id = 3") == [row]

    new = scores(folder, "(4, 0.1, DATE '2026-01-01')", "model, day, * EXCLUDE (model, day)")  # in another order
    for _ in range(2):
        assert warehouse.replace_rows("scores", new, {"day": FIRST}) == 1
        assert ids() == [3, 4]
    assert warehouse.fetch_rows("SELECT model, score FROM scores WHERE id = 4") == [("v4", 0.1)]

    nothing = scores(folder, TWO_DAYS, where="false")
    assert warehouse.replace_rows("scores", nothing, {"day": SECOND, "id": 4}) == 0
    assert ids() == [3, 4]
    assert warehouse.replace_rows("scores", nothing, {"model": "v4"}) == 0
    assert ids() == [3]
    assert warehouse.replace_rows("scores", scores(folder, "(3, 0.2, DATE '2026-01-02')"), {"id": 3, "day": SECOND})
    assert warehouse.fetch_rows("SELECT id, score FROM scores") == [(3, 0.2)]
    assert warehouse.replace_rows("scores", scores(folder, TWO_DAYS), {}) == 3
    assert ids() == [1, 2, 3]


def refuses_other_columns(warehouse: Warehouse, folder: Path, other: str) -> None:
    """Offer a file whose columns are not the table's."""
    warehouse.replace_rows("scores", scores(folder, TWO_DAYS), {})
    before = warehouse.content_version("scores")
    with pytest.raises(WarehouseError, match=r"^The table scores has the columns id BIGINT, .* it stays as it is\.$"):
        warehouse.replace_rows("scores", scores(folder, TWO_DAYS, other), {"day": FIRST})
    assert warehouse.content_version("scores") == before
