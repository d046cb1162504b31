"""`mlops doctor`: report what is configured, reachable and missing, with the remedy for each.

Checks of the services that production uses are in `doctor_production`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from mlops_platform.cli.doctor_finding import Finding
from mlops_platform.errors import PlatformError
from mlops_platform.optional_dependencies import missing_packages, remedy
from mlops_platform.settings import DBT_PROJECT_DIR, GX_ROOT_DIR, Settings

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


def doctor(
    smoke: Annotated[bool, typer.Option("--smoke", help="Also create, load, query and drop a scratch table.")] = False,
) -> None:
    """Report what is configured, reachable and missing."""
    marks = {"ok": "✓", "note": "·", "missing": "✗"}
    settings = Settings()
    findings = examine(settings)
    if smoke:
        from mlops_platform.cli.doctor_production import try_warehouse

        findings.append(try_warehouse(settings))
    for finding in findings:
        print(f"{marks[finding.state]} {finding.name:<20} {finding.detail}")
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


def examine(settings: Settings) -> list[Finding]:
    """Check everything that the platform needs, in the order of the graph; change nothing but create MLOPS_HOME."""
    checks: list[Callable[[Settings], Finding]] = [_python, _packages, _home]
    if settings.source_loader == "csv":
        checks.append(lambda s: _source("projects", s.projects_uri, "MLOPS_PROJECTS_URI"))
        checks.append(lambda s: _source("tags", s.tags_uri, "MLOPS_TAGS_URI"))
    if settings.env == "local":
        checks.append(_warehouse)
    checks.append(lambda _: _folder("dbt project", DBT_PROJECT_DIR / "dbt_project.yml"))
    checks.append(lambda _: _folder("expectation suites", GX_ROOT_DIR / "expectations" / "projects.json"))
    if settings.features == "sentence":
        checks.append(_encoder)
    if settings.env == "local":
        return [check(settings) for check in (*checks, _registry, _champion)]
    from mlops_platform.cli.doctor_production import check_services, services

    return [*(check(settings) for check in checks), *check_services(services(settings))]


def _python(_: Settings) -> Finding:
    return Finding("Python", "ok", f"{sys.version.split()[0]} ({sys.prefix})")


def _packages(settings: Settings) -> Finding:
    installed, missing = [], []
    production = settings.env == "production"
    for name in PACKAGES:
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if production:
        missing += missing_packages("production")
    if missing:
        command = remedy("production") if production else "make run"
        return Finding("packages", "missing", f"{', '.join(missing)}: run `{command}` to set up again")
    return Finding("packages", "ok", ", ".join(installed))


def _home(settings: Settings) -> Finding:
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return Finding("MLOPS_HOME", "missing", f"{settings.home} cannot be created ({error.strerror}): set MLOPS_HOME")
    if not os.access(settings.home, os.W_OK):
        return Finding("MLOPS_HOME", "missing", f"{settings.home} cannot be written: set MLOPS_HOME")
    return Finding("MLOPS_HOME", "ok", str(settings.home))


def _source(name: str, uri: str, setting: str) -> Finding:
    from mlops_platform.resources.csv_ingest.source_file import fetched

    try:
        with fetched(uri, timeout=5.0) as local:
            size = local.path.stat().st_size
    except OSError as error:
        return Finding(f"source {name}", "missing", f"{uri} cannot be read ({error.strerror}): set {setting}")
    except PlatformError as error:
        return Finding(f"source {name}", "missing", f"{error} ({setting})")
    return Finding(f"source {name}", "ok", f"{uri} ({size:,} bytes)")


def _warehouse(settings: Settings) -> Finding:
    from mlops_platform.cli.run_summary import table_rows

    if not settings.warehouse_path.exists():
        return Finding("warehouse", "note", f"{settings.warehouse_path} is not there yet: `mlops run` creates it")
    try:
        rows = table_rows(settings.model_copy(update={"lock_timeout": 2.0}))
    except PlatformError as error:
        return Finding("warehouse", "missing", str(error))
    return Finding("warehouse", "ok", ", ".join(f"{table} {count}" for table, count in rows.items()))


def _folder(name: str, path: Path) -> Finding:
    if path.exists():
        return Finding(name, "ok", str(path.parent))
    return Finding(name, "missing", f"{path} is not there: run from a complete checkout")


def _encoder(settings: Settings) -> Finding:
    if missing := missing_packages("sentence"):
        return Finding("sentence vectors", "missing", f"{', '.join(missing)}: run `{remedy('sentence')}`")
    from mlops_platform.resources.encoders.export import DEFAULT_MODEL, local_model

    try:
        model = local_model(settings.sentence_model)
    except PlatformError as error:
        return Finding("sentence vectors", "missing", str(error))
    if model is None:
        name = settings.sentence_model or DEFAULT_MODEL
        return Finding("sentence vectors", "note", f"the first training downloads {name} from the hub")
    return Finding("sentence vectors", "ok", f"the model of {model.source}")


def _registry(settings: Settings) -> Finding:
    from mlops_platform.resources.factory import build_registry

    tracking = build_registry(settings)
    try:
        tracking.store.require_server()
    except PlatformError as error:
        return Finding("MLflow", "missing", str(error))
    if not tracking.exists():
        return Finding("MLflow", "note", f"{settings.mlflow_dir} is not there yet: `mlops run` creates it")
    return Finding("MLflow", "ok", settings.tracking_uri)


def _champion(settings: Settings) -> Finding:
    from mlops_platform.cli.predict import load_champion
    from mlops_platform.cli.run_summary import champion

    try:
        current = champion(settings)
        if current is None:
            return Finding("champion", "note", "none yet: `mlops run` promotes the first")
        load_champion(settings)
    except PlatformError as error:
        return Finding("champion", "missing", str(error))
    return Finding("champion", "ok", f"version {current['version']} loads")
