"""Saving and loading models with MLflow's scikit-learn flavor, in the format of skops.

The registry, which names the saved models, belongs in ``model_registry``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.resources.registry.local_store import configure_mlflow

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

_PACKAGES = ("mlflow", "pandas", "scikit-learn", "skops")
_ENCODER_PACKAGES = ("onnxruntime", "tokenizers")
_ENCODER_MODULE = Path("ml", "embeddings", "encoder.py")
# where this package is installed as well, its other modules stay importable
_SHARED_PACKAGE = "from pkgutil import extend_path\n\n__path__ = extend_path(__path__, __name__)\n"


def log_model(model: Pipeline, example: pd.DataFrame, trusted_types: list[str], *, sentence_vectors: bool) -> str:
    """Save a fitted pipeline as the model of the active MLflow run, and return its URI."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    packages = (*_PACKAGES, *(_ENCODER_PACKAGES if sentence_vectors else ()))
    with _encoder_code(sentence_vectors) as code:
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
    """Load a pipeline from an MLflow URI, or from the folder with its files, which needs no store."""
    configure_mlflow()
    import mlflow.sklearn

    path = sys.path
    try:
        return mlflow.sklearn.load_model(str(location))
    finally:
        # MLflow prepends the code that was saved with a model, which would shadow later imports
        sys.path = path


@contextmanager
def _encoder_code(sentence_vectors: bool) -> Iterator[list[str] | None]:
    """Yield MLflow's `code_paths`, with which a model loads where this package is not installed."""
    if not sentence_vectors:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="mlops-code-") as folder:
        package = Path(folder) / "mlops_platform"
        module = package / _ENCODER_MODULE
        module.parent.mkdir(parents=True)
        for subpackage in (package, package / "ml", module.parent):
            (subpackage / "__init__.py").write_text(_SHARED_PACKAGE, encoding="utf-8")
        module.write_bytes((Path(__file__).parents[2] / _ENCODER_MODULE).read_bytes())
        yield [str(package)]
