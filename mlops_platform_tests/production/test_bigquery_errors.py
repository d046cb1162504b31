"""The sentence for each error of the BigQuery warehouse, and which errors Google's client retries."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr

from mlops_platform.errors import WarehouseError
from mlops_platform.resources.warehouse.bigquery.credentials import BigQueryKey
from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
from mlops_platform_tests.production.bigquery_behind import DENIED, INSERT_JOB, UPLOAD, changed, load_tags
from mlops_platform_tests.production.bigquery_emulator import LOCATION, PROJECT
from mlops_platform_tests.production.misbehaving import RESET, Fault, Proxy


@pytest.mark.parametrize("method", ["row_count", "describe", "content_version"])
def test_a_missing_table_is_named(bigquery: BigQueryWarehouse, method: str) -> None:
    sentence = rf"^BigQuery's project {PROJECT} has no table {bigquery.schema_name}\.none; materialize the asset"
    with pytest.raises(WarehouseError, match=sentence):
        getattr(bigquery, method)("none")


def test_a_missing_dataset_is_named(bigquery: BigQueryWarehouse) -> None:
    # by a query: of one table, the emulator answers that the table is missing where BigQuery names the dataset
    elsewhere = changed(bigquery, schema_name="nowhere")
    sentence = rf"^BigQuery has no dataset nowhere of project {PROJECT} in {LOCATION}: create it there, or correct"
    with pytest.raises(WarehouseError, match=sentence):
        elsewhere.row_count("tags")


def test_a_refused_statement_is_one_line_and_sent_once(behind: BigQueryWarehouse, proxy: Proxy) -> None:
    with pytest.raises(WarehouseError) as caught:
        behind.execute("SELEC 1")
    assert str(caught.value).startswith(f"BigQuery refused a statement on dataset {behind.schema_name} of project ")
    assert "Syntax error" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert proxy.count(INSERT_JOB) == 1


NO_TABLE_DATA = (
    "Access Denied: Table demo-project:d.tags: Permission bigquery.tables.getData denied on table (or it may not exist)"
)


@pytest.mark.parametrize(
    ("message", "permission"), [(DENIED, "bigquery.jobs.create"), (NO_TABLE_DATA, "bigquery.tables.getData")]
)
def test_a_missing_permission_is_named_and_the_request_sent_once(
    behind: BigQueryWarehouse, proxy: Proxy, message: str, permission: str
) -> None:
    proxy.faults = [Fault(INSERT_JOB, 403, "accessDenied", message, times=99)]
    with pytest.raises(WarehouseError) as caught:
        behind.row_count("tags")
    assert str(caught.value) == (
        f"BigQuery refused access to dataset {behind.schema_name} of project {PROJECT}: the permission {permission} is "
        "missing; grant the service account a role that holds it."
    )
    assert proxy.count(INSERT_JOB) == 1


def test_a_missing_permission_to_load_is_named_too(behind: BigQueryWarehouse, proxy: Proxy, tmp_path: Path) -> None:
    proxy.faults = [Fault(UPLOAD, 403, "accessDenied", DENIED, times=99)]
    with pytest.raises(WarehouseError, match=r"the permission bigquery\.jobs\.create is missing"):
        load_tags(behind, tmp_path)
    assert proxy.count(UPLOAD) == 1


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (429, "rateLimitExceeded"),
        (403, "rateLimitExceeded"),
        (500, "internalError"),
        (503, "backendError"),
    ],
)
def test_a_passing_failure_is_retried(
    behind: BigQueryWarehouse, proxy: Proxy, tmp_path: Path, status: int, reason: str
) -> None:
    proxy.faults = [
        Fault(UPLOAD, status, reason),
        Fault(INSERT_JOB, status, reason),
        Fault("GET .*/tables/", status, reason),
    ]
    load_tags(behind, tmp_path)
    assert behind.describe("tags") == [("id", "BIGINT"), ("tag", "VARCHAR")]
    assert behind.fetch_rows("SELECT * FROM tags ORDER BY id") == [(1, "a"), (2, "b")]
    assert [fault.times for fault in proxy.faults] == [0, 0, 0]


def test_a_lasting_failure_ends_in_a_sentence(behind: BigQueryWarehouse, proxy: Proxy) -> None:
    proxy.faults = [Fault(INSERT_JOB, 503, "backendError", "Visibility check was unavailable.", times=99)]
    with pytest.raises(WarehouseError) as caught:
        changed(behind, retry_seconds=2.0).row_count("tags")
    assert str(caught.value) == (
        f"BigQuery could not serve dataset {behind.schema_name} of project {PROJECT}, and not after several attempts "
        "either (Visibility check was unavailable); run again later."
    )
    assert proxy.count(INSERT_JOB) > 1


def test_a_statement_whose_answer_got_lost_runs_once(behind: BigQueryWarehouse, proxy: Proxy, tmp_path: Path) -> None:
    load_tags(behind, tmp_path)
    proxy.faults = [Fault(INSERT_JOB, 503, "backendError", pass_on=True)]
    behind.execute("INSERT INTO tags (id, tag) VALUES (?, ?)", [3, "c"])
    assert proxy.faults[0].times == 0
    assert behind.row_count("tags") == 3


def test_a_used_up_quota_is_named(behind: BigQueryWarehouse, proxy: Proxy) -> None:
    proxy.faults = [Fault(INSERT_JOB, 403, "quotaExceeded", "Quota exceeded: jobs per day", times=99)]
    with pytest.raises(WarehouseError, match=r"^A quota of BigQuery for dataset .* is used up \(Quota exceeded: jobs"):
        behind.row_count("tags")
    assert proxy.count(INSERT_JOB) == 1


def test_a_broken_connection_is_retried(behind: BigQueryWarehouse, proxy: Proxy) -> None:
    proxy.faults = [Fault(INSERT_JOB, RESET, "")]
    assert behind.fetch_rows("SELECT 1") == [(1,)]
    assert proxy.count(INSERT_JOB) == 2


def test_a_job_that_is_no_longer_waited_for_is_cancelled(behind: BigQueryWarehouse, proxy: Proxy) -> None:
    proxy.faults = [Fault("GET .*/(jobs|queries)/", 503, "backendError", times=99)]
    with pytest.raises(WarehouseError, match=r"^BigQuery could not serve dataset"):
        changed(behind, retry_seconds=1.0).fetch_rows("SELECT 1")
    assert proxy.count(r"POST /bigquery/v2/projects/.*/cancel") == 1


def test_an_address_where_nobody_answers(bigquery: BigQueryWarehouse) -> None:
    nobody = changed(bigquery, endpoint="http://127.0.0.1:9", retry_seconds=1.0)
    with pytest.raises(WarehouseError, match=rf"^BigQuery could not serve dataset .* of project {PROJECT}, and not"):
        nobody.has_table("tags")


@pytest.mark.parametrize("encoded", ["c2VjcmV0", "{secret}", "eyJ0eXBlIjogInNlY3JldCJ9"])
def test_a_bad_key_is_an_error_that_does_not_show_it(bigquery: BigQueryWarehouse, encoded: str) -> None:
    with pytest.raises(WarehouseError) as caught:
        changed(bigquery, key=BigQueryKey(SecretStr(encoded))).has_table("tags")
    assert str(caught.value).startswith("MLOPS_BIGQUERY_CREDENTIALS is not a service-account key: ")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_key_file_is_read_and_missed(bigquery: BigQueryWarehouse, tmp_path: Path) -> None:
    import base64

    path = tmp_path / "key.json"
    with pytest.raises(WarehouseError, match=r"^MLOPS_BIGQUERY_KEYFILE \(.*key\.json\) cannot be read"):
        changed(bigquery, key=BigQueryKey(file=path)).has_table("tags")
    assert bigquery.key.encoded is not None
    path.write_bytes(base64.b64decode(bigquery.key.encoded.get_secret_value()))
    assert not changed(bigquery, key=BigQueryKey(file=path)).has_table("tags")


def test_without_credentials_or_project_the_settings_are_named(
    bigquery: BigQueryWarehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(WarehouseError, match="no credentials for BigQuery: set MLOPS_BIGQUERY_KEYFILE or"):
        changed(bigquery, key=BigQueryKey()).has_table("tags")
    with pytest.raises(WarehouseError, match="set MLOPS_BIGQUERY_PROJECT"):
        changed(bigquery, project="").has_table("tags")


def test_the_key_is_kept_from_the_ui_and_the_environment(bigquery: BigQueryWarehouse) -> None:
    from dagster._core.remote_representation.external_data import RepositorySnap

    assert bigquery.key.encoded is not None
    before = set(os.environ)
    with bigquery.connect():
        assert set(os.environ) == before
    repository = dg.Definitions(resources={"warehouse": bigquery}).get_repository_def()
    shown = repr(RepositorySnap.from_def(repository).resources)
    assert "demo-project" in shown
    assert bigquery.key.encoded.get_secret_value()[:40] not in shown
