"""Experiment tracking and the model registry: the calls to MLflow.

The connection belongs in ``local_store``, the format of the files in ``model_files``.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform.errors import ModelError
from mlops_platform.resources.registry.local_store import MlflowStore
from mlops_platform.resources.registry.model_files import load_model, log_model

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient
    from sklearn.pipeline import Pipeline

MODEL_NAME = "project-tagger"
CHAMPION = "champion"
CHALLENGER = "challenger"
FINGERPRINT_TAG = "fingerprint"


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of the registered model."""

    version: str
    run_id: str
    tags: Mapping[str, str]
    created_at: datetime

    @property
    def fingerprint(self) -> str:
        """Identity of the data, parameters and code that the version was trained with."""
        return self.tags.get(FINGERPRINT_TAG, "")


class MlflowTracking(dg.ConfigurableResource):
    """An MLflow tracking and registry store.

    Attributes:
        tracking_uri: `http(s)://...` of a server, or `sqlite:///...` of a local database.
        store_dir: The database and artifacts of a local store; unused with a server.
        ui_url: Address of the MLflow UI, for links.
    """

    tracking_uri: str
    store_dir: str
    ui_url: str

    @property
    def store(self) -> MlflowStore:
        """The connection."""
        return MlflowStore(self.tracking_uri, Path(self.store_dir))

    def exists(self) -> bool:
        """Return whether there is a store to query; a local one is created with the first model."""
        return self.store.exists()

    # Runs

    def run_url(self, run_id: str) -> str:
        """Return the MLflow UI's page of a run."""
        experiment_id = self._client().get_run(run_id).info.experiment_id
        return f"{self.ui_url}/#/experiments/{experiment_id}/runs/{run_id}"

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, which is created if missing; a deleted one is a `ModelError`."""
        client = self._client()
        from mlflow.exceptions import MlflowException

        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(client.create_experiment(name, artifact_location=self.store.artifacts_uri))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = client.get_experiment_by_name(name)  # another process was faster
        if experiment.lifecycle_stage != "active":
            raise ModelError(
                f"MLflow experiment {name} was deleted: restore it with `mlflow experiments restore "
                f"--experiment-id {experiment.experiment_id}`, or set another experiment_name."
            )
        return str(experiment.experiment_id)

    def close_unfinished(self, experiment_id: str, fingerprint: str, *, finished: str | None = None) -> None:
        """End the runs of a fingerprint that a killed process left running: `finished`, if given, as finished."""
        client = self._client()
        running = client.search_runs(
            [experiment_id], f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}' and attributes.status = 'RUNNING'"
        )
        for run in running:
            client.set_terminated(run.info.run_id, status="FINISHED" if run.info.run_id == finished else "KILLED")

    def log_evaluation(self, run_id: str, metrics: Mapping[str, float], artifacts: Mapping[str, bytes]) -> None:
        """Add metrics, and artifacts by file name, to a run; a repetition overwrites them."""
        self._client()
        import mlflow

        mlflow.log_metrics(dict(metrics), step=0, run_id=run_id)
        _log_artifacts(run_id, artifacts)

    def metrics(self, run_id: str) -> dict[str, float]:
        """Return the metrics of a run."""
        return dict(self._client().get_run(run_id).data.metrics)

    def params(self, run_id: str) -> dict[str, str]:
        """Return the parameters of a run, which MLflow stores as text."""
        return dict(self._client().get_run(run_id).data.params)

    # The registered model and its versions

    def version_url(self, version: str) -> str:
        """Return the MLflow UI's page of a model version."""
        return f"{self.ui_url}/#/models/{MODEL_NAME}/versions/{version}"

    def register(
        self,
        model: "Pipeline",
        example: "pd.DataFrame",
        *,
        experiment_id: str,
        run_name: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        artifacts: Mapping[str, bytes],
        trusted_types: list[str],
        sentence_vectors: bool = False,
    ) -> RegisteredVersion:
        """Log a fitted model in a new run, register it as a new version, and return the version.

        The run and the version get the tags, the fingerprint among them; artifacts are contents by file name. Rows of
        input are the example for the signature. With sentence vectors, the encoder's code is saved with the model.
        """
        self._client()
        import mlflow

        with mlflow.start_run(experiment_id=experiment_id, run_name=run_name, tags=dict(tags)) as run:
            mlflow.log_params(dict(params))
            mlflow.log_metrics(dict(metrics))
            _log_artifacts(run.info.run_id, artifacts)
            uri = log_model(model, example, trusted_types, sentence_vectors=sentence_vectors)
            with self.store.lock():
                return _registered(mlflow.register_model(uri, MODEL_NAME, tags=dict(tags)))

    def find(self, fingerprint: str) -> RegisteredVersion | None:
        """Return the oldest loadable version with a fingerprint whose run is not deleted, or None."""
        client = self._client()
        candidates = client.search_model_versions(
            f"name = '{MODEL_NAME}' and tags.`{FINGERPRINT_TAG}` = '{fingerprint}'"
        )
        from mlflow.exceptions import MlflowException

        for version in _oldest_first(version for version in candidates if version.status == "READY"):
            with suppress(MlflowException, ModelError):
                # a deleted run accepts no more metrics
                if client.get_run(version.run_id).info.lifecycle_stage == "active":
                    self.load(version.version)
                    return version
        return None

    def versions(self) -> list[RegisteredVersion]:
        """Return all versions of the model, oldest first."""
        return _oldest_first(self._client().search_model_versions(f"name = '{MODEL_NAME}'"))

    def version(self, version: str) -> RegisteredVersion:
        """Return a version; a missing one is a `ModelError`."""
        registered = _query(self._client().get_model_version, MODEL_NAME, version)
        if registered is None:
            raise ModelError(
                f"Version {version} of model {MODEL_NAME} is not in the registry: materialize trained_model."
            )
        return _registered(registered)

    def by_alias(self, alias: str) -> RegisteredVersion | None:
        """Return the version that an alias points to, or None."""
        version = _query(self._client().get_model_version_by_alias, MODEL_NAME, alias)
        return None if version is None else _registered(version)

    def set_alias(self, alias: str, version: str, tags: Mapping[str, str]) -> None:
        """Point an alias at a version, whose tags are set first: an alias that was moved always has its reason."""
        client = self._client()
        for key, value in tags.items():
            client.set_model_version_tag(MODEL_NAME, version, key, value)
        client.set_registered_model_alias(MODEL_NAME, alias, version)

    def records(self, prefix: str) -> list[dict[str, Any]]:
        """Return the JSON records in the registered model's tags with a prefix, by key; none before version 1."""
        model = _query(self._client().get_registered_model, MODEL_NAME)
        tags = {} if model is None else model.tags
        return [json.loads(tags[key]) for key in sorted(tags) if key.startswith(prefix)]

    def set_record(self, key: str, record: Mapping[str, Any]) -> None:
        """Store a JSON record in a tag of the registered model."""
        self._client().set_registered_model_tag(MODEL_NAME, key, json.dumps(record, ensure_ascii=False))

    def load(self, version: str) -> "Pipeline":
        """Load the pipeline of a version; missing or damaged files are a `ModelError`."""
        self._client()
        try:
            return load_model(f"models:/{MODEL_NAME}/{version}")
        except ModuleNotFoundError as error:
            raise ModelError(f"Version {version} of model {MODEL_NAME} cannot be loaded: {error}") from error
        except Exception as error:
            raise ModelError(
                f"Version {version} of model {MODEL_NAME} cannot be loaded ({type(error).__name__}: "
                f"{(str(error).splitlines() or ['no message'])[0]}): materialize trained_model again."
            ) from error

    def download(self, version: str, folder: Path) -> None:
        """Copy the files of a version into an empty folder, which `load_model` loads without the registry."""
        self._client()
        import mlflow.artifacts

        mlflow.artifacts.download_artifacts(f"models:/{MODEL_NAME}/{version}", dst_path=str(folder))

    def _client(self) -> "MlflowClient":
        return self.store.client()


def _query(call: Callable[..., Any], *arguments: str) -> Any:
    """Call the registry; return None where it has no such model, version or alias."""
    from mlflow.exceptions import MlflowException

    try:
        return call(*arguments)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise ModelError(f"The model registry did not answer: {error.message}") from None


def _oldest_first(versions: "Iterable[ModelVersion]") -> list[RegisteredVersion]:
    return sorted(map(_registered, versions), key=lambda version: int(version.version))


def _registered(version: "ModelVersion") -> RegisteredVersion:
    created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return RegisteredVersion(str(version.version), str(version.run_id), dict(version.tags), created)


def _log_artifacts(run_id: str, artifacts: Mapping[str, bytes]) -> None:
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        for name, content in artifacts.items():
            (Path(folder) / name).write_bytes(content)
        mlflow.log_artifacts(folder, run_id=run_id)
