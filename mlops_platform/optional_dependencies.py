"""Which packages of the extras `production` and `sentence` are missing; nothing is imported to find out."""

from __future__ import annotations

from importlib.util import find_spec

from mlops_platform.errors import PlatformError
from mlops_platform.settings import PlatformSettings, TrainingSettings

REMEDY = "pip install '.[production]'"
SENTENCE_REMEDY = "pip install '.[sentence]'"
# package name to one of its modules
_PRODUCTION = {
    "dagster-airbyte": "dagster_airbyte",
    "dagster-gcp": "dagster_gcp",
    "dagster-postgres": "dagster_postgres",
    "dbt-bigquery": "dbt.adapters.bigquery",
    "sqlalchemy-bigquery": "sqlalchemy_bigquery",
}
# not the package of the default model, which may be another one or a folder
_SENTENCE = {
    "onnxruntime": "onnxruntime",
    "optimum-onnx": "optimum.onnxruntime",
    "sentence-transformers": "sentence_transformers",
    "tokenizers": "tokenizers",
}


def missing_packages() -> list[str]:
    """Return the packages of the extra `production` that are not installed."""
    return [package for package, module in _PRODUCTION.items() if not _is_installed(module)]


def missing_sentence_packages() -> list[str]:
    """Return the packages of the extra `sentence` that are not installed."""
    return [package for package, module in _SENTENCE.items() if not _is_installed(module)]


def require_production_packages(settings: PlatformSettings) -> None:
    """Check that the extra `production` is installed if MLOPS_ENV is production.

    Raises:
        PlatformError: A package is missing.
    """
    if settings.env == "production":
        _require("MLOPS_ENV=production", missing_packages(), REMEDY)


def require_training_packages(settings: TrainingSettings) -> None:
    """Check that the extras for training with these settings are installed; serving a model needs fewer.

    Raises:
        PlatformError: A package is missing.
    """
    require_production_packages(settings)
    if settings.features == "sentence":
        _require("MLOPS_FEATURES=sentence", missing_sentence_packages(), SENTENCE_REMEDY)


def _require(choice: str, missing: list[str], remedy: str) -> None:
    if missing:
        raise PlatformError(f"{choice} needs packages that are not installed ({', '.join(missing)}): run {remedy}.")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
