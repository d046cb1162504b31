"""What `mlops doctor` checks in production: whether each service answers, with the settings that configure it.

The checks run in parallel within a few seconds: a service that hangs does not hide the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlops_platform.cli.doctor_finding import Finding
from mlops_platform.errors import PlatformError
from mlops_platform.resources.celery_workers import celery_workers
from mlops_platform.settings import Settings, without_password
from mlops_platform.sql import sql

if TYPE_CHECKING:
    from mlops_platform.resources.warehouse.base import Warehouse

LIMIT_SECONDS = 8.0
REQUEST_SECONDS = 5
SCRATCH = "mlops_doctor_scratch"


@dataclass(frozen=True)
class Service:
    """A service that production uses.

    Attributes:
        name: Its name.
        settings: The settings of its address and credentials.
        check: Returns what it answers; raises when it cannot be used.
    """

    name: str
    settings: str
    check: Callable[[], str]


def services(settings: Settings) -> list[Service]:
    """Return the services that these settings use.

    Args:
        settings: What is configured.
    """
    used = [
        Service(
            "BigQuery",
            "MLOPS_BIGQUERY_PROJECT, MLOPS_BIGQUERY_CREDENTIALS or MLOPS_BIGQUERY_KEYFILE, MLOPS_SCHEMA_NAME",
            lambda: _bigquery(settings),
        )
    ]
    if settings.source_loader == "airbyte":
        used.append(
            Service(
                "Airbyte",
                "MLOPS_AIRBYTE_URL, MLOPS_AIRBYTE_WORKSPACE_ID, MLOPS_AIRBYTE_CLIENT_ID, "
                "MLOPS_AIRBYTE_CLIENT_SECRET, MLOPS_AIRBYTE_PROJECTS_CONNECTION, MLOPS_AIRBYTE_TAGS_CONNECTION",
                lambda: _airbyte(settings),
            )
        )
    if settings.dbt_runner == "cloud":
        names = "MLOPS_DBT_CLOUD_URL, MLOPS_DBT_CLOUD_ACCOUNT_ID, MLOPS_DBT_CLOUD_TOKEN"
        used.append(Service("dbt Cloud", names, lambda: _dbt_cloud(settings)))
    used.append(Service("Postgres", "MLOPS_POSTGRES_URL", lambda: _postgres(settings)))
    used.append(Service("MLflow server", "MLOPS_MLFLOW_URI", lambda: _mlflow(settings)))
    if settings.executor == "celery":
        workers = "MLOPS_EXECUTOR=celery"
        used.append(Service("Celery", workers, lambda: f"workers {', '.join(celery_workers(settings))}"))
    return used


def check_services(checked: Sequence[Service], limit: float = LIMIT_SECONDS) -> list[Finding]:
    """Check services in parallel.

    Args:
        checked: The services.
        limit: Seconds for all of them.

    Returns:
        One finding per service, in their order.
    """
    findings: dict[str, Finding] = {}

    def check(service: Service) -> None:
        state: Literal["ok", "missing"] = "missing"
        try:
            detail, state = service.check(), "ok"
        except _NotSetError as error:
            detail = str(error)
        except ModuleNotFoundError as error:
            detail = f"not checked: {error.name} is not installed"
        except Exception as error:  # whatever a client library raises: the service is not usable
            message = (str(error).strip() or type(error).__name__).splitlines()[0]
            detail = f"{message} ({service.settings})"
        findings[service.name] = Finding(service.name, state, detail)

    # daemon threads: a check that hangs must not hold the command
    threads = [threading.Thread(target=check, args=[service], daemon=True) for service in checked]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0.0))
    return [
        findings.get(
            service.name, Finding(service.name, "missing", f"no answer within {limit:g} s ({service.settings})")
        )
        for service in checked
    ]


class _NotSetError(PlatformError):
    """A setting is empty; the message names it."""


def _require(**values: object) -> None:
    missing = [f"MLOPS_{name.upper()}" for name, value in values.items() if not value]
    if missing:
        raise _NotSetError(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set")


def _bigquery(settings: Settings) -> str:
    _require(bigquery_project=settings.bigquery_project)
    from mlops_platform.resources.factory import build_warehouse

    warehouse = build_warehouse(settings)
    tables = [name for name in ("projects", "tags") if warehouse.has_table(name)]
    return f"{settings.bigquery_project}.{settings.schema_name}, with {' and '.join(tables) or 'no raw table yet'}"


def _airbyte(settings: Settings) -> str:
    _require(
        airbyte_url=settings.airbyte_cloud or settings.airbyte_url,
        airbyte_workspace_id=settings.airbyte_workspace_id,
        airbyte_client_id=settings.airbyte_client_id,
        airbyte_client_secret=settings.airbyte_client_secret.get_secret_value(),
        airbyte_projects_connection=settings.airbyte_projects_connection,
        airbyte_tags_connection=settings.airbyte_tags_connection,
    )
    from mlops_platform.resources.airbyte.workspace import Airbyte

    airbyte = replace(Airbyte.of(settings), request_timeout=REQUEST_SECONDS)
    airbyte.require((settings.airbyte_projects_connection, settings.airbyte_tags_connection))
    return f"{airbyte.name}, both connections are there"


def _dbt_cloud(settings: Settings) -> str:
    token = settings.dbt_cloud_token.get_secret_value()
    _require(dbt_cloud_account_id=settings.dbt_cloud_account_id, dbt_cloud_token=token)
    import requests

    url = f"{settings.dbt_cloud_url}/api/v2/accounts/{settings.dbt_cloud_account_id}/"
    try:
        answer = requests.get(url, timeout=REQUEST_SECONDS, headers={"Authorization": f"Token {token}"})
    except requests.RequestException as error:
        raise PlatformError(f"{without_password(url)} cannot be reached ({type(error).__name__})") from None
    if answer.status_code in (401, 403):
        raise PlatformError(f"{without_password(url)} refuses the credentials (HTTP {answer.status_code})")
    if not answer.ok:
        raise PlatformError(f"{without_password(url)} answers HTTP {answer.status_code}")
    return url


def _postgres(settings: Settings) -> str:
    _require(postgres_url=settings.postgres_url)
    from mlops_platform.resources.postgres import require_postgres, shown

    require_postgres(settings.optuna_storage, seconds=REQUEST_SECONDS)
    return shown(settings.optuna_storage)


def _mlflow(settings: Settings) -> str:
    _require(mlflow_uri=settings.mlflow_uri)
    from mlops_platform.resources.factory import build_registry

    build_registry(settings).store.require_server()
    return settings.mlflow_url


def try_warehouse(settings: Settings) -> Finding:
    """Create, load, query and drop a scratch table in the warehouse.

    Args:
        settings: The warehouse and its credentials.
    """
    import tempfile

    from mlops_platform.resources.factory import build_warehouse

    try:
        warehouse = build_warehouse(settings)
        with tempfile.TemporaryDirectory() as folder, _scratch_table(warehouse):
            path = Path(folder) / "smoke.csv"
            path.write_text("id,created_on\n1,2026-01-01\n2,2026-01-02\n", encoding="utf-8")
            loaded = warehouse.load_csv(SCRATCH, path, {"id": "BIGINT", "created_on": "TIMESTAMP"}, path.name)
            rows = warehouse.row_count(SCRATCH)
            version = warehouse.content_version(SCRATCH)
    except PlatformError as error:
        return Finding("smoke", "missing", str(error))
    if (loaded.rows, rows, version) != (2, 2, loaded.version):
        return Finding("smoke", "missing", f"two rows were loaded into {SCRATCH}, and {rows} other ones came back")
    return Finding("smoke", "ok", f"table {SCRATCH} was created, loaded, queried and dropped")


@contextmanager
def _scratch_table(warehouse: Warehouse) -> Iterator[None]:
    """Drop the scratch table and its rejects at the end."""
    try:
        yield
    except PlatformError:
        # whatever prevented the load may prevent the drop, too: report the first error
        with suppress(PlatformError):
            _drop_scratch_table(warehouse)
        raise
    _drop_scratch_table(warehouse)


def _drop_scratch_table(warehouse: Warehouse) -> None:
    try:
        warehouse.execute(sql("DROP TABLE IF EXISTS {table}", table=SCRATCH))
    finally:
        warehouse.clear_rejects(SCRATCH)
