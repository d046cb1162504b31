"""The steps of the lesson's two DAGs as plain functions: they call what the assets call, without an orchestrator.

`plain` calls them in sequence; `airflow/dags/lesson.py` makes a task of each. A step takes the settings and reads what
earlier steps wrote to the home: tables, files, versions of the model, and small values as JSON in `home/steps`. They
omit what Dagster adds: events, data versions, metadata, policies.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from mlops_platform.resources.factory import build_resources, dbt_project
from mlops_platform.settings import Settings


def extract_and_load_projects(settings: Settings) -> None:
    """Load the projects' CSV file into the warehouse."""
    _extract_and_load(settings, "projects", settings.projects_uri)


def extract_and_load_tags(settings: Settings) -> None:
    """Load the tags' CSV file into the warehouse."""
    _extract_and_load(settings, "tags", settings.tags_uri)


def validate_projects(settings: Settings) -> None:
    """Validate the table of projects by its suite."""
    _validate(settings, "projects")


def validate_tags(settings: Settings) -> None:
    """Validate the table of tags by its suite."""
    _validate(settings, "tags")


def transform(settings: Settings) -> None:
    """Run dbt's models and tests."""
    from mlops_platform.resources.dbt.runner import DbtRunner

    project = dbt_project(settings)
    nodes = [node for node in project.manifest["nodes"].values() if node["resource_type"] in ("model", "test")]
    with build_resources(settings)["warehouse"].connect():
        build = DbtRunner(options=project.options).build([".".join(node["fqn"]) for node in nodes])
    assert all(node.status in ("success", "pass") for node in build.nodes), build.log


def validate_transforms(settings: Settings) -> None:
    """Validate the table of labeled projects by its suite."""
    _validate(settings, "labeled_projects")


def extract_data(settings: Settings) -> None:
    """Write the labeled projects as a snapshot that is named by its content."""
    from mlops_platform.assets.dataset import dataset_version
    from mlops_platform.resources.warehouse.split_sql import split_sql

    resources = build_resources(settings)
    warehouse, datasets = resources["warehouse"], resources["datasets"]
    version = dataset_version(warehouse.content_version("labeled_projects"), settings.test_share)
    cut = split_sql("id", settings.test_share)
    warehouse.export_parquet(
        f"select id, created_on, title, description, tag, {cut} as split from labeled_projects order by id",  # noqa: S608
        datasets.path(version),
    )
    _write_value(settings, "dataset", version)


def validate(settings: Settings) -> None:
    """Validate the snapshot, and that its two splits have the same tags."""
    from mlops_platform.ml.training_data import splits
    from mlops_platform.resources.warehouse.duckdb_validation import DuckDBSource

    resources, version = build_resources(settings), _read_value(settings, "dataset")
    with resources["datasets"].view(version, "labeled_projects", "main") as connection:
        result = resources["expectations"].validate_table(
            "labeled_projects", DuckDBSource(connection, "main"), "labeled_projects"
        )
        assert result.success
    train, test = (resources["datasets"].counts(version, split) for split in ("train", "test"))
    counts = {tag: (train.get(tag, 0), test.get(tag, 0)) for tag in {*train, *test}}
    assert splits.stratification_of(counts).p_value > 0


def optimize(settings: Settings) -> None:
    """Search the parameters."""
    from mlops_platform.ml.classifier import text_classifier
    from mlops_platform.ml.evaluation import plots
    from mlops_platform.ml.tuning import search

    resources, version = build_resources(settings), _read_value(settings, "dataset")
    train = resources["datasets"].load(version, "train")
    frame = text_classifier.frame(train["title"], train["description"])
    tuned = search.tune(
        resources["studies"].open("optimization"),
        frame[text_classifier.TEXT].tolist(),
        train["tag"].tolist(),
        num_trials=settings.num_trials,
        seed=0,
        data_version=version,
    )
    _write_value(settings, "tuned", {"params": tuned.params.to_dict(), "score": tuned.score})
    (settings.home / "steps" / "history.png").write_bytes(plots.tuning_history_png(tuned.trials))


def train_model(settings: Settings) -> None:
    """Fit and register the model."""
    from mlops_platform.assets.training import code_version, fingerprint
    from mlops_platform.ml.classifier import text_classifier
    from mlops_platform.resources.registry.model_registry import CHALLENGER, FINGERPRINT_TAG

    resources, version, tuned = (
        build_resources(settings),
        _read_value(settings, "dataset"),
        _read_value(settings, "tuned"),
    )
    tracking = resources["tracking"]
    train = resources["datasets"].load(version, "train")
    frame, params = (
        text_classifier.frame(train["title"], train["description"]),
        text_classifier.Params(**tuned["params"]),
    )
    model = text_classifier.fit(frame, train["tag"].tolist(), params, seed=0)
    registered = tracking.register(
        model,
        frame.head(3),
        experiment_id=tracking.experiment("baselines"),
        run_name="sgd",
        params=tuned["params"],
        metrics={"cv_f1_weighted": tuned["score"]},
        tags={
            FINGERPRINT_TAG: fingerprint(version, tuned["params"], code_version(), 0),
            "dagster_run_id": str(uuid.uuid4()),
            "data_version": version,
            "code_version": code_version(),
        },
        artifacts={},
        trusted_types=list(text_classifier.TRUSTED_TYPES),
    )
    tracking.set_alias(CHALLENGER, registered.version, {})
    _write_value(settings, "registered", {"version": registered.version, "run_id": registered.run_id})


def evaluate(settings: Settings) -> None:
    """Evaluate the model on the test split, and keep figures and pictures with its run."""
    from mlops_platform.ml.classifier import text_classifier
    from mlops_platform.ml.evaluation import metrics, plots

    resources, version, registered = (
        build_resources(settings),
        _read_value(settings, "dataset"),
        _read_value(settings, "registered"),
    )
    with resources["datasets"].view(version, "snapshot", "main") as connection:
        months = connection.execute(
            "select date_trunc('month', created_on)::date, tag, count(*) from snapshot group by all order by all"
        ).fetchall()
    test = resources["datasets"].load(version, "test")
    frame, truth = text_classifier.frame(test["title"], test["description"]), test["tag"].tolist()
    candidate = resources["tracking"].load(registered["version"])
    evaluation = metrics.evaluate(
        truth, candidate.predict_proba(frame), list(candidate.classes_), frame[text_classifier.TEXT].tolist()
    )
    pictures = {
        "confusion_matrix.png": plots.confusion_matrix_png(evaluation),
        "per_class.png": plots.per_class_bars_png(evaluation),
        "calibration.png": plots.calibration_png(evaluation),
        "history.png": (settings.home / "steps" / "history.png").read_bytes(),
        "balance.png": plots.class_balance_png(months),
    }
    figures = {f"test_{name}": value for name, value in evaluation.overall.items()}
    resources["tracking"].log_evaluation(registered["run_id"], figures, pictures)
    majority = max(sorted(set(truth)), key=truth.count)
    weighted = {
        "f1": evaluation.overall["f1_weighted"],
        "majority_f1": metrics.weighted_f1(truth, [majority] * len(truth)),
    }
    _write_value(settings, "evaluation", weighted)


def deploy(settings: Settings) -> None:
    """Make the model the champion if it passes the gates."""
    from mlops_platform.ml.evaluation import promotion_gates
    from mlops_platform.resources.registry.model_registry import CHAMPION

    version = _read_value(settings, "registered")["version"]
    decision = promotion_gates.decide(
        candidate=version,
        champion=None,
        min_f1=settings.min_f1,
        comparison=None,
        **_read_value(settings, "evaluation"),
    )
    assert decision.action == "promote", decision.reason
    build_resources(settings)["tracking"].set_alias(CHAMPION, version, {"promoted_because": decision.reason})
    print(decision.reason)


DATAOPS = (
    extract_and_load_projects,
    extract_and_load_tags,
    validate_projects,
    validate_tags,
    transform,
    validate_transforms,
)
MLOPS = (extract_data, validate, optimize, train_model, evaluate, deploy)


def _extract_and_load(settings: Settings, table: str, uri: str) -> None:
    from mlops_platform.assets.ingest import TABLES
    from mlops_platform.resources.csv_ingest.source_file import fetched

    columns = {name: column.kind for name, column in TABLES[table].items()}
    with fetched(uri, settings.fetch_timeout) as source:
        build_resources(settings)["warehouse"].load_csv(table, source.path, columns, source.name)


def _validate(settings: Settings, table: str) -> None:
    resources = build_resources(settings)
    with resources["warehouse"].validation_source() as source:
        result = resources["expectations"].validate_table(table, source, table)
    assert result.success, table


def _write_value(settings: Settings, name: str, value: Any) -> None:
    path = settings.home / "steps" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _read_value(settings: Settings, name: str) -> Any:
    return json.loads((settings.home / "steps" / f"{name}.json").read_text(encoding="utf-8"))
