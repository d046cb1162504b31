"""Saving and loading models with MLflow's scikit-learn flavor, in the format of skops.

The registry, which names the saved models, belongs in ``model_registry``.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.resources.registry.bundled_code import encoder_code
from mlops_platform.resources.registry.local_store import configure_mlflow

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

_PACKAGES = ("mlflow", "pandas", "scikit-learn", "skops")
_ENCODER_PACKAGES = ("onnxruntime", "tokenizers")


def log_model(model: Pipeline, example: pd.DataFrame, trusted_types: list[str], *, sentence_vectors: bool) -> str:
    """Save a fitted pipeline as the model of the active MLflow run, and return its URI."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    packages = (*_PACKAGES, *(_ENCODER_PACKAGES if sentence_vectors else ()))
    with encoder_code(sentence_vectors) as code:
        info = mlflow.sklearn.log_model(
            model,
            name="model",
            serialization_format="skops",
            skops_trusted_types=trusted_types,
            # the classes instead of a prediction, which would fill caches that are saved with the model
            signature=infer_signature(example, model.classes_),
            # without them MLflow infers the requirements in a subprocess, which takes 8 s
            pip_requirements=[f"{package}=={version(package)}" for package in packages],
            code_paths=code,
        )
    return str(info.model_uri)


def load_model(location: str | Path) -> Pipeline:
    """Load a saved pipeline.

    Args:
        location: An MLflow URI, or the folder with the model's files, which needs no store.
    """
    configure_mlflow()
    import mlflow.sklearn

    path = sys.path
    try:
        return mlflow.sklearn.load_model(str(location))
    finally:
        # MLflow prepends the code that was saved with a model, which would shadow later imports
        sys.path = path
