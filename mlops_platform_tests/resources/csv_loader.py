"""A CSV and an empty warehouse to load it into, for the tests of the loader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mlops_platform.resources.csv_ingest import csv_loader
from mlops_platform.resources.csv_ingest.csv_loader import LoadResult, UnaccountedError, load_csv

PROJECTS = {"id": "BIGINT", "created_on": "TIMESTAMP", "title": "VARCHAR", "description": "VARCHAR"}
TAGS = {"id": "BIGINT", "tag": "VARCHAR"}
HEADER = "id,created_on,title,description\n"
ROWS = "1,2026-01-01,a,b\n2,2026-01-02,c,d\n"


class Loader:
    """An empty warehouse in memory and a file to load into it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "in [1]*, 100%.csv"  # a name that read_csv would take for a pattern
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")

    def load(self, content: str | bytes, columns: dict[str, str] = PROJECTS, table: str = "t") -> LoadResult:
        self.path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load_csv(self.connection, table, self.path, columns, "the file")

    def rows(self, table: str = "t") -> list[tuple[Any, ...]]:
        return self.connection.execute(f"SELECT * FROM {table}").fetchall()

    def rejects(self, table: str = "t") -> list[tuple[Any, ...]]:
        return self.connection.execute(
            "SELECT line, column_name, reason, text FROM rejects WHERE source_table = ? ORDER BY ALL", [table]
        ).fetchall()


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[Loader]:
    loader = Loader(tmp_path)
    yield loader
    loader.connection.close()


@pytest.fixture(params=["direct", "exact"])
def both(request: pytest.FixtureRequest, loader: Loader, monkeypatch: pytest.MonkeyPatch) -> Loader:
    """The loader, once as it is and once made to split every file with the parser."""
    if request.param == "exact":

        def refuse(*_: object) -> None:
            raise UnaccountedError

        monkeypatch.setattr(csv_loader, "read_accounted", refuse)
    return loader


@pytest.fixture
def no_exact_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test whose file is not read by read_csv alone."""

    def refuse(*_: object) -> None:
        raise AssertionError("read_csv did not account for every line")

    monkeypatch.setattr(csv_loader, "_read_exactly", refuse)
