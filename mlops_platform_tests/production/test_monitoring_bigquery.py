"""A report and a decision on BigQuery (the emulator) are those that DuckDB gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
from mlops_platform_tests.monitored import TODAY, Monitored
from mlops_platform_tests.training_graph import TrainingHome

pytest_plugins = ["mlops_platform_tests.production.training_home"]


@pytest.fixture
def monitored(trained: TrainingHome) -> Iterator[Monitored]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Monitored(trained, instance)


def _kept(warehouse: Warehouse) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    report = warehouse.fetch_arrow("select * from drift_report order by day, name").to_pylist()
    decisions = warehouse.fetch_arrow(
        "select day, decision, reason, rule, problems, model_version from retraining_decision order by day"
    ).to_pylist()
    return report, decisions


def test_both_warehouses_say_the_same(monitored: Monitored, bigquery: BigQueryWarehouse, tmp_path: Path) -> None:
    monitored.feedback()
    monitored.warehouse.execute(
        "insert into feedback select id, day, 'other', timestamp '2024-03-01' from feedback limit 90"
    )
    monitored.warehouse.execute(f"update predictions set description = null where day > date '{TODAY}' - 10")
    version = monitored.home.value("validated_dataset")["version"]
    tested = monitored.home.resources["datasets"].load(version, "test")["id"].tolist()
    monitored.warehouse.execute(
        "insert into predictions select cast(id as varchar), 'batch', "
        f"date '{TODAY}', created_on, title, description, tag, 1, '{{}}', '1' from labeled_projects"
    )
    monitored.warehouse.execute(
        f"create table labels as select unnest({tested[:-5]})::bigint as id, 'page' as source "
        f"union all select {tested[0]}, 'page-random'"
    )
    for table in ("predictions", "feedback", "labeled_projects", "labels"):
        file = tmp_path / f"{table}.parquet"
        monitored.warehouse.export_parquet(f"select * from {table}", file)
        bigquery.replace_rows(table, file, {})
    assert monitored.decide() == ("inspect", "damaged")
    here = _kept(monitored.warehouse)

    monitored.use(bigquery)
    for _ in range(2):
        assert monitored.decide() == ("inspect", "damaged")
    assert _kept(bigquery) == here
    (online,) = [row for row in here[0] if row["name"] == "online_f1"]
    assert online["window_rows"] == 325 + 5 + 1
