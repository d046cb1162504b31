"""What `mlops doctor` looks at in production: each service, whether it answers, and the setting that names it.

Every look has the same few seconds, and all are taken at once: one service that hangs does not hide the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.celery_workers import celery_workers
from mlops_platform.commands.doctor import Finding
from mlops_platform.errors import PlatformError
from mlops_platform.settings import Settings, without_password

if TYPE_CHECKING:
    from mlops_platform.resources.warehouse_base import Warehouse

LIMIT_SECONDS = 8.0
REQUEST_SECONDS = 5
SCRATCH = "mlops_doctor_scratch"


@dataclass(frozen=True)
class Look:
    """One service that is looked at.

    Attributes:
        name: What it is.
        settings: The settings that say where it is and how to get in.
        ask: Returns what was found; raises where there is nothing.
    """

    name: str
    settings: str
    ask: Callable[[], str]


def looks(settings: Settings) -> list[Look]:
    """The services that these settings ask for.

    Args:
        settings: What is configured.
    """
    found = [
        Look(
            "BigQuery",
            "MLOPS_BIGQUERY_PROJECT, MLOPS_BIGQUERY_CREDENTIALS or MLOPS_BIGQUERY_KEYFILE, MLOPS_SCHEMA_NAME",
            lambda: _bigquery(settings),
        )
    ]
    if settings.source_loader == "airbyte":
        found.append(
            Look(
                "Airbyte",
                "MLOPS_AIRBYTE_URL, MLOPS_AIRBYTE_WORKSPACE_ID, MLOPS_AIRBYTE_CLIENT_ID, "
                "MLOPS_AIRBYTE_CLIENT_SECRET, MLOPS_AIRBYTE_PROJECTS_CONNECTION, MLOPS_AIRBYTE_TAGS_CONNECTION",
                lambda: _airbyte(settings),
            )
        )
    if settings.dbt_runner == "cloud":
        names = "MLOPS_DBT_CLOUD_URL, MLOPS_DBT_CLOUD_ACCOUNT_ID, MLOPS_DBT_CLOUD_TOKEN"
        found.append(Look("dbt Cloud", names, lambda: _dbt_cloud(settings)))
    found.append(Look("Postgres", "MLOPS_POSTGRES_URL", lambda: _postgres(settings)))
    found.append(Look("MLflow server", "MLOPS_MLFLOW_URI", lambda: _mlflow(settings)))
    if settings.executor == "celery":
        found.append(Look("Celery", "MLOPS_EXECUTOR=celery", lambda: f"workers {', '.join(celery_workers(settings))}"))
    return found


def answers(asked: Sequence[Look], limit: float = LIMIT_SECONDS) -> list[Finding]:
    """Take all looks at once.

    Args:
        asked: What to look at.
        limit: Seconds for all of them.

    Returns:
        One finding a look, in their order.
    """
    given: dict[str, Finding] = {}

    def take(look: Look) -> None:
        try:
            given[look.name] = Finding(look.name, "ok", look.ask())
        except _NotSetError as error:
            given[look.name] = Finding(look.name, "missing", str(error))
        except ModuleNotFoundError as error:
            given[look.name] = Finding(look.name, "missing", f"not looked at: {error.name} is not installed")
        except Exception as error:  # whatever a client library throws: the service is not usable
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            given[look.name] = Finding(look.name, "missing", f"{said} ({look.settings})")

    # daemons: a look that hangs must not hold the command
    threads = [threading.Thread(target=take, args=[look], daemon=True) for look in asked]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0.0))
    return [
        given.get(look.name, Finding(look.name, "missing", f"no answer within {limit:g} s ({look.settings})"))
        for look in asked
    ]


class _NotSetError(PlatformError):
    """A setting is empty; its name is in the message."""


def _needed(**values: object) -> None:
    missing = [f"MLOPS_{name.upper()}" for name, value in values.items() if not value]
    if missing:
        raise _NotSetError(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set")


def _bigquery(settings: Settings) -> str:
    _needed(bigquery_project=settings.bigquery_project)
    from mlops_platform.resources.assembly import build_resources

    warehouse = build_resources(settings)["warehouse"]
    there = [name for name in ("projects", "tags") if warehouse.has_table(name)]
    return f"{settings.bigquery_project}.{settings.schema_name}, with {' and '.join(there) or 'no raw table yet'}"


def _airbyte(settings: Settings) -> str:
    _needed(
        airbyte_url=settings.airbyte_cloud or settings.airbyte_url,
        airbyte_workspace_id=settings.airbyte_workspace_id,
        airbyte_client_id=settings.airbyte_client_id,
        airbyte_client_secret=settings.airbyte_client_secret.get_secret_value(),
        airbyte_projects_connection=settings.airbyte_projects_connection,
        airbyte_tags_connection=settings.airbyte_tags_connection,
    )
    from mlops_platform.resources.airbyte import Airbyte

    airbyte = replace(Airbyte.of(settings), request_timeout=REQUEST_SECONDS)
    airbyte.require((settings.airbyte_projects_connection, settings.airbyte_tags_connection))
    return f"{airbyte.name}, both connections are there"


def _dbt_cloud(settings: Settings) -> str:
    token = settings.dbt_cloud_token.get_secret_value()
    _needed(dbt_cloud_account_id=settings.dbt_cloud_account_id, dbt_cloud_token=token)
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
    _needed(postgres_url=settings.postgres_url)
    from mlops_platform.resources.postgres import require_postgres, shown

    require_postgres(settings.optuna_storage, seconds=REQUEST_SECONDS)
    return shown(settings.optuna_storage)


def _mlflow(settings: Settings) -> str:
    _needed(mlflow_uri=settings.mlflow_uri)
    from mlops_platform.resources.assembly import build_resources

    build_resources(settings)["tracking"].require_server()
    return settings.mlflow_url


def smoke(settings: Settings) -> Finding:
    """Create, load, query and drop a scratch table in the warehouse, on DuckDB as on BigQuery.

    Args:
        settings: Which warehouse, and how to get in.
    """
    import tempfile

    from mlops_platform.resources.assembly import build_resources

    try:
        warehouse = build_resources(settings)["warehouse"]
        with tempfile.TemporaryDirectory() as folder, _scratch(warehouse):
            path = Path(folder) / "smoke.csv"
            path.write_text("id,created_on\n1,2026-01-01\n2,2026-01-02\n", encoding="utf-8")
            loaded = warehouse.load_csv(SCRATCH, path, {"id": "BIGINT", "created_on": "TIMESTAMP"}, path.name)
            read = warehouse.row_count(SCRATCH)
            version = warehouse.content_version(SCRATCH)
    except PlatformError as error:
        return Finding("smoke", "missing", str(error))
    if (loaded.rows, read, version) != (2, 2, loaded.version):
        return Finding("smoke", "missing", f"two rows were loaded into {SCRATCH}, and {read} other ones came back")
    return Finding("smoke", "ok", f"table {SCRATCH} was made, loaded, queried and dropped")


@contextmanager
def _scratch(warehouse: Warehouse) -> Iterator[None]:
    """Removes the scratch table and its entries in `rejects` at the end; an error of the body comes first."""
    try:
        yield
    except PlatformError:
        # what keeps the table from being loaded may keep it from being dropped too: the first error is the cause
        with suppress(PlatformError):
            _remove_scratch(warehouse)
        raise
    _remove_scratch(warehouse)


def _remove_scratch(warehouse: Warehouse) -> None:
    try:
        warehouse.execute(f"DROP TABLE IF EXISTS {SCRATCH}")
    finally:
        warehouse.clear_rejects(SCRATCH)
