"""`mlops doctor`: report what is configured, reachable and missing, with the remedy for each."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

import typer

from mlops_platform.cli.predict import load_champion
from mlops_platform.cli.status import champion, table_rows
from mlops_platform.errors import PlatformError, first_line
from mlops_platform.optional_dependencies import missing_packages, remedy
from mlops_platform.resources.celery_workers import celery_workers
from mlops_platform.settings import DBT_PROJECT_DIR, GX_ROOT_DIR, Settings, without_password
from mlops_platform.sql import sql

PACKAGES = (
    "dagster",
    "dagster-dbt",
    "dbt-duckdb",
    "duckdb",
    "great-expectations",
    "mlflow",
    "optuna",
    "scikit-learn",
)
LIMIT_SECONDS = 8.0
REQUEST_SECONDS = 5
SCRATCH = "mlops_doctor_scratch"
_MARKS = {"ok": "✓", "note": "·", "missing": "✗"}


@dataclass(frozen=True)
class Check:
    """A check of something that the platform needs.

    Attributes:
        name: What is checked.
        run: Return a description of it; raise if it cannot be used, or `NotYetError`.
        settings: The settings that configure it; none of them may be empty.
        hint: Further settings to name in an error.
    """

    name: str
    run: Callable[[Settings], str]
    settings: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True)
class Finding:
    """The result of a check; `note` is for what the first run creates."""

    name: str
    state: Literal["ok", "note", "missing"]
    detail: str


class NotYetError(Exception):
    """What is checked is not there yet, and that is fine."""


def doctor(
    smoke: Annotated[bool, typer.Option("--smoke", help="Also create, load, query and drop a scratch table.")] = False,
) -> None:
    """Report what is configured, reachable and missing."""
    settings = Settings()
    findings = examine(settings)
    if smoke:
        findings.append(evaluate(Check("smoke", try_warehouse), settings))
    for finding in findings:
        print(f"{_MARKS[finding.state]} {finding.name:<20} {finding.detail}")
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


def examine(settings: Settings) -> list[Finding]:
    """Check everything that the platform needs, in the order of the graph; change nothing but create MLOPS_HOME."""
    is_local, has_sources = settings.env == "local", settings.source_loader == "csv"
    checks = {
        Check("Python", lambda _: f"{sys.version.split()[0]} ({sys.prefix})"): True,
        Check("packages", _packages): True,
        Check("MLOPS_HOME", _home): True,
        Check("source projects", lambda _: _source(settings.projects_uri), ("projects_uri",)): has_sources,
        Check("source tags", lambda _: _source(settings.tags_uri), ("tags_uri",)): has_sources,
        Check("warehouse", _warehouse): is_local,
        Check("dbt project", lambda _: _folder(DBT_PROJECT_DIR / "dbt_project.yml")): True,
        Check("expectation suites", lambda _: _folder(GX_ROOT_DIR / "expectations" / "projects.json")): True,
        Check("sentence vectors", _encoder): settings.features == "sentence",
        Check("MLflow", _mlflow): is_local,
        Check("champion", _champion): is_local,
    }
    findings = [evaluate(check, settings) for check, is_used in checks.items() if is_used]
    return findings if is_local else findings + evaluate_in_parallel(services(settings), settings)


def services(settings: Settings) -> list[Check]:
    """Return the checks of the services that production uses with these settings."""
    credentials = ", MLOPS_BIGQUERY_CREDENTIALS or MLOPS_BIGQUERY_KEYFILE, MLOPS_SCHEMA_NAME"
    airbyte = [
        "airbyte_workspace_id",
        "airbyte_client_id",
        "airbyte_client_secret",
        "airbyte_projects_connection",
        "airbyte_tags_connection",
    ]
    if not settings.airbyte_cloud:
        airbyte.insert(0, "airbyte_url")
    dbt_cloud = ("dbt_cloud_url", "dbt_cloud_account_id", "dbt_cloud_token")
    checks = {
        Check("BigQuery", _bigquery, ("bigquery_project",), credentials): True,
        Check("Airbyte", _airbyte, tuple(airbyte)): settings.source_loader == "airbyte",
        Check("dbt Cloud", _dbt_cloud, dbt_cloud): settings.dbt_runner == "cloud",
        Check("Postgres", _postgres, ("postgres_url",)): True,
        Check("MLflow server", _mlflow, ("mlflow_uri",)): True,
        Check("Celery", _celery, ("executor",)): settings.executor == "celery",
    }
    return [check for check, is_used in checks.items() if is_used]


def evaluate(check: Check, settings: Settings) -> Finding:
    """Run a check."""
    unset = [_variable(name) for name in check.settings if not getattr(settings, name)]
    if unset:
        return Finding(check.name, "missing", f"{', '.join(unset)} {'is' if len(unset) == 1 else 'are'} not set")
    try:
        return Finding(check.name, "ok", check.run(settings))
    except NotYetError as error:
        return Finding(check.name, "note", str(error))
    except ModuleNotFoundError as error:
        return Finding(check.name, "missing", f"not checked: {error.name} is not installed")
    except Exception as error:  # whatever a client library raises: it is not usable
        return Finding(check.name, "missing", f"{first_line(error)}{_configured_by(check)}")


def evaluate_in_parallel(checks: Sequence[Check], settings: Settings, limit: float = LIMIT_SECONDS) -> list[Finding]:
    """Run checks within `limit` seconds, so that a service that hangs does not hide the others; keep their order."""
    findings: dict[Check, Finding] = {}

    def run(check: Check) -> None:
        findings[check] = evaluate(check, settings)

    # daemon threads: a check that hangs must not hold the command
    threads = [threading.Thread(target=run, args=[check], daemon=True) for check in checks]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0.0))
    late = f"no answer within {limit:g} s"
    return [findings.get(check, Finding(check.name, "missing", late + _configured_by(check))) for check in checks]


def _variable(setting: str) -> str:
    return f"MLOPS_{setting.upper()}"


def _configured_by(check: Check) -> str:
    return f" ({', '.join(map(_variable, check.settings))}{check.hint})" if check.settings else ""


def _packages(settings: Settings) -> str:
    installed, missing = [], []
    for name in PACKAGES:
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    production = settings.env == "production"
    if production:
        missing += missing_packages("production")
    if missing:
        command = remedy("production") if production else "make run"
        raise PlatformError(f"{', '.join(missing)}: run `{command}` to set up again")
    return ", ".join(installed)


def _home(settings: Settings) -> str:
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlatformError(f"{settings.home} cannot be created ({error.strerror}): set MLOPS_HOME") from None
    if not os.access(settings.home, os.W_OK):
        raise PlatformError(f"{settings.home} cannot be written: set MLOPS_HOME")
    return str(settings.home)


def _source(uri: str) -> str:
    from mlops_platform.resources.csv_ingest.source_file import fetched

    with fetched(uri, timeout=5.0) as local:
        return f"{uri} ({local.path.stat().st_size:,} bytes)"


def _warehouse(settings: Settings) -> str:
    if not settings.warehouse_path.exists():
        raise NotYetError(f"{settings.warehouse_path} is not there yet: `mlops run` creates it")
    rows = table_rows(settings.model_copy(update={"lock_timeout": 2.0}))
    return ", ".join(f"{table} {count}" for table, count in rows.items())


def _folder(path: Path) -> str:
    if not path.exists():
        raise PlatformError(f"{path} is not there: run from a complete checkout")
    return str(path.parent)


def _encoder(settings: Settings) -> str:
    if missing := missing_packages("sentence"):
        raise PlatformError(f"{', '.join(missing)}: run `{remedy('sentence')}`")
    from mlops_platform.resources.encoders.export import DEFAULT_MODEL, local_model

    model = local_model(settings.sentence_model)
    if model is None:
        name = settings.sentence_model or DEFAULT_MODEL
        raise NotYetError(f"the first training downloads {name} from the hub")
    return f"the model of {model.source}"


def _mlflow(settings: Settings) -> str:
    from mlops_platform.resources.factory import build_registry

    tracking = build_registry(settings)
    tracking.store.require_server()
    if not tracking.exists():
        raise NotYetError(f"{settings.mlflow_dir} is not there yet: `mlops run` creates it")
    return without_password(settings.tracking_uri)


def _champion(settings: Settings) -> str:
    current = champion(settings)
    if current is None:
        raise NotYetError("none yet: `mlops run` promotes the first")
    load_champion(settings)
    return f"version {current['version']} loads"


def _celery(settings: Settings) -> str:
    return f"workers {', '.join(celery_workers(settings))}"


def _bigquery(settings: Settings) -> str:
    from mlops_platform.resources.factory import build_warehouse

    warehouse = build_warehouse(settings)
    tables = [name for name in ("projects", "tags") if warehouse.has_table(name)]
    return f"{settings.bigquery_project}.{settings.schema_name}, with {' and '.join(tables) or 'no raw table yet'}"


def _airbyte(settings: Settings) -> str:
    from mlops_platform.resources.airbyte.workspace import Airbyte

    airbyte = replace(Airbyte.of(settings), request_timeout=REQUEST_SECONDS)
    airbyte.require((settings.airbyte_projects_connection, settings.airbyte_tags_connection))
    return f"{airbyte.name}, both connections are there"


def _dbt_cloud(settings: Settings) -> str:
    import requests

    url = f"{settings.dbt_cloud_url}/api/v2/accounts/{settings.dbt_cloud_account_id}/"
    shown = without_password(url)
    headers = {"Authorization": f"Token {settings.dbt_cloud_token.get_secret_value()}"}
    try:
        response = requests.get(url, timeout=REQUEST_SECONDS, headers=headers)
    except requests.RequestException as error:
        raise PlatformError(f"{shown} cannot be reached ({type(error).__name__})") from None
    if response.status_code in (401, 403):
        raise PlatformError(f"{shown} refuses the credentials (HTTP {response.status_code})")
    if not response.ok:
        raise PlatformError(f"{shown} answers HTTP {response.status_code}")
    return shown


def _postgres(settings: Settings) -> str:
    from mlops_platform.resources.postgres import require_postgres, shown

    require_postgres(settings.optuna_storage, seconds=REQUEST_SECONDS)
    return shown(settings.optuna_storage)


def try_warehouse(settings: Settings) -> str:
    """Create, load, query and drop a scratch table in the warehouse."""
    from mlops_platform.resources.factory import build_warehouse

    warehouse = build_warehouse(settings)

    def load_and_query() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "smoke.csv"
            path.write_text("id,created_on\n1,2026-01-01\n2,2026-01-02\n", encoding="utf-8")
            loaded = warehouse.load_csv(SCRATCH, path, {"id": "BIGINT", "created_on": "TIMESTAMP"}, path.name)
        rows = warehouse.row_count(SCRATCH)
        if (loaded.rows, rows, warehouse.content_version(SCRATCH)) != (2, 2, loaded.version):
            raise PlatformError(f"two rows were loaded into {SCRATCH}, but {rows} different ones were read back")

    def drop() -> None:
        warehouse.execute(sql("DROP TABLE IF EXISTS {table}", table=SCRATCH))

    problems: list[PlatformError] = []
    for step in (load_and_query, drop, lambda: warehouse.clear_rejects(SCRATCH)):
        try:
            step()
        except PlatformError as error:  # it may prevent the next steps, too: report the first error
            problems.append(error)
    if problems:
        raise problems[0]
    return f"table {SCRATCH} was created, loaded, queried and dropped"
