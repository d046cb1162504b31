"""`mlops doctor`: what is configured, what is reachable, what is missing, each with its remedy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from mlops_platform.errors import PlatformError
from mlops_platform.packages import REMEDY, SENTENCE_REMEDY, missing_packages, missing_sentence_packages
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


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        state: `ok`, `note` (not there yet, and that is fine) or `missing`.
        detail: What was found and, where it is missing, the setting or command that mends it.
    """

    name: str
    state: Literal["ok", "note", "missing"]
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """Look at everything the platform needs; changes nothing but an empty MLOPS_HOME.

    Args:
        settings: What is configured.

    Returns:
        The findings, in the order of the graph.
    """
    looks: list[Callable[[Settings], Finding]] = [_python, _packages, _home]
    if settings.source_loader == "csv":
        looks.append(lambda s: _source("projects", s.projects_uri, "MLOPS_PROJECTS_URI"))
        looks.append(lambda s: _source("tags", s.tags_uri, "MLOPS_TAGS_URI"))
    if settings.env == "local":
        looks.append(_warehouse)
    looks.append(lambda _: _folder("dbt project", DBT_PROJECT_DIR / "dbt_project.yml"))
    looks.append(lambda _: _folder("expectation suites", GX_ROOT_DIR / "expectations" / "projects.json"))
    if settings.features == "sentence":
        looks.append(_encoder)
    if settings.env == "local":
        return [look(settings) for look in (*looks, _registry, _champion)]
    from mlops_platform.commands.doctor_production import answers
    from mlops_platform.commands.doctor_production import looks as services

    return [*(look(settings) for look in looks), *answers(services(settings))]


def _python(_: Settings) -> Finding:
    return Finding("Python", "ok", f"{sys.version.split()[0]} ({sys.prefix})")


def _packages(settings: Settings) -> Finding:
    found, missing = [], []
    production = settings.env == "production"
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if production:
        missing += missing_packages()
    if missing:
        remedy = REMEDY if production else "make run"
        return Finding("packages", "missing", f"{', '.join(missing)}: run `{remedy}` to set up again")
    return Finding("packages", "ok", ", ".join(found))


def _home(settings: Settings) -> Finding:
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return Finding("MLOPS_HOME", "missing", f"{settings.home} cannot be made ({error.strerror}): set MLOPS_HOME")
    if not os.access(settings.home, os.W_OK):
        return Finding("MLOPS_HOME", "missing", f"{settings.home} cannot be written: set MLOPS_HOME")
    return Finding("MLOPS_HOME", "ok", str(settings.home))


def _source(name: str, uri: str, setting: str) -> Finding:
    from mlops_platform.resources.sources import fetched

    try:
        with fetched(uri, timeout=5.0) as local:
            size = local.path.stat().st_size
    except OSError as error:
        return Finding(f"source {name}", "missing", f"{uri} cannot be read ({error.strerror}): set {setting}")
    except PlatformError as error:
        return Finding(f"source {name}", "missing", f"{error} ({setting})")
    return Finding(f"source {name}", "ok", f"{uri} ({size:,} bytes)")


def _warehouse(settings: Settings) -> Finding:
    from mlops_platform.commands.summary import table_rows

    if not settings.warehouse_path.exists():
        return Finding("warehouse", "note", f"{settings.warehouse_path} is not there yet: `mlops run` makes it")
    try:
        rows = table_rows(settings.model_copy(update={"lock_timeout": 2.0}))
    except PlatformError as error:
        return Finding("warehouse", "missing", str(error))
    return Finding("warehouse", "ok", ", ".join(f"{table} {count}" for table, count in rows.items()))


def _folder(name: str, path: Path) -> Finding:
    if path.exists():
        return Finding(name, "ok", str(path.parent))
    return Finding(name, "missing", f"{path} is not there: run from a whole checkout")


def _encoder(settings: Settings) -> Finding:
    if missing := missing_sentence_packages():
        return Finding("sentence vectors", "missing", f"{', '.join(missing)}: run `{SENTENCE_REMEDY}`")
    from mlops_platform.resources.sentence_export import DEFAULT_MODEL, local_model

    try:
        model = local_model(settings.sentence_model)
    except PlatformError as error:
        return Finding("sentence vectors", "missing", str(error))
    if model is None:
        name = settings.sentence_model or DEFAULT_MODEL
        return Finding("sentence vectors", "note", f"the first training downloads {name} from the hub")
    return Finding("sentence vectors", "ok", f"the model of {model.source}")


def _registry(settings: Settings) -> Finding:
    from mlops_platform.resources.assembly import build_resources

    tracking = build_resources(settings)["tracking"]
    try:
        tracking.require_server()
    except PlatformError as error:
        return Finding("MLflow", "missing", str(error))
    if not tracking.exists():
        return Finding("MLflow", "note", f"{settings.mlflow_dir} is not there yet: `mlops run` makes it")
    return Finding("MLflow", "ok", settings.tracking_uri)


def _champion(settings: Settings) -> Finding:
    from mlops_platform.commands.predict import load_champion
    from mlops_platform.commands.summary import champion

    try:
        found = champion(settings)
        if found is None:
            return Finding("champion", "note", "none yet: `mlops run` promotes the first")
        load_champion(settings)
    except PlatformError as error:
        return Finding("champion", "missing", str(error))
    return Finding("champion", "ok", f"version {found['version']} loads")
