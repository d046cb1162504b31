"""The three suites through Great Expectations, compared with hand-written SQL that computes the same counts.

`python -m benchmarks.validation ours|sql DATABASE HOME` runs one of the two on a database with the three tables.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Goal, Row, Section, Size, compare, curves, in_turns, peaks, reported
from benchmarks.rows import rows

SIZES = {"quick": (10_000, 100_000), "full": (100_000, 1_000_000, 10_000_000)}
ROUNDS = {10_000: 1, 100_000: 3, 1_000_000: 2, 10_000_000: 1}
SUITES = ("projects", "tags", "labeled_projects")
MOST_MB = 2048


def run(size: Size) -> Section:
    """Measure; "quick" takes about a minute, "full" as well once the rows of `elt` are there."""
    costs = {}
    for count in SIZES[size]:
        with tempfile.TemporaryDirectory(prefix="mlops-bench-tables-") as folder:
            database = Path(folder) / "warehouse.duckdb"
            fill(rows(count), database)
            commands = [_command("ours", database), _command("sql", database)]
            costs[count] = in_turns(commands, ROUNDS[count], warm=count <= 100_000)
    table: list[Row] = []
    for count, (ours_, sql_) in costs.items():
        of = f"{count:,} rows"
        goal = Goal(3.0) if count == 1_000_000 else None
        table += [
            Row(f"{of}: suites / SQL, wall", "s", reported(ours_, "seconds"), reported(sql_, "seconds"), goal),
            Row(f"{of}: suites / SQL, cpu", "s", reported(ours_, "cpu"), reported(sql_, "cpu"), goal),
            *compare(f"{of}: whole process", None, ours_, sql_),
            peaks(f"{of}: peak memory", MOST_MB, ours_, sql_),
        ]
    return Section(
        title="Validation at scale",
        about=(
            "Ours: the suites `projects`, `tags` and `labeled_projects` through Great Expectations on the tables of the"
            " warehouse, Data Docs written. SQL: one statement a table for its counts (rows, nulls, classes), and one"
            " for each rule of uniqueness (`group by ... having count(*) > 1`), within the same memory. *Suites* leaves"
            " out the import of Great Expectations; *whole process* holds it."
        ),
        rows=table,
        curves=curves("Validation", ("Great Expectations here", "hand-written SQL"), costs),
        notes=("The tables meet every rule. A rule that is broken is evaluated a second time, for its examples."),
    )


def _command(variant: str, database: Path) -> Any:
    return lambda home: [sys.executable, "-m", "benchmarks.validation", variant, str(database), str(home)]


def fill(folder: Path, database: Path) -> None:
    """Create the three tables.

    Args:
        folder: Holds the CSV files.
        database: The DuckDB file to create.
    """
    from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse

    with DuckDBWarehouse(path=str(database)).connect() as connection:
        for table in ("projects", "tags"):
            connection.execute(f"create table {table} as from read_csv('{folder / table}.csv')")
        connection.execute(
            "create table labeled_projects as select projects.*, tags.tag "
            "from projects join tags on projects.id = tags.id where tags.tag is not null"
        )


def ours(database: Path, home: Path) -> dict[str, float]:
    """Run the suites.

    Args:
        database: Holds the tables.
        home: Takes the Data Docs; empty.

    Returns:
        Seconds and CPU seconds without imports.

    Raises:
        RuntimeError: A rule is broken.
    """
    from mlops_platform.resources.validation import data_docs, suite_runner
    from mlops_platform.resources.validation.resource import ExpectationsEngine
    from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse

    del data_docs, suite_runner  # imported by the first suite, whatever the number of rows
    engine = ExpectationsEngine(docs_dir=str(home / "docs"), docs_url="http://127.0.0.1")
    warehouse = DuckDBWarehouse(path=str(database))
    began, cpu = time.perf_counter(), time.process_time()
    for suite in SUITES:
        with warehouse.validation_source() as source:
            result = engine.validate_table(suite, source, suite)
        broken = [outcome.name for outcome in result.outcomes if not outcome.passed]
        if broken:
            raise RuntimeError(f"{suite} breaks {', '.join(broken)}")
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def sql(database: Path, home: Path) -> dict[str, float]:  # noqa: ARG001
    """Compute the same counts in SQL.

    Args:
        database: Holds the tables.
        home: Unused.

    Returns:
        Seconds and CPU seconds of the statements.

    Raises:
        RuntimeError: A rule is broken.
    """
    import duckdb

    classes = "('natural-language-processing', 'computer-vision', 'mlops', 'other')"
    in_set = f"count(*) filter (tag not in {classes})"
    columns = {
        "projects": ("id", "created_on", "title", "description"),
        "tags": ("id", "tag"),
        "labeled_projects": ("id", "created_on", "title", "description", "tag"),
    }
    began, cpu = time.perf_counter(), time.process_time()
    with duckdb.connect(str(database)) as connection:
        connection.execute("set memory_limit = '1024MiB'; use mlops_course")
        for table, names in columns.items():
            nulls = [f"count(*) filter ({name} is null)" for name in names]
            wrong = [*nulls, *([in_set] if "tag" in names else [])]
            ((count, *counts),) = connection.execute(
                f"select count(*), {', '.join(wrong)} from {table}"  # noqa: S608
            ).fetchall()
            types = {name: kind for name, kind, *_ in connection.execute(f"describe {table}").fetchall()}
            unique = ["id", *(["title, description"] if "title" in names else [])]
            repeated = [
                connection.execute(
                    f"select coalesce(sum(times), 0) from "  # noqa: S608
                    f"(select count(*) as times from {table} group by {key} having count(*) > 1)"
                ).fetchall()[0][0]
                for key in unique
            ]
            texts = {types[name] for name in names if name not in ("id", "created_on")}
            if not count or any(counts) or any(repeated) or texts != {"VARCHAR"}:
                raise RuntimeError(f"{table} is damaged")
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    print(json.dumps({"ours": ours, "sql": sql}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))))
