"""Every setting of the platform in groups by area, and the only reader of the environment.

A setting is an environment variable with the prefix ``MLOPS_`` (``MLOPS_HOME`` sets ``home``); a ``.env`` file
in the current folder is read too. `Settings` joins the groups, so a `Settings` is passed wherever a function
asks for one group. Nothing here creates a folder, opens a connection or decides what the graph does.
"""

from __future__ import annotations

import difflib
import functools
import logging
import os
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, NoDecode, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parents[1]
SAMPLE_DIR = Path(__file__).resolve().parent / "sample"
DBT_PROJECT_DIR = PROJECT_ROOT / "dbt_transforms"
GX_ROOT_DIR = PROJECT_ROOT / "great_expectations"
PREFIX = "MLOPS_"

# variables that the platform passes to its own dbt profile, subprocesses and containers
_INTERNAL = {"MLOPS_BIGQUERY_TOKEN", "MLOPS_BIGQUERY_KEYFILE_JSON", "MLOPS_JOB_LABELS", "MLOPS_POSTGRES_PASSWORD"}

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Port = Annotated[int, Field(ge=1, le=65535)]
Balance = Literal["weights", "none", "oversample", "undersample"]
Augmentation = Literal["drop_words", "swap_words", "title_only", "description_only"]


def without_password(address: str) -> str:
    """Return an address without the user and the password that it may hold."""
    return re.sub(r"(?<=://)[^/]*@", "", address, count=1)


class PlatformSettings(BaseSettings):
    """What every area needs: the environment's kind, and the folder that holds all state."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    env: Literal["local", "production"] = Field("local", description="Which resources the graph runs on.")
    home: Path = Field(PROJECT_ROOT / "var", description="The folder that holds all state the platform writes.")

    @field_validator("home")
    @classmethod
    def _absolute_home(cls, path: Path) -> Path:
        return path.expanduser().resolve()

    @property
    def values_dir(self) -> Path:
        """Small asset values (params, metrics, decisions) as JSON."""
        return self.home / "values"

    @property
    def event_log_path(self) -> Path:
        """The event log: predictions, feedback and labels."""
        return self.home / "events.db"

    @property
    def dagster_home(self) -> Path:
        """The Dagster instance: runs, events, schedules."""
        return self.home / "dagster"


class IngestSettings(PlatformSettings):
    """Where the raw tables come from, and how many bad rows are tolerated."""

    projects_uri: str = Field(str(SAMPLE_DIR / "projects.csv"), description="Path or http(s) URL of the projects CSV.")
    tags_uri: str = Field(str(SAMPLE_DIR / "tags.csv"), description="Path or http(s) URL of the tags CSV.")
    loader: Literal["csv", "airbyte"] | None = Field(
        None, description="What loads projects and tags: by default csv, and airbyte in production."
    )
    fetch_timeout: Positive = Field(30.0, description="Seconds to wait for a source's HTTP server.")
    max_reject_share: Share = Field(0.01, description="Share of rejected CSV rows above which a run stops.")

    @property
    def source_loader(self) -> Literal["csv", "airbyte"]:
        """What loads the raw tables."""
        return self.loader or ("airbyte" if self.env == "production" else "csv")


class AirbyteSettings(PlatformSettings):
    """The Airbyte workspace and its two connections."""

    airbyte_url: str = Field("", description="Address of a self-managed Airbyte, such as http://airbyte:8000.")
    airbyte_cloud: bool = Field(False, description="Use Airbyte Cloud; then the address is not needed.")
    airbyte_workspace_id: str = Field("", description="Id of the Airbyte workspace.")
    airbyte_client_id: str = Field("", description="Client id of an Airbyte application.")
    airbyte_client_secret: SecretStr = Field(SecretStr(""), description="Its secret.")
    airbyte_projects_connection: str = Field("", description="Id of the connection that loads projects.")
    airbyte_tags_connection: str = Field("", description="Id of the connection that loads tags.")
    airbyte_poll_interval: Positive = Field(3.0, description="Seconds between two polls of a running sync.")
    airbyte_poll_timeout: Positive = Field(3600.0, description="Seconds after which a sync is given up.")


class WarehouseSettings(PlatformSettings):
    """The warehouse: a DuckDB file, or BigQuery in production."""

    schema_name: str = Field("mlops_course", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Schema of the tables.")
    lock_timeout: float = Field(60.0, ge=0, description="Seconds to wait for a process that holds the warehouse file.")
    duckdb_memory_mb: int = Field(1024, ge=64, description="MiB of DuckDB's memory; the rest goes to temporary files.")
    duckdb_compress: bool = Field(False, description="Compress tables: 0.4 of the disk, twice the time to write.")
    bigquery_project: str = Field("", description="Google Cloud project of the warehouse; its dataset is the schema.")
    bigquery_location: str = Field("US", description="Location of the dataset, and of every job.")
    bigquery_credentials: SecretStr | None = Field(
        None, description="Service-account key as base64; without it or a key file, Application Default Credentials."
    )
    bigquery_keyfile: Path | None = Field(None, description="Path of a service-account key file.")
    bigquery_endpoint: str | None = Field(None, description="Address of the BigQuery API, if it is not Google's.")
    bigquery_storage_endpoint: str | None = Field(None, description="host:port of a BigQuery Storage API without TLS.")
    bigquery_timeout: Positive = Field(300.0, description="Seconds that a BigQuery job may take.")
    bigquery_max_bytes: int = Field(10 * 1024**3, gt=0, description="Bytes that a query may bill; others are refused.")

    @property
    def warehouse_path(self) -> Path:
        """The DuckDB file."""
        return self.home / "warehouse.duckdb"


class DbtSettings(WarehouseSettings):
    """Who runs dbt: this process, or dbt Cloud."""

    dbt_runner: Literal["core", "cloud"] = Field("core", description="Who runs dbt: this process, or dbt Cloud.")
    dbt_cloud_url: str = Field("https://cloud.getdbt.com", description="Access URL of the dbt Cloud account.")
    dbt_cloud_account_id: int = Field(0, ge=0, description="dbt Cloud account.")
    dbt_cloud_project_id: int = Field(0, ge=0, description="dbt Cloud project.")
    dbt_cloud_environment_id: int = Field(0, ge=0, description="dbt Cloud environment.")
    dbt_cloud_token: SecretStr = Field(SecretStr(""), description="dbt Cloud API token.")
    dbt_cloud_timeout: Positive = Field(3600.0, description="Seconds after which a run in dbt Cloud is cancelled.")


class TrainingSettings(PlatformSettings):
    """What a model is trained on, how it is tuned, and when it is good enough."""

    num_trials: int = Field(20, ge=1, description="Default number of Optuna trials per dataset.")
    tuning_workers: int = Field(1, ge=1, le=64, description="Trials that run at once; with 1 a search is reproducible.")
    tuning_cpu_seconds: Positive = Field(600.0, description="CPU seconds of all trials after which the search stops.")
    # a tenth: on the 764 Made With ML rows, training on 529 gave 0.888 weighted F1, on 688 0.904
    test_share: Share = Field(0.1, gt=0.0, lt=1.0, description="Share of the ids that the test split takes.")
    stream_above_rows: int = Field(20_000, ge=100, description="Labeled rows above which a model trains in batches.")
    min_f1: Share = Field(0.7, description="Weighted F1 on the test split below which no model is promoted.")
    features: Literal["tfidf", "sentence"] = Field(
        "tfidf", description="Features of a text: TF-IDF, or also sentence vectors (pip install '.[sentence]')."
    )
    sentence_model: str | None = Field(
        None, description="Folder or Hugging Face name of a sentence-transformers model; default all-MiniLM-L6-v2."
    )
    balance: Balance = Field(
        "weights", description="How classes of different size are handled: weights, none, oversample or undersample."
    )
    balance_ratio: float = Field(1.0, gt=0.0, le=1.0, description="Target ratio of a small to a large class.")
    augment: Annotated[tuple[Augmentation, ...], NoDecode] = Field(
        (), description="Changed copies of training rows: any of drop_words, swap_words, title_only, description_only."
    )

    @field_validator("augment", mode="before")
    @classmethod
    def _comma_separated(cls, names: object) -> object:
        return re.findall(r"[^,\s]+", names) if isinstance(names, str) else names

    @property
    def datasets_dir(self) -> Path:
        """Content-addressed Parquet snapshots of the training data."""
        return self.home / "datasets"

    @property
    def encoders_dir(self) -> Path:
        """Sentence encoders, and the vectors that they computed."""
        return self.home / "encoders"

    @property
    def evaluation_sets_dir(self) -> Path:
        """The holdout sets, as JSON."""
        return self.home / "evaluation_sets"


class RegistrySettings(PlatformSettings):
    """MLflow's tracking server and model registry, and the ports of the user interfaces that `mlops ui` starts."""

    ui_port: Port = Field(3000, description="Port of the Dagster UI on 127.0.0.1.")
    mlflow_port: Port = Field(5000, description="Port of the MLflow UI on 127.0.0.1.")
    docs_port: Port = Field(3080, description="Port of the Data Docs on 127.0.0.1.")
    mlflow_uri: str | None = Field(None, description="Address of an MLflow server; by default a local store.")

    @property
    def data_docs_dir(self) -> Path:
        """Great Expectations' Data Docs."""
        return self.home / "data_docs"

    @property
    def data_docs_url(self) -> str:
        """The address at which `mlops ui` serves the Data Docs."""
        return f"http://127.0.0.1:{self.docs_port}"

    @property
    def mlflow_dir(self) -> Path:
        """The local MLflow store: its database and its artifacts."""
        return self.home / "mlflow"

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking and registry store."""
        return self.mlflow_uri or f"sqlite:///{self.mlflow_dir / 'mlflow.db'}"

    @property
    def mlflow_url(self) -> str:
        """Where people reach the MLflow UI: the server, or what `mlops ui` serves; without a password."""
        return without_password(self.mlflow_uri) if self.mlflow_uri else f"http://127.0.0.1:{self.mlflow_port}"


class MonitoringSettings(PlatformSettings):
    """Drift reports, and the thresholds of the retraining decision."""

    first_day: date = Field(date(2020, 1, 1), description="First daily partition (UTC) of predictions and monitoring.")
    drift_window_days: int = Field(28, ge=1, le=366, description="Days of predictions in a drift report.")
    drift_minimum_rows: int = Field(50, ge=10, description="Rows that a drift test needs on each side.")
    drift_alpha: float = Field(0.01, gt=0.0, le=0.2, description="Chance that a day without drift raises any alarm.")
    rollback_days: int = Field(14, ge=0, description="Days after a promotion in which a loss is attributed to it.")
    cooldown_days: int = Field(7, ge=0, description="Days in which the same problem is not acted upon again.")
    min_new_labels: int = Field(50, ge=1, description="Labels since the champion's training that are worth retraining.")
    max_age_days: int = Field(90, ge=1, description="Age of the champion at which new labels alone are a reason.")

    @property
    def decision_thresholds(self) -> dict[str, int]:
        """The thresholds of the rules of `retraining_decision`, by the names that the policy gives them."""
        return self.model_dump(include={"rollback_days", "cooldown_days", "min_new_labels", "max_age_days"})


class AutomationSettings(PlatformSettings):
    """When things run by themselves, and who hears of failures."""

    retrain_cron: str = Field("0 */6 * * *", description="Cron window (UTC) in which automation retrains at most once.")
    daily_cron: str = Field("0 6 * * *", description="Cron (UTC) of the daily end_to_end schedule.")
    monitoring_cron: str = Field("0 7 * * *", description="Cron (UTC) of the daily monitoring schedule.")
    freshness_hours: float = Field(36.0, gt=0.1, description="Hours after which a materialization is stale.")
    partition_sensor: Literal["run", "observe"] = Field(
        "run", description="What changed partitions of the raw tables do: start a run, or report new data versions."
    )
    run_retention_days: int = Field(
        90, ge=1, le=36500, description="Days after which a finished run is deleted, unless it holds current state."
    )
    alerts: SecretStr = Field(
        SecretStr(""),
        description="Where alerts go besides the log: space-separated apprise addresses, such as slack://... for "
        "all, or team:ml=mailto://... for one owner.",
    )
    alert_after: int = Field(1, ge=1, description="Failures in a row after which an alert is sent.")

    @field_validator("retrain_cron", "daily_cron", "monitoring_cron")
    @classmethod
    def _cron(cls, cron: str) -> str:
        import dagster as dg

        try:
            dg.TimeWindowPartitionsDefinition(start="2020-01-01", fmt="%Y-%m-%d", cron_schedule=cron)
        except dg.DagsterInvalidDefinitionError:
            raise ValueError("it is not a cron expression of five fields, such as `0 6 * * *`") from None
        return cron


class LabelingSettings(PlatformSettings):
    """The labeling queue and its page."""

    queue_size: int = Field(50, ge=1, le=10_000, description="Projects in the labeling queue.")
    label_port: Port = Field(8010, description="Port of the labeling page on 127.0.0.1.")
    max_suspect_share: Share = Field(0.1, description="Share of doubtful labels above which a check warns.")


class ServingSettings(RegistrySettings):
    """The prediction service."""

    serve_host: str = Field("127.0.0.1", description="Address that the prediction service listens on.")
    serve_port: Port = Field(8000, description="Port of the prediction service.")
    serve_workers: int = Field(1, ge=1, le=64, description="Processes that serve predictions.")
    serve_token: SecretStr | None = Field(None, description="Bearer token that clients of the service must send.")
    serve_max_texts: int = Field(256, ge=1, description="Texts, or labels, that a request may hold.")
    serve_max_chars: int = Field(20_000, ge=1, description="Characters of a text's title and description together.")
    serve_max_bytes: int = Field(4 * 1024**2, ge=1, description="Bytes that the body of a request may have.")
    serve_follow_seconds: Positive = Field(2.0, description="Seconds between polls of the registry for a new champion.")
    serve_log_seconds: Positive = Field(60.0, description="Seconds between uploads of the event log to BigQuery.")

    @property
    def model_copies_dir(self) -> Path:
        """The last champions, copied from an MLflow server for the service; each server has a folder."""
        return self.home / "serving" / "models" / re.sub(r"\W+", "-", self.mlflow_url)


class ExecutionSettings(PlatformSettings):
    """What runs the steps, and the database behind Dagster and Optuna."""

    executor: Literal["in_process", "multiprocess", "celery", "k8s"] = Field(
        "in_process", description="What runs the steps of a run."
    )
    celery_broker: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Address of the Redis between runs and Celery workers; by default redis://127.0.0.1:6379/0.",
    )
    celery_redelivery_seconds: int = Field(
        7200, ge=1, description="Seconds after which a dead worker's step goes to another; more than any step takes."
    )
    postgres_url: SecretStr | None = Field(
        None, description="postgresql://user:password@host:port/database for Dagster's storage and Optuna's studies."
    )

    @property
    def optuna_storage(self) -> str:
        """Optuna's persistent storage."""
        if self.postgres_url is None:
            return f"sqlite:///{self.home / 'optuna.db'}"
        return self.postgres_url.get_secret_value().replace("postgresql://", "postgresql+psycopg2://", 1)


class Settings(
    ExecutionSettings,
    ServingSettings,
    LabelingSettings,
    AutomationSettings,
    MonitoringSettings,
    TrainingSettings,
    DbtSettings,
    AirbyteSettings,
    IngestSettings,
):
    """All groups together; a variable with the prefix that none of them knows is logged as a warning."""

    @model_validator(mode="after")
    def _warn_of_unknown_variables(self) -> Self:
        known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
        dotenv = DotEnvSettingsSource(Settings).env_vars
        names = {name.upper() for name in (*os.environ, *dotenv) if name.upper().startswith(PREFIX)}
        for name in sorted(names - known - _INTERNAL):
            (nearest,) = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            _warn_once(f"No setting is named {name}: it has no effect. The nearest name is {nearest}.")
        return self


@functools.cache
def _warn_once(sentence: str) -> None:
    logging.getLogger(__name__).warning(sentence)
