"""From two CSV files to a snapshot: ingest, dbt and dataset, compared with bare DuckDB statements.

`python -m benchmarks.elt ours|raw FOLDER HOME` runs one of the two on a folder of rows.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Cost, Goal, Row, Section, Size, compare, curves, in_turns, peaks, reported
from benchmarks.rows import rows, short_rows

if TYPE_CHECKING:
    import dagster as dg

    from mlops_platform.resources.dbt.manifest import PreparedProject

SIZES = {"quick": (10_000, 100_000), "full": (100_000, 1_000_000, 10_000_000)}
ROUNDS = {10_000: 1, 100_000: 3, 1_000_000: 2, 10_000_000: 1}
MOST_MB = 2048
LEAST_WITH_GOAL = 1_000_000  # below, the time of a start dominates
SHORT = 1_000_000  # the number of rows that is measured with short texts, too


def run(size: Size) -> Section:
    """Measure; "quick" takes about a minute, "full" about five and 20 GB of disk for 10^7 rows."""
    costs = {count: _both(rows(count), count) for count in SIZES[size]}
    table: list[Row] = []
    for count, (ours, raw) in costs.items():
        of = f"{count:,} rows"
        table += [
            *_steps(of, ours, raw, Goal(1.3) if count >= LEAST_WITH_GOAL else None),
            *compare(f"{of}: whole process", None, ours, raw),
            peaks(f"{of}: peak memory", MOST_MB, ours, raw),
        ]
        if count == SHORT:
            short, of_short = _both(short_rows(count), count)
            table += _steps(f"{of} of short texts", short, of_short, Goal(1.3))
    return Section(
        title="ELT at scale",
        about=(
            "Ours: the assets `projects`, `tags`, `labeled_projects`, `unlabeled_projects`, `validated_dataset` in one"
            " process, with the dbt tests, the accounts of every line, content versions and the split. Raw: DuckDB with"
            " its defaults: `read_csv` into a table for both files, the join as CTAS, `COPY` to Parquet. *Steps* leaves"
            " out what a process does once, whatever the number of rows: imports, and dbt's first parse of its project;"
            " *whole process* holds all. *Short texts* are as long as the real ones, 160 bytes a row in place of 240."
            " The suites of Great Expectations are a section of their own."
        ),
        rows=table,
        curves=curves("ELT", ("mlops_platform", "raw DuckDB"), costs),
        notes=(
            "The tables that the raw statements don't make or read: `unlabeled_projects`, twelve dbt tests, and the"
            " digests of three tables. Not compressing texts (`MLOPS_DUCKDB_COMPRESS`) saves most of that time: the"
            " warehouse takes 2.5 times the disk of the raw one."
        ),
    )


def _both(folder: Path, count: int) -> list[list[Cost]]:
    """Return the costs of ours and of the raw statements on a folder of rows, in turns."""
    return in_turns([_command("ours", folder), _command("raw", folder)], ROUNDS[count], warm=count <= 100_000)


def _steps(of: str, ours: list[Cost], raw: list[Cost], goal: Goal | None) -> list[Row]:
    return [
        Row(f"{of}: steps / statements, {name}", "s", reported(ours, value), reported(raw, value), goal)
        for name, value in (("wall", "seconds"), ("cpu", "cpu"))
    ]


def _command(variant: str, folder: Path) -> Any:
    return lambda home: [sys.executable, "-m", "benchmarks.elt", variant, str(folder), str(home)]


def ours(folder: Path, home: Path) -> dict[str, float]:
    """Materialize the assets from the files to the snapshot.

    Args:
        folder: Holds the CSV files.
        home: The platform's folder; empty.

    Returns:
        Seconds and CPU seconds of the steps.
    """
    import dagster as dg

    from mlops_platform.assets.dataset import build_dataset_asset
    from mlops_platform.assets.ingest import build_ingest_assets
    from mlops_platform.assets.transform import build_transform_assets
    from mlops_platform.resources.factory import build_resources, dbt_project, dbt_resource
    from mlops_platform.settings import Settings

    settings = Settings(home=home, projects_uri=str(folder / "projects.csv"), tags_uri=str(folder / "tags.csv"))
    project = dbt_project(settings)
    resources = {**build_resources(settings), "dbt": dbt_resource(settings, project)}
    assets = [
        *build_ingest_assets(settings.projects_uri, settings.tags_uri, settings.fetch_timeout),
        build_transform_assets(project),
        build_dataset_asset(settings.test_share),
    ]
    with dg.DagsterInstance.ephemeral() as instance:
        _imported(project, instance)
        began, cpu = time.perf_counter(), time.process_time()
        result = dg.materialize(assets, resources=resources, instance=instance)
        spent = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        steps = {
            str(event.step_key): event.step_success_data.duration_ms / 1000
            for event in result.all_events
            if event.is_step_success
        }
    checks = [evaluation.passed for evaluation in result.get_asset_check_evaluations()]
    if not checks or not all(checks):
        raise RuntimeError("a dbt test failed")
    return {**spent, **steps}


def _imported(project: PreparedProject, instance: dg.DagsterInstance) -> None:
    """Do what a process does once, whatever the number of rows: all imports, and dbt's first parse of its project."""
    import dagster as dg

    import mlops_platform.ml.evaluation.plots  # noqa: F401
    from mlops_platform.resources.dbt.manifest import invoke_dbt

    @dg.asset
    def nothing() -> None: ...

    dg.materialize([nothing], instance=instance)
    parsed = invoke_dbt(["parse", *project.options, "--no-write-json"])
    if parsed.exception is not None:
        raise parsed.exception


def raw(folder: Path, home: Path) -> dict[str, float]:
    """Run the bare statements, with DuckDB's defaults.

    Args:
        folder: Holds the CSV files.
        home: Takes the database and the Parquet file; empty.

    Returns:
        Seconds and CPU seconds of the statements.
    """
    import duckdb

    began, cpu = time.perf_counter(), time.process_time()
    with duckdb.connect(str(home / "raw.duckdb")) as connection:
        for table in ("projects", "tags"):
            connection.execute(f"create table {table} as from read_csv('{folder / table}.csv')")
        connection.execute(
            "create table labeled_projects as select projects.*, tags.tag "
            "from projects join tags on projects.id = tags.id where tags.tag is not null"
        )
        connection.execute(f"copy labeled_projects to '{home / 'raw.parquet'}' (format parquet)")
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    print(json.dumps({"ours": ours, "raw": raw}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))))
