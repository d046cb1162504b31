"""MLflow's scikit-learn flavor with one difference: the model's file, a zip archive, is compressed.

What is saved loads with `mlflow.sklearn.load_model` wherever MLflow is, this package or not.
"""

import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.models import Model


class DeflatedSklearn:
    """What `mlflow.models.Model.log` calls a flavor: something that can save a model into a folder."""

    @staticmethod
    def save_model(path: str, mlflow_model: "Model", **options: Any) -> None:
        """Save as `mlflow.sklearn.save_model` does, then compress what skops wrote: to a third of its size.

        Args:
            path: Folder that is made.
            mlflow_model: The description that goes with it.
            options: All else that `mlflow.sklearn.save_model` takes.
        """
        import mlflow.sklearn

        options.pop("validate_serving_input", None)  # `Model.log` passes on what it has read itself
        mlflow.sklearn.save_model(path=path, mlflow_model=mlflow_model, **options)
        for archive in Path(path).glob("*.skops"):
            mlflow_model.model_size_bytes -= deflate(archive)
        mlflow_model.save(Path(path) / "MLmodel")


def deflate(archive: Path) -> int:
    """Compress the members of a zip archive.

    Args:
        archive: The file, which is replaced.

    Returns:
        Bytes by which it became smaller.
    """
    before = archive.stat().st_size
    new = archive.with_suffix(".new")
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            # a ZipInfo would bring its own compression, which is none
            named = zipfile.ZipInfo(member.filename, member.date_time)
            named.compress_type = zipfile.ZIP_DEFLATED
            with source.open(member) as plain, target.open(named, "w") as packed:
                shutil.copyfileobj(plain, packed)
    new.replace(archive)
    return before - archive.stat().st_size
