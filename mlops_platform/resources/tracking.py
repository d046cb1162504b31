"""Experiment tracking and the model registry: MLflow, by URI.

What a training run is (its parameters, its fingerprint, when a new version is made, which version an alias
points to) is decided in ``assets``; here are the calls.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform.errors import ModelError
from mlops_platform.resources.deflated import DeflatedSklearn
from mlops_platform.resources.mlflow_store import locked, set_up_mlflow
from mlops_platform.resources.model_code import encoder_code
from mlops_platform.settings import without_password

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Experiment
    from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion
    from mlflow.tracking import MlflowClient
    from sklearn.pipeline import Pipeline

MODEL_NAME = "project-tagger"
CHAMPION = "champion"
CHALLENGER = "challenger"
FINGERPRINT_TAG = "fingerprint"
SERVER_SECONDS = 5.0
_ENCODER_PACKAGES = ("onnxruntime", "tokenizers")


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of the registered model, as much of it as the graph needs."""

    version: str
    run_id: str
    tags: Mapping[str, str]
    created_at: datetime

    @property
    def fingerprint(self) -> str:
        """What the version was made from: data, parameters, code."""
        return self.tags.get(FINGERPRINT_TAG, "")


class MlflowTracking(dg.ConfigurableResource):
    """An MLflow tracking and registry store.

    `store_dir` is where a local store keeps its database and artifacts, and is not touched where the store is a
    server; `ui_url` is where people reach the MLflow UI, for links.
    """

    tracking_uri: str
    store_dir: str
    ui_url: str

    @property
    def _is_server(self) -> bool:
        return self.tracking_uri.startswith(("http://", "https://"))

    def exists(self) -> bool:
        """Whether there is a store to ask; a local one begins with the first model, a server is always one."""
        return self._is_server or Path(self.tracking_uri.removeprefix("sqlite:///")).exists()

    def require_server(self) -> None:
        """See that the server answers; a local store has none.

        Raises:
            ModelError: It doesn't, after at most about 10 s.
        """
        if not self._is_server:
            return
        import requests

        try:
            # MLflow's own client would try for minutes; what is not reachable now is said now
            answer = requests.get(f"{self.tracking_uri.rstrip('/')}/health", timeout=SERVER_SECONDS)
            said = f"status {answer.status_code}" if not answer.ok else None
        except requests.RequestException as error:
            said = type(error).__name__
        if said:
            raise ModelError(
                f"The MLflow server {without_password(self.tracking_uri)} does not answer ({said}): start it, or set "
                "MLOPS_MLFLOW_URI to its address."
            )

    def _client(self) -> "MlflowClient":
        self.require_server()
        set_up_mlflow()
        import mlflow
        from sqlalchemy.exc import SQLAlchemyError

        for name in ("alembic", "mlflow.store", "mlflow.tracking", "mlflow.models", "mlflow.sklearn"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with self._lock():
            # the first use makes the database: two processes at once would both run its migrations
            mlflow.set_tracking_uri(self.tracking_uri)
            try:
                return mlflow.MlflowClient(self.tracking_uri)
            except SQLAlchemyError as error:
                raise ModelError(
                    f"The MLflow store {self.tracking_uri} cannot be opened ({str(error).splitlines()[0]}): "
                    "restore its database, or move it away to start with an empty one."
                ) from error

    @contextmanager
    def _lock(self) -> Iterator[None]:
        if self._is_server:
            # the server puts its clients in order
            yield
            return
        with locked(Path(self.store_dir)):
            yield

    def run_url(self, run_id: str) -> str:
        """The MLflow UI's page of a run."""
        experiment_id = self._client().get_run(run_id).info.experiment_id
        return f"{self.ui_url}/#/experiments/{experiment_id}/runs/{run_id}"

    def version_url(self, version: str) -> str:
        """The MLflow UI's page of a model version."""
        return f"{self.ui_url}/#/models/{MODEL_NAME}/versions/{version}"

    def experiment(self, name: str) -> str:
        """Find or make an experiment.

        Args:
            name: Name of the experiment.

        Returns:
            Its id.
        """
        client = self._client()
        with self._lock():
            found = client.get_experiment_by_name(name)
            if found is None and not self._is_server:
                artifacts = (Path(self.store_dir) / "artifacts").as_uri()
                return str(client.create_experiment(name, artifact_location=artifacts))
        if found is None:
            found = self._made_on_server(client, name)
        if found.lifecycle_stage != "active":
            raise ModelError(
                f"MLflow experiment {name} was deleted: restore it with `mlflow experiments restore "
                f"--experiment-id {found.experiment_id}`, or set another experiment_name."
            )
        return str(found.experiment_id)

    def _made_on_server(self, client: "MlflowClient", name: str) -> "Experiment":
        """Make an experiment, whose artifacts go where the server puts them; another process may be faster."""
        from mlflow.exceptions import MlflowException

        try:
            return client.get_experiment(client.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return client.get_experiment_by_name(name)

    def find(self, fingerprint: str) -> RegisteredVersion | None:
        """The version that was made from the same data, parameters and code, if there is one.

        Args:
            fingerprint: What to look for.

        Returns:
            The oldest such version that can be loaded and whose run is there, or None.
        """
        found = self._client().search_model_versions(
            f"name = '{MODEL_NAME}' and tags.`{FINGERPRINT_TAG}` = '{fingerprint}'"
        )
        for candidate in sorted(found, key=lambda each: int(each.version)):
            if candidate.status == "READY" and self._readable(candidate):
                return _plain(candidate)
        return None

    def _readable(self, version: "MlflowModelVersion") -> bool:
        from mlflow.exceptions import MlflowException

        try:
            # a deleted run takes no more figures
            if self._client().get_run(version.run_id).info.lifecycle_stage != "active":
                return False
            self.load(str(version.version))
        except (MlflowException, ModelError):
            # whatever the store answers, a version that can't be loaded is trained anew, not reused
            return False
        return True

    def close_unfinished(self, experiment_id: str, fingerprint: str, *, finished: str | None = None) -> int:
        """Mark runs of this fingerprint that a killed process left behind as killed.

        Args:
            experiment_id: Where to look.
            fingerprint: What the runs were making.
            finished: The run whose version is registered, if there is one: it had done its work.

        Returns:
            How many there were.
        """
        client = self._client()
        left = client.search_runs(
            [experiment_id],
            f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}' and attributes.status = 'RUNNING'",
        )
        for run in left:
            client.set_terminated(run.info.run_id, status="FINISHED" if run.info.run_id == finished else "KILLED")
        return len(left)

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
        """Log a fitted model with all that belongs to it, and register it as a new version.

        Args:
            model: A fitted pipeline.
            example: Rows as the model takes them; they give the signature too.
            experiment_id: Where the run goes.
            run_name: Name of the run.
            params: The model's parameters.
            metrics: Figures known at training.
            tags: Put on the run and on the version; must hold the fingerprint.
            artifacts: File name to content, stored with the run.
            trusted_types: Types that skops may load again.
            sentence_vectors: Whether the pipeline makes sentence vectors: the code that does goes with the model.

        Returns:
            The new version.
        """
        client = self._client()
        import mlflow
        from mlflow.models import Model, infer_signature

        with (
            encoder_code(sentence_vectors) as code,
            mlflow.start_run(experiment_id=experiment_id, run_name=run_name, tags=dict(tags)) as run,
        ):
            mlflow.log_params(dict(params))
            mlflow.log_metrics(dict(metrics))
            for name, content in artifacts.items():
                _log_bytes(client, run.info.run_id, name, content)
            # as mlflow.sklearn.log_model does, with our flavor in the place of MLflow's
            info = Model.log(
                None,
                DeflatedSklearn,
                name="model",
                sk_model=model,
                serialization_format="skops",
                # a class stands for what is predicted: a prediction before saving would fill caches, saved with it
                signature=infer_signature(example, model.classes_),
                input_example=example,
                # guessing the requirements takes 8 s and a second process
                pip_requirements=_requirements(sentence_vectors),
                code_paths=code,
                skops_trusted_types=trusted_types,
                # saving has loaded the file once, and the evaluation predicts with it: not a third time
                validate_serving_input=False,
            )
            with self._lock():
                made = mlflow.register_model(info.model_uri, MODEL_NAME, tags=dict(tags))
        return _plain(made)

    def log_evaluation(self, run_id: str, metrics: Mapping[str, float], artifacts: Mapping[str, bytes]) -> None:
        """Add figures and pictures to the run that made a model; a repetition overwrites them.

        Args:
            run_id: The run.
            metrics: Name to figure.
            artifacts: File name to content.
        """
        client = self._client()
        for name, value in metrics.items():
            client.log_metric(run_id, name, value, step=0)
        for name, content in artifacts.items():
            _log_bytes(client, run_id, name, content)

    def version(self, version: str) -> RegisteredVersion:
        """Look a version up.

        Raises:
            ModelError: There is no such version.
        """
        from mlflow.exceptions import MlflowException

        try:
            return _plain(self._client().get_model_version(MODEL_NAME, version))
        except MlflowException:
            raise ModelError(
                f"Version {version} of model {MODEL_NAME} is not in the registry: materialize trained_model."
            ) from None

    def by_alias(self, alias: str) -> RegisteredVersion | None:
        """The version an alias points to, or None."""
        client = self._client()
        from mlflow.exceptions import MlflowException

        try:
            return _plain(client.get_model_version_by_alias(MODEL_NAME, alias))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise ModelError(f"The model registry did not answer: {error.message}") from None

    def set_alias(self, alias: str, version: str, tags: Mapping[str, str]) -> None:
        """Point an alias at a version, and say why in the version's tags.

        The tags go first: an alias that has moved always has its reason.
        """
        client = self._client()
        for key, value in tags.items():
            client.set_model_version_tag(MODEL_NAME, version, key, value)
        client.set_registered_model_alias(MODEL_NAME, alias, version)

    def versions(self) -> list[RegisteredVersion]:
        """All versions of the model, oldest first."""
        found = self._client().search_model_versions(f"name = '{MODEL_NAME}'")
        return sorted(map(_plain, found), key=lambda each: int(each.version))

    def model_tags(self) -> dict[str, str]:
        """The tags of the registered model itself; none where nothing is registered yet."""
        client = self._client()
        from mlflow.exceptions import MlflowException

        try:
            return dict(client.get_registered_model(MODEL_NAME).tags)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise ModelError(f"The model registry did not answer: {error.message}") from None

    def set_model_tag(self, key: str, value: str | None) -> None:
        """Set a tag of the registered model; None removes it."""
        client = self._client()
        if value is None:
            client.delete_registered_model_tag(MODEL_NAME, key)
        else:
            client.set_registered_model_tag(MODEL_NAME, key, value)

    def metrics(self, run_id: str) -> dict[str, float]:
        """All figures of a run."""
        return dict(self._client().get_run(run_id).data.metrics)

    def params(self, run_id: str) -> dict[str, str]:
        """All parameters of a run, as the store keeps them: as text."""
        return dict(self._client().get_run(run_id).data.params)

    def load(self, version: str) -> "Pipeline":
        """Load a version's pipeline.

        Raises:
            ModelError: The files are missing or damaged.
        """
        self._client()
        import mlflow.sklearn

        path = sys.path
        try:
            return mlflow.sklearn.load_model(f"models:/{MODEL_NAME}/{version}")
        except ModuleNotFoundError as error:
            raise ModelError(f"Version {version} of model {MODEL_NAME} cannot be loaded: {error}") from error
        except Exception as error:
            raise ModelError(
                f"Version {version} of model {MODEL_NAME} cannot be loaded ({type(error).__name__}: "
                f"{(str(error).splitlines() or ['no message'])[0]}): materialize trained_model again."
            ) from error
        finally:
            # MLflow puts the code that came with a model in front, and leaves it there for every later import
            sys.path = path

    def download(self, version: str, folder: Path) -> None:
        """Copy a version's files, which `load_files` can load without the registry.

        Args:
            version: The version.
            folder: An empty folder for them.
        """
        self._client()
        import mlflow.artifacts

        mlflow.artifacts.download_artifacts(f"models:/{MODEL_NAME}/{version}", dst_path=str(folder))


def load_files(folder: Path) -> "Pipeline":
    """Load the pipeline whose files `MlflowTracking.download` has copied; no registry is asked.

    Args:
        folder: Has the files.
    """
    set_up_mlflow()
    import mlflow.sklearn

    return mlflow.sklearn.load_model(str(folder))


def _plain(version: "MlflowModelVersion") -> RegisteredVersion:
    created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return RegisteredVersion(str(version.version), str(version.run_id), dict(version.tags), created)


def _log_bytes(client: "MlflowClient", run_id: str, name: str, content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        client.log_artifact(run_id, str(path))


def _requirements(sentence_vectors: bool) -> list[str]:
    from importlib.metadata import version

    names = ("mlflow", "pandas", "scikit-learn", "skops", *(_ENCODER_PACKAGES if sentence_vectors else ()))
    return [f"{name}=={version(name)}" for name in names]
