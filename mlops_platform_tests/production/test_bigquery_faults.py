"""Faults of the Storage API and of a job itself: retried when they pass, else one sentence.

The emulator has no such faults: the Storage API's come from a gRPC server before it, a job's from a proxy.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pyarrow.parquet as pq
import pytest
from google.api_core import exceptions

from mlops_platform.errors import WarehouseError
from mlops_platform.resources.validation.suite import read_suite
from mlops_platform.resources.validation.suite_runner import evaluate
from mlops_platform.resources.warehouse.bigquery.credentials import BigQueryKey
from mlops_platform.resources.warehouse.bigquery.error_messages import as_warehouse_error
from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
from mlops_platform_tests.production.bigquery_emulator import PROJECT, Emulator
from mlops_platform_tests.production.misbehaving import Fault, proxy_to

WAREHOUSE = BigQueryWarehouse(project=PROJECT, schema_name="shop", location="EU", key=BigQueryKey())
ROWS = "SELECT n FROM UNNEST(generate_series(1, 50)) AS s(n) ORDER BY n"


class StorageProxy(grpc.GenericRpcHandler):
    """Refuses the first sessions that are requested, and forwards everything else to the emulator."""

    def __init__(self, target: str, code: grpc.StatusCode, message: str, times: int) -> None:
        self.code, self.message, self.times, self.sessions = code, message, times, 0
        self.channel = grpc.insecure_channel(target)

    def service(self, details: Any) -> Any:
        method = details.method
        if not method.endswith("CreateReadSession"):
            return grpc.unary_stream_rpc_method_handler(lambda body, _: self.channel.unary_stream(method)(body))

        def session(body: bytes, context: Any) -> Any:
            self.sessions += 1
            if self.sessions <= self.times:
                context.abort(self.code, self.message)
            return self.channel.unary_unary(method)(body, metadata=context.invocation_metadata())

        return grpc.unary_unary_rpc_method_handler(session)


@contextmanager
def storage(emulator: Emulator, code: grpc.StatusCode, message: str, times: int) -> Iterator[tuple[StorageProxy, str]]:
    proxy = StorageProxy(emulator.storage, code, message, times)
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(proxy,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield proxy, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
        proxy.channel.close()


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_an_unavailable_storage_api_is_retried(
    bigquery: BigQueryWarehouse, bigquery_emulator: Emulator, tmp_path: Path, code: grpc.StatusCode
) -> None:
    with storage(bigquery_emulator, code, "a moment", times=2) as (proxy, address):
        away = bigquery.model_copy(update={"storage_endpoint": address})
        assert away.fetch_arrow(ROWS).column("n").to_pylist() == list(range(1, 51))
        assert proxy.sessions == 3
        proxy.sessions = 0
        assert away.export_parquet(ROWS, tmp_path / "rows.parquet") == 50
        assert proxy.sessions == 3
    assert pq.read_table(tmp_path / "rows.parquet").column("n").to_pylist() == list(range(1, 51))


def test_a_storage_api_that_refuses_names_the_permission(
    bigquery: BigQueryWarehouse, bigquery_emulator: Emulator, tmp_path: Path
) -> None:
    message = f"the user does not have 'bigquery.readsessions.create' permission for 'projects/{PROJECT}'"
    with storage(bigquery_emulator, grpc.StatusCode.PERMISSION_DENIED, message, times=9) as (proxy, address):
        refused = bigquery.model_copy(update={"storage_endpoint": address})
        for sessions, read in enumerate(
            (lambda: refused.fetch_arrow(ROWS), lambda: refused.export_parquet(ROWS, tmp_path / "rows.parquet")), 1
        ):
            with pytest.raises(WarehouseError, match=r"permission bigquery\.readsessions\.create is missing"):
                read()
            assert proxy.sessions == sessions
    assert list(tmp_path.glob("rows*")) == []


@pytest.mark.parametrize(
    ("reason", "message", "setting"),
    [
        ("bytesBilledLimitExceeded", "Query exceeded limit for bytes billed: 1048576", "MLOPS_BIGQUERY_MAX_BYTES"),
        ("timeout", "Job timed out after 300s", "MLOPS_BIGQUERY_TIMEOUT"),
    ],
)
def test_a_limit_that_a_job_has_reached_names_its_setting(reason: str, message: str, setting: str) -> None:
    # Google's client makes a 500 of a job's error whose reason it doesn't know
    error = exceptions.InternalServerError(message, errors=[{"reason": reason, "message": message}])
    with pytest.raises(WarehouseError, match=setting), as_warehouse_error(WAREHOUSE):
        raise error


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            "Access Denied: Table p:shop.tags: User does not have permission to query table p:shop.tags, or perhaps it "
            "does not exist.",
            "the permission bigquery.tables.getData on p:shop.tags is missing",
        ),
        (
            "Grant the caller the roles/serviceusage.serviceUsageConsumer role, or a custom role with the "
            "serviceusage.services.use permission",
            "the permission serviceusage.services.use is missing",
        ),
        (
            "BigQuery API has not been used in project 1 before; see https://x/api/bigquery.googleapis.com/overview",
            "BigQuery API has not been used in project 1 before",
        ),
    ],
)
def test_the_missing_permission_is_named_and_no_other(message: str, sentence: str) -> None:
    with pytest.raises(WarehouseError) as caught, as_warehouse_error(WAREHOUSE):
        raise exceptions.Forbidden(message)
    assert sentence in str(caught.value)
    assert str(caught.value).count("permission") == sentence.count("permission")


def test_a_key_that_is_not_accepted_names_the_settings() -> None:
    with (
        pytest.raises(WarehouseError, match="MLOPS_BIGQUERY_KEYFILE or MLOPS_BIGQUERY_CREDENTIALS"),
        as_warehouse_error(WAREHOUSE),
    ):
        raise exceptions.Unauthorized("Request had invalid authentication credentials.")


def test_a_refused_validation_names_the_permission(bigquery: BigQueryWarehouse, bigquery_emulator: Emulator) -> None:
    bigquery.execute("CREATE TABLE tags AS SELECT 1 AS id, 'mlops' AS tag")
    with proxy_to(bigquery_emulator.url) as proxy:
        message = "Access Denied: User does not have bigquery.jobs.create permission in project p."
        proxy.faults.append(Fault("POST .*/queries", 403, "accessDenied", message, times=9))
        behind = bigquery.model_copy(update={"endpoint": proxy.url})
        sentence = r"the permission bigquery\.jobs\.create is missing"
        with pytest.raises(WarehouseError, match=sentence), behind.validation_source() as source:
            evaluate("tags", read_suite("tags"), source, "tags", with_ids=True)
        assert proxy.count("POST .*/queries") == 1
