"""The graph without a graph: a script that calls the same functions, in the same order, in one process.

What it leaves out is what Dagster adds: events, data versions, metadata, policies. It is what `end_to_end`
is measured against.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

from mlops_platform.assets.dataset import dataset_version
from mlops_platform.assets.ingest import TABLES
from mlops_platform.assets.training import code_version, fingerprint
from mlops_platform.ml import gates, metrics, plots, splits, tuning
from mlops_platform.ml import model as models
from mlops_platform.resources.assembly import build_resources, dbt_project
from mlops_platform.resources.dbt import DbtRunner
from mlops_platform.resources.sources import fetched
from mlops_platform.resources.tracking import CHALLENGER, CHAMPION, FINGERPRINT_TAG
from mlops_platform.resources.validation_sources import DuckDBSource
from mlops_platform.settings import Settings


def main(settings: Settings) -> None:
    """Run everything between the two CSV files and a promoted model."""
    resources = build_resources(settings)
    warehouse, engine = resources["warehouse"], resources["expectations"]
    datasets, tracking = resources["datasets"], resources["tracking"]

    for table, uri in (("projects", settings.projects_uri), ("tags", settings.tags_uri)):
        with fetched(uri, settings.fetch_timeout) as source:
            columns = {name: column.kind for name, column in TABLES[table].items()}
            warehouse.load_csv(table, source.path, columns, source.name)
    for table in ("projects", "tags"):
        _validate(engine, warehouse, table)

    project = dbt_project(settings)
    nodes = [node for node in project.manifest["nodes"].values() if node["resource_type"] in ("model", "test")]
    with warehouse.connect():
        build = DbtRunner.of(project).build([".".join(node["fqn"]) for node in nodes])
    assert all(node.status in ("success", "pass") for node in build.nodes), build.log
    _validate(engine, warehouse, "labeled_projects")

    version = dataset_version(warehouse.content_version("labeled_projects"), settings.test_share)
    cut = splits.split_sql("id", settings.test_share)
    warehouse.export_parquet(
        f"select id, created_on, title, description, tag, {cut} as split from labeled_projects order by id",  # noqa: S608
        datasets.path(version),
    )
    with datasets.view(version, "labeled_projects", "main") as connection:
        result = engine.validate_table("labeled_projects", DuckDBSource(connection, "main"), "labeled_projects")
        assert result.success

    with datasets.view(version, "snapshot", "main") as connection:
        months = connection.execute(
            "select date_trunc('month', created_on)::date, tag, count(*) from snapshot group by all order by all"
        ).fetchall()
    train, test = datasets.load(version, "train"), datasets.load(version, "test")
    tags, cuts = ([*train[name], *test[name]] for name in ("tag", "split"))
    assert splits.stratification(tags, cuts).p_value > 0
    frame, labels = models.frame(train["title"], train["description"]), train["tag"].tolist()
    tuned = tuning.tune(
        resources["studies"].open("optimization"),
        frame[models.TEXT].tolist(),
        labels,
        num_trials=settings.num_trials,
        seed=0,
        data_version=version,
    )
    model = models.fit(frame, labels, tuned.params, seed=0)
    identity = {
        FINGERPRINT_TAG: fingerprint(version, tuned.params.to_dict(), code_version(), 0),
        "dagster_run_id": str(uuid.uuid4()),
        "data_version": version,
        "code_version": code_version(),
    }
    registered = tracking.register(
        model,
        frame.head(3),
        experiment_id=tracking.experiment("baselines"),
        run_name="sgd",
        params=tuned.params.to_dict(),
        metrics={"cv_f1_weighted": tuned.score},
        tags=identity,
        artifacts={},
        trusted_types=list(models.TRUSTED_TYPES),
    )
    tracking.set_alias(CHALLENGER, registered.version, {})

    judged, truth = models.frame(test["title"], test["description"]), test["tag"].tolist()
    candidate = tracking.load(registered.version)
    evaluation = metrics.evaluate(
        truth, candidate.predict_proba(judged), list(candidate.classes_), judged[models.TEXT].tolist()
    )
    pictures = {
        "confusion_matrix.png": plots.confusion_matrix_png(evaluation),
        "per_class.png": plots.per_class_bars_png(evaluation),
        "calibration.png": plots.calibration_png(evaluation),
        "history.png": plots.tuning_history_png(tuned.trials),
        "balance.png": plots.class_balance_png(months),
    }
    tracking.log_evaluation(registered.run_id, {f"test_{k}": v for k, v in evaluation.overall.items()}, pictures)
    majority = max(sorted(set(truth)), key=truth.count)
    decision = gates.decide(
        candidate=registered.version,
        champion=None,
        f1=evaluation.overall["f1_weighted"],
        majority_f1=metrics.weighted_f1(truth, [majority] * len(truth)),
        min_f1=settings.min_f1,
        comparison=None,
    )
    assert decision.action == "promote", decision.reason
    tracking.set_alias(CHAMPION, registered.version, {"promoted_because": decision.reason})
    print(decision.reason)


def _validate(engine: object, warehouse: object, table: str) -> None:
    with warehouse.validation_source() as source:  # type: ignore[attr-defined]
        result = engine.validate_table(table, source, table)  # type: ignore[attr-defined]
    assert result.success, table


if __name__ == "__main__":
    main(Settings(home=Path(sys.argv[1])))
