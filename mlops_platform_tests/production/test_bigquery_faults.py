"""What goes wrong at the Storage API and in a job itself: tried again when it passes, else one sentence.

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
from mlops_platform.resources.bigquery import BigQueryWarehouse
from mlops_platform.resources.bigquery_client import Place, one_sentence, transient
from mlops_platform.resources.suites import read_suite
from mlops_platform.resources.validation import evaluate
from mlops_platform_tests.production.bigquery_emulator import PROJECT, Emulator
from mlops_platform_tests.production.misbehaving import Fault, proxy_to

PLACE = Place(PROJECT, "shop", "EU", None, 300)
ROWS = "SELECT n FROM UNNEST(GENERATE_ARRAY(1, 50)) AS n ORDER BY n"


class StorageProxy(grpc.GenericRpcHandler):
    """Refuses the first sessions that are asked for, and passes everything else on to the emulator."""

    def __init__(self, target: str, code: grpc.StatusCode, message: str, times: int) -> None:
        self.code, self.message, self.times, self.asked = code, message, times, 0
        self.channel = grpc.insecure_channel(target)

    def service(self, details: Any) -> Any:
        method = details.method
        if not method.endswith("CreateReadSession"):
            return grpc.unary_stream_rpc_method_handler(lambda body, _: self.channel.unary_stream(method)(body))

        def session(body: bytes, context: Any) -> Any:
            self.asked += 1
            if self.asked <= self.times:
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
def test_a_storage_api_that_was_away_is_asked_again(
    bigquery: BigQueryWarehouse, bigquery_emulator: Emulator, tmp_path: Path, code: grpc.StatusCode
) -> None:
    with storage(bigquery_emulator, code, "a moment", times=2) as (proxy, address):
        away = bigquery.model_copy(update={"storage_endpoint": address})
        assert away.fetch_arrow(ROWS).column("n").to_pylist() == list(range(1, 51))
        assert proxy.asked == 3
        proxy.asked = 0
        assert away.export_parquet(ROWS, tmp_path / "rows.parquet") == 50
        assert proxy.asked == 3
    assert pq.read_table(tmp_path / "rows.parquet").column("n").to_pylist() == list(range(1, 51))


def test_a_storage_api_that_refuses_is_asked_once_and_said_plainly(
    bigquery: BigQueryWarehouse, bigquery_emulator: Emulator, tmp_path: Path
) -> None:
    message = f"the user does not have 'bigquery.readsessions.create' permission for 'projects/{PROJECT}'"
    with storage(bigquery_emulator, grpc.StatusCode.PERMISSION_DENIED, message, times=9) as (proxy, address):
        refused = bigquery.model_copy(update={"storage_endpoint": address})
        for asked, read in enumerate(
            (lambda: refused.fetch_arrow(ROWS), lambda: refused.export_parquet(ROWS, tmp_path / "rows.parquet")), 1
        ):
            with pytest.raises(WarehouseError, match=r"permission bigquery\.readsessions\.create is missing"):
                read()
            assert proxy.asked == asked
    assert list(tmp_path.glob("rows*")) == []


@pytest.mark.parametrize("reason", ["bytesBilledLimitExceeded", "timeout"])
def test_a_jobs_own_error_that_google_makes_a_500_is_no_passing_failure(reason: str) -> None:
    from google.cloud.bigquery.job.base import _error_result_to_exception

    told = {"reason": reason, "message": "this is a test"}
    error = _error_result_to_exception(told, [told])
    assert error.code == 500
    assert not transient(error)


@pytest.mark.parametrize(
    ("message", "said"),
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
def test_the_missing_permission_is_named_and_no_other(message: str, said: str) -> None:
    with pytest.raises(WarehouseError) as caught, one_sentence(PLACE):
        raise exceptions.Forbidden(message)
    assert said in str(caught.value)
    assert str(caught.value).count("permission") == said.count("permission")


def test_a_key_that_is_not_accepted_names_the_settings() -> None:
    with (
        pytest.raises(WarehouseError, match="MLOPS_BIGQUERY_KEYFILE or MLOPS_BIGQUERY_CREDENTIALS"),
        one_sentence(PLACE),
    ):
        raise exceptions.Unauthorized("Request had invalid authentication credentials.")


def test_a_validation_that_is_refused_names_the_permission_and_asks_once(
    bigquery: BigQueryWarehouse, bigquery_emulator: Emulator
) -> None:
    bigquery.execute("CREATE TABLE tags AS SELECT 1 AS id, 'mlops' AS tag")
    with proxy_to(bigquery_emulator.url) as proxy:
        message = "Access Denied: User does not have bigquery.jobs.create permission in project p."
        proxy.faults.append(Fault("POST .*/queries", 403, "accessDenied", message, times=9))
        behind = bigquery.model_copy(update={"endpoint": proxy.url})
        said = r"the permission bigquery\.jobs\.create is missing"
        with pytest.raises(WarehouseError, match=said), behind.validation_source() as source:
            evaluate("tags", read_suite("tags"), source, "tags", with_ids=True)
        assert proxy.count("POST .*/queries") == 1
