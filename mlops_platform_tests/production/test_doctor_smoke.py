"""`mlops doctor --smoke` on the emulator: a scratch table is made and used, and nothing of it stays."""

from __future__ import annotations

import pytest

from mlops_platform.cli.doctor import SCRATCH, try_warehouse
from mlops_platform.errors import PlatformError
from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
from mlops_platform.settings import Settings
from mlops_platform_tests.production.misbehaving import Fault, proxy_to


def _left(warehouse: BigQueryWarehouse) -> list[str]:
    """Whatever of the scratch table is in the dataset."""
    with warehouse.connect() as client:
        tables = [each.table_id for each in client.list_tables(warehouse.schema_name)]
    entries = warehouse.fetch_rows("SELECT * FROM rejects WHERE source_table = ?", [SCRATCH])
    return [each for each in tables if each != "rejects"] + [str(entry) for entry in entries]


def test_a_scratch_table_is_made_used_and_dropped(bigquery: BigQueryWarehouse, bigquery_settings: Settings) -> None:
    for _ in range(2):
        assert try_warehouse(bigquery_settings) == f"table {SCRATCH} was created, loaded, queried and dropped"
        assert _left(bigquery) == []


@pytest.mark.parametrize("request_", [r"POST /bigquery/\S+/(jobs|queries)\b", r"GET /bigquery/\S+/tables/mlops_doctor"])
def test_a_refusal_in_between_is_said_and_leaves_nothing(
    bigquery: BigQueryWarehouse, bigquery_settings: Settings, request_: str
) -> None:
    bigquery.clear_rejects("none")  # makes the table
    message = "Access Denied: Table: Permission bigquery.tables.getData denied on table."
    with proxy_to(str(bigquery_settings.bigquery_endpoint)) as proxy:
        proxy.faults.append(Fault(request_, 403, "accessDenied", message))
        with pytest.raises(PlatformError, match=r"the permission bigquery.tables.getData is missing"):
            try_warehouse(bigquery_settings.model_copy(update={"bigquery_endpoint": proxy.url}))
        assert proxy.faults == [] or proxy.faults[0].times == 0
    assert _left(bigquery) == []
