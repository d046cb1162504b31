"""The monitoring assets on a home that has a champion, with predictions on rows that it has not seen."""

from __future__ import annotations

import datetime as dt
from typing import Any

import dagster as dg

from mlops_platform.assets.decision import DECISION, build_decision_asset
from mlops_platform.assets.monitoring import REPORT, build_drift_asset
from mlops_platform.assets.promotion import build_deployment_asset
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.sensors.decisions import act_on_decision
from mlops_platform.settings import SAMPLE_DIR, Settings
from mlops_platform_tests.training_graph import MIN_F1, ROWS, Run, TrainingHome

TODAY = dt.datetime.now(dt.UTC).date()
FIRST = TODAY - dt.timedelta(days=200)
WINDOW = 20


class Monitored:
    """A home with a champion, and predictions on the sample's rows that it has not seen, spread over the window."""

    def __init__(self, home: TrainingHome, instance: dg.DagsterInstance) -> None:
        self.home, self.warehouse, self.instance = home, home.warehouse, instance
        self.warehouse.execute(
            "create table predictions as select cast(1000000 + p.id as varchar) as id, 'service' as source, "
            f"date '{TODAY}' - cast(row_number() over (order by hash(p.id)) % {WINDOW} as integer) as day, "
            "timestamp '2024-01-01' as predicted_at, title, description, tag, 0.5::double as probability, "
            "'{}' as probabilities, '1' as model_version "
            f"from read_csv('{SAMPLE_DIR / 'projects.csv'}') p join read_csv('{SAMPLE_DIR / 'tags.csv'}') t using (id) "
            f"order by p.id offset {ROWS}"
        )
        home.put_value("label_issues", {**label_quality(home), "suspects": []})
        self.use(self.warehouse)

    def use(self, warehouse: Warehouse) -> None:
        """Run on another warehouse from now on."""
        thresholds = Settings(home=self.home.home, min_new_labels=20).decision_thresholds
        upstream = [dg.AssetSpec(name) for name in ("validated_dataset", "label_issues", "model_evaluation")]
        self.defs = dg.Definitions(
            assets=[
                *upstream,
                build_drift_asset(FIRST, WINDOW, 50, 0.01),
                build_decision_asset(FIRST, thresholds),
                build_deployment_asset(MIN_F1),
            ],
            jobs=[dg.define_asset_job("watch", selection=[REPORT, DECISION]), act_on_decision],
            resources={**self.home.resources, "warehouse": warehouse},
        )

    def run(self, day: dt.date = TODAY) -> Run:
        job = self.defs.resolve_job_def("watch")
        return Run(job.execute_in_process(instance=self.instance, partition_key=day.isoformat(), raise_on_error=False))

    def decide(self, day: dt.date = TODAY) -> tuple[str, str]:
        """The decision of a day, and the rule that took it."""
        ran = self.run(day)
        assert ran.success, ran.failure
        told = ran.metadata(DECISION)
        return told["decision"], told["rule"]

    def found(self) -> set[str]:
        """What the last report has detected."""
        return {name for (name,) in self.warehouse.fetch_rows("select name from drift_report where detected = 1")}

    def feedback(self) -> None:
        """The true tag of every prediction."""
        self.warehouse.execute(
            "create table feedback as select id, day, tag, timestamp '2024-01-02' as at from predictions"
        )


def label_quality(home: TrainingHome) -> dict[str, Any]:
    """What `label_issues` says of the present snapshot if it doubts nothing."""
    version = home.value("validated_dataset")["version"]
    return {"dataset_version": version, "suspects": [], "judged": ROWS, "unjudged": [], "share": 0.0}
