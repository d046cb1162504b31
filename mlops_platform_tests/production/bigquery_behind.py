"""The BigQuery warehouse behind a proxy that misbehaves, and small loads into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform_tests.production.bigquery_emulator import PROJECT, Emulator
from mlops_platform_tests.production.misbehaving import Proxy, proxy_to

TAGS = {"id": "BIGINT", "tag": "VARCHAR"}
DENIED = f"Access Denied: Project {PROJECT}: User does not have bigquery.jobs.create permission in project {PROJECT}."
INSERT_JOB = rf"POST /bigquery/v2/projects/{PROJECT}/jobs\?"
UPLOAD = r"POST /(resumable/)?upload/"


@pytest.fixture
def proxy(bigquery_emulator: Emulator) -> Iterator[Proxy]:
    with proxy_to(bigquery_emulator.url) as proxy:
        yield proxy


@pytest.fixture
def behind(bigquery: BigQueryWarehouse, proxy: Proxy) -> BigQueryWarehouse:
    """The same warehouse, reached through the proxy."""
    return changed(bigquery, endpoint=proxy.url, retry_seconds=6.0)


def changed(warehouse: BigQueryWarehouse, **changes: Any) -> BigQueryWarehouse:
    fields = {name: getattr(warehouse, name) for name in type(warehouse).model_fields}
    return BigQueryWarehouse(**{**fields, **changes})


def csv_file(folder: Path, content: str) -> Path:
    path = folder / "file.csv"
    path.write_text(content, encoding="utf-8", newline="")
    return path


def load_tags(
    warehouse: BigQueryWarehouse | DuckDBWarehouse, folder: Path, content: str = "id,tag\n1,a\n2,b\n"
) -> None:
    warehouse.load_csv("tags", csv_file(folder, content), TAGS, "tags.csv")
