"""Which packages of the extras `production` and `sentence` are missing; nothing is imported to find out."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from mlops_platform.errors import PlatformError
from mlops_platform.settings import PlatformSettings, TrainingSettings

Extra = Literal["production", "sentence"]
# package name to one of its modules; the package of the sentence model is left out, as another model can be set
_MODULES: dict[Extra, dict[str, str]] = {
    "production": {
        "dagster-airbyte": "dagster_airbyte",
        "dagster-gcp": "dagster_gcp",
        "dagster-postgres": "dagster_postgres",
        "dbt-bigquery": "dbt.adapters.bigquery",
        "sqlalchemy-bigquery": "sqlalchemy_bigquery",
    },
    "sentence": {
        "onnxruntime": "onnxruntime",
        "optimum-onnx": "optimum.onnxruntime",
        "sentence-transformers": "sentence_transformers",
        "tokenizers": "tokenizers",
    },
}


def missing_packages(extra: Extra) -> list[str]:
    """Return the packages of an extra that are not installed."""
    return [package for package, module in _MODULES[extra].items() if not _is_installed(module)]


def remedy(extra: Extra) -> str:
    """Return the command that installs an extra."""
    return f"pip install '.[{extra}]'"


def require_production_packages(settings: PlatformSettings) -> None:
    """Raise a PlatformError if MLOPS_ENV is production and a package of that extra is missing."""
    if settings.env == "production":
        _require("production", "MLOPS_ENV=production")


def require_training_packages(settings: TrainingSettings) -> None:
    """Raise a PlatformError if a package for training with these settings is missing; serving a model needs fewer."""
    require_production_packages(settings)
    if settings.features == "sentence":
        _require("sentence", "MLOPS_FEATURES=sentence")


def _require(extra: Extra, choice: str) -> None:
    if names := ", ".join(missing_packages(extra)):
        raise PlatformError(f"{choice} needs packages that are not installed ({names}): run {remedy(extra)}.")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
