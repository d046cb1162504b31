"""What the raw tables have grown by since others were built of them: dbt then builds and tests what that adds."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_platform.resources.table_records import TableRecord, only_appended, recall, remember

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Growth:
    """What is known before a build.

    Attributes:
        sources: The tables that are built of, as they are.
        models: The tables that were built of these when these had fewer rows, or as many.
        tests: Fingerprint of all tests.
        tested: Whether there are all models, and all have passed these tests.
    """

    sources: Mapping[str, TableRecord]
    models: Mapping[str, TableRecord]
    tests: str
    tested: bool

    def seen(self) -> dict[str, dict[str, int]]:
        """How many rows of each source a model has seen, by model."""
        return {
            name: {source: place.rows for source, place in record.built_of.items()}
            for name, record in self.models.items()
        }

    def to_json(self) -> str:
        """What dbt's macros ask for: `models` as `seen`, and under `tests` the rows of each source that were tested."""
        seen = self.seen()
        tested = {
            source: min(rows[source] for rows in seen.values() if source in rows)
            for source in self.sources
            if self.tested
        }
        return json.dumps({"models": seen, "tests": tested or None})

    def remember(self, connection: duckdb.DuckDBPyConnection, table: str, *, tested: bool) -> None:
        """Records a model that was just built.

        Args:
            connection: An open connection whose current schema holds the table.
            table: Name of the model's table.
            tested: Whether all its tests passed.
        """
        built_of = {name: record.place for name, record in self.sources.items()}
        before = self.models.get(table)
        if before is not None and not only_appended(connection, table, before):
            before = None
        remember(connection, table, before, built_of=built_of, tested=self.tests if tested else "")


def growth_of(
    connection: duckdb.DuckDBPyConnection, models: Mapping[str, Collection[str]], tests: str
) -> Growth | None:
    """Looks at the tables.

    Args:
        connection: An open connection whose current schema holds the tables.
        models: Names of the tables that are built, each with those that it is built of.
        tests: Fingerprint of all their tests.

    Returns:
        What is known; None if nothing is of one of the sources.
    """
    sources = {name: recall(connection, name) for name in sorted({each for of in models.values() for each in of})}
    known = {name: record for name, record in sources.items() if record is not None}
    if not known or len(known) < len(sources):
        return None
    found = {name: recall(connection, name) for name in models}
    continued = {
        name: record for name, record in found.items() if record is not None and _continue(record, known, models[name])
    }
    tested = len(continued) == len(models) and all(record.tested == tests for record in continued.values())
    return Growth(known, continued, tests, tested)


def _continue(record: TableRecord, sources: Mapping[str, TableRecord], of: Collection[str]) -> bool:
    """Whether each source of a model is the one that it was built of, with rows appended or as it was."""
    return all(
        name in record.built_of
        and record.built_of[name].load == sources[name].load
        and record.built_of[name].rows <= sources[name].rows
        for name in of
    )
