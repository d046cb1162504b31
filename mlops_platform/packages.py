"""The packages that production needs beside the laptop's: which of them are not installed, and the sentence for it."""

from __future__ import annotations

from importlib.util import find_spec

from mlops_platform.errors import PlatformError
from mlops_platform.settings import Settings

REMEDY = "pip install '.[production]'"
# package to the module that it brings
_PRODUCTION = {
    "dagster-airbyte": "dagster_airbyte",
    "dagster-gcp": "dagster_gcp",
    "dagster-postgres": "dagster_postgres",
    "dbt-bigquery": "dbt.adapters.bigquery",
    "sqlalchemy-bigquery": "sqlalchemy_bigquery",
}


def missing_packages() -> list[str]:
    """The packages of production that are not installed; imports none of them."""
    return [package for package, module in _PRODUCTION.items() if not _is_there(module)]


def require_packages(settings: Settings) -> None:
    """See that production has its packages; a laptop needs none of them.

    Args:
        settings: Whether it is production.

    Raises:
        PlatformError: One is missing.
    """
    missing = missing_packages() if settings.env == "production" else []
    if missing:
        raise PlatformError(
            f"MLOPS_ENV=production needs packages that are not installed ({', '.join(missing)}): run {REMEDY}."
        )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a parent of it is missing
        return False
