"""The packages that a choice needs beside the laptop's: which of them are not installed, and the sentence for it."""

from __future__ import annotations

from importlib.util import find_spec

from mlops_platform.errors import PlatformError
from mlops_platform.settings import Settings

REMEDY = "pip install '.[production]'"
SENTENCE_REMEDY = "pip install '.[sentence]'"
# package to the module that it brings
_PRODUCTION = {
    "dagster-airbyte": "dagster_airbyte",
    "dagster-gcp": "dagster_gcp",
    "dagster-postgres": "dagster_postgres",
    "dbt-bigquery": "dbt.adapters.bigquery",
    "sqlalchemy-bigquery": "sqlalchemy_bigquery",
}
# the model is a package too, but may come from elsewhere
_SENTENCE = {
    "onnxruntime": "onnxruntime",
    "optimum-onnx": "optimum.onnxruntime",
    "sentence-transformers": "sentence_transformers",
    "tokenizers": "tokenizers",
}


def missing_packages() -> list[str]:
    """The packages of production that are not installed; imports none of them."""
    return [package for package, module in _PRODUCTION.items() if not _is_there(module)]


def missing_sentence_packages() -> list[str]:
    """The packages that training with sentence vectors needs and that are not installed; imports none of them."""
    return [package for package, module in _SENTENCE.items() if not _is_there(module)]


def require_packages(settings: Settings, *, trains: bool = True) -> None:
    """See that what was chosen has its packages; the defaults on a laptop need none of them.

    Args:
        settings: Whether it is production, and which features the model has.
        trains: Whether a model may be trained: one that was trained needs fewer packages, and says so itself.

    Raises:
        PlatformError: One is missing.
    """
    for chosen, choice, missing, remedy in (
        (settings.env == "production", "MLOPS_ENV=production", missing_packages, REMEDY),
        (
            trains and settings.features == "sentence",
            "MLOPS_FEATURES=sentence",
            missing_sentence_packages,
            SENTENCE_REMEDY,
        ),
    ):
        if chosen and (packages := missing()):
            raise PlatformError(
                f"{choice} needs packages that are not installed ({', '.join(packages)}): run {remedy}."
            )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a parent of it is missing
        return False
