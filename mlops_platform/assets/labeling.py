"""The assets `label_issues` (labels that are likely wrong) and `labeling_queue` (the projects most worth labeling).

How rows are chosen is in ``ml.labeling``; where people label them is ``labeling``.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform.assets.dataset import SAMPLE_ROWS, STREAMED
from mlops_platform.assets.declarations import LABELING, json_digest
from mlops_platform.assets.ingest import markdown_table
from mlops_platform.assets.preconditions import require_champion, require_tables
from mlops_platform.assets.sentence_encoder import tuned_encoder, with_vector_cache
from mlops_platform.errors import platform_errors_as_failures
from mlops_platform.resources.datasets.dataset_store import DatasetStore
from mlops_platform.resources.encoders.encoder_store import EncoderStore
from mlops_platform.resources.labels import label_log
from mlops_platform.resources.registry.model_registry import MlflowTracking
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.resources.warehouse.parquet_writer import load_rows
from mlops_platform.sql import SQL, identifiers, sql

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

ISSUES, QUEUE = "label_issues", "labeling_queue"
_NEIGHBORS = 3
_SHOWN = 10
_CHARS = 80
_SAMPLE_ROWS = 20_000  # rows of a table from which the queue and the neighbors are chosen

_TEXT_COLUMNS = {"rank": "BIGINT", "id": "BIGINT", "title": "VARCHAR", "description": "VARCHAR"}
_ISSUE_COLUMNS = {
    **_TEXT_COLUMNS,
    "given": "VARCHAR",
    "suggested": "VARCHAR",
    "score": "DOUBLE",
    "probability": "DOUBLE",
    "neighbours": "VARCHAR",
}
_QUEUE_COLUMNS = {
    **_TEXT_COLUMNS,
    "reason": "VARCHAR",
    "score": "DOUBLE",
    "guess": "VARCHAR",
    "probability": "DOUBLE",
    "neighbours": "VARCHAR",
}


@dg.asset(
    **LABELING,
    name=ISSUES,
    description=(
        "Labels that are likely wrong, by confident learning (cleanlab) on out-of-fold probabilities: the most "
        "doubtful first, each with a suggested tag and the most similar labeled projects."
    ),
)
def label_issues(
    validated_dataset: dict[str, Any],
    tuned_params: dict[str, Any],
    datasets: DatasetStore,
    warehouse: Warehouse,
    encoders: EncoderStore,
) -> dg.MaterializeResult[dict[str, Any]]:
    """Evaluate each label of the snapshot with models that were not fitted on it."""
    import pandas as pd

    from mlops_platform.ml.classifier import text_classifier
    from mlops_platform.ml.labeling.label_quality import find_suspects
    from mlops_platform.ml.labeling.nearest_neighbors import LabeledTexts, nearest_labeled

    with platform_errors_as_failures(ValueError):
        version = validated_dataset["version"]
        if sampled := bool(validated_dataset.get(STREAMED)):
            parts = [datasets.sample(version, split, SAMPLE_ROWS) for split in ("train", "test")]
        else:
            parts = [datasets.load(version, split) for split in ("train", "test")]
        rows = pd.concat(parts, ignore_index=True)
        texts = text_classifier.frame(rows["title"], rows["description"])[text_classifier.TEXT].tolist()
        params = text_classifier.Params(**tuned_params["params"])
        encoder = tuned_encoder(encoders, tuned_params)
        quality = find_suspects(rows["id"].tolist(), texts, rows["tag"].tolist(), params, encoder=encoder)
        row_of = {int(key): row for row, key in enumerate(rows["id"])}
        known = LabeledTexts(rows["id"].tolist(), rows["title"].fillna("").tolist(), texts, rows["tag"].tolist())
        # one more than shown: the nearest neighbor of a row is the row itself
        suspect_texts = [texts[row_of[suspect.id]] for suspect in quality.suspects]
        neighbors = nearest_labeled(suspect_texts, known, _NEIGHBORS + 1)
        issues = []
        for rank, (suspect, nearest) in enumerate(zip(quality.suspects, neighbors, strict=True), start=1):
            row = rows.iloc[row_of[suspect.id]]
            others = [vars(neighbor) for neighbor in nearest if neighbor.id != suspect.id][:_NEIGHBORS]
            issues.append(
                {
                    **vars(suspect),
                    "rank": rank,
                    "title": _text(row["title"]),
                    "description": _text(row["description"]),
                    "neighbours": json.dumps(others, ensure_ascii=False),
                }
            )
        load_rows(warehouse, ISSUES, _ISSUE_COLUMNS, issues)
    value = {"dataset_version": version, **quality.to_dict()}
    return dg.MaterializeResult(
        value=value,
        data_version=dg.DataVersion(f"{version}-{json_digest(_evaluated_by(tuned_params), 12)}"),
        metadata={
            "suspects": len(quality.suspects),
            "judged": quality.judged,
            "share": round(quality.share, 4),
            "not_judged": len(quality.unjudged),
            **({"sample": f"{len(rows)} of {validated_dataset['rows']} rows, by a hash of the id"} if sampled else {}),
            "preview": _preview(issues, ("rank", "id", "title", "given", "suggested", "score")),
        },
    )


def build_queue_asset(size: int, event_log_path: Path | None = None) -> dg.AssetsDefinition:
    """Build the asset `labeling_queue`.

    Args:
        size: Number of projects in the queue.
        event_log_path: The log of people's labels; a project that has one is not queued again.
    """

    @dg.asset(
        **LABELING,
        name=QUEUE,
        deps=["unlabeled_projects", "labeled_projects", "champion_model"],
        description=(
            "The projects most worth labeling, in the order in which to label them: those that the champion is least "
            "sure of, those that differ most from one another, a random sample, and doubtful labels to check."
        ),
    )
    def labeling_queue(
        label_issues: dict[str, Any], warehouse: Warehouse, tracking: MlflowTracking, encoders: EncoderStore
    ) -> dg.MaterializeResult[None]:
        from mlops_platform.ml.labeling.label_quality import Suspect
        from mlops_platform.ml.labeling.query_strategy import Labeled, choose

        with platform_errors_as_failures(ValueError):
            champion = require_champion(tracking)
            labels = label_log.read(event_log_path).labels if event_log_path else ()
            labeled_by_people = {project for project, _ in label_log.standing(labels)}
            with warehouse.connect():
                unlabeled = _texts(warehouse, "unlabeled_projects", ["id", "title", "description"])
                # suspects are read whether or not they are in the sample
                suspect_ids = [int(suspect["id"]) for suspect in label_issues["suspects"]]
                labeled = _texts(warehouse, "labeled_projects", ["id", "title", "description", "tag"], suspect_ids)
            tags = dict(zip(labeled["id"], labeled["tag"], strict=True))
            # a label that has changed since is no longer suspect
            suspects = [Suspect(**row) for row in label_issues["suspects"] if tags.get(row["id"]) == row["given"]]
            chosen = choose(
                _with_probabilities(with_vector_cache(encoders, tracking.load(champion.version)), unlabeled),
                Labeled(*(labeled[name].tolist() for name in ("id", "title", "description", "tag"))),
                size=size,
                suspects=suspects,
                excluded=labeled_by_people,
            )
            rows = [
                {
                    **vars(choice),
                    "neighbours": json.dumps([vars(neighbor) for neighbor in choice.neighbours], ensure_ascii=False),
                }
                for choice in chosen
            ]
            load_rows(warehouse, QUEUE, _QUEUE_COLUMNS, rows)
        reasons = [row["reason"] for row in rows]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(warehouse.content_version(QUEUE)),
            metadata={
                "dagster/row_count": len(rows),
                "unlabeled": len(unlabeled),
                "model_version": champion.version,
                **{reason: reasons.count(reason) for reason in sorted(set(reasons))},
                "preview": _preview(rows, ("rank", "id", "title", "reason", "guess", "probability")),
            },
        )

    return labeling_queue


def _texts(warehouse: Warehouse, table: str, columns: Sequence[str], always: Sequence[int] = ()) -> "pd.DataFrame":
    """Return the rows of a table by id; of a large one, a sample of `_SAMPLE_ROWS` and the ids `always`."""
    require_tables(warehouse, table)
    rows, condition = warehouse.row_count(table), "TRUE"
    if rows > _SAMPLE_ROWS:
        condition = f"{warehouse.split_sql('id', _SAMPLE_ROWS / rows)} = 'test'"
        if always:
            condition += f" OR id IN ({', '.join(map(str, always))})"
    query = sql(
        "SELECT {columns} FROM {table} WHERE {condition} ORDER BY id",
        columns=identifiers(columns),
        table=table,
        condition=SQL(condition),
    )
    frame: pd.DataFrame = warehouse.fetch_arrow(query).to_pandas()
    return frame


def _with_probabilities(model: "Pipeline", rows: "pd.DataFrame") -> Any:
    from mlops_platform.ml.classifier import text_classifier
    from mlops_platform.ml.labeling.query_strategy import Unlabeled

    classes = [str(tag) for tag in model.classes_]
    texts = text_classifier.frame(rows["title"], rows["description"])
    if rows.empty:
        import numpy as np

        probabilities: Any = np.zeros((0, len(classes)))
    else:
        probabilities = model.predict_proba(texts)
    ids, titles, descriptions = (rows[name].tolist() for name in ("id", "title", "description"))
    return Unlabeled(ids, titles, descriptions, probabilities, classes)


def _evaluated_by(tuned_params: dict[str, Any]) -> dict[str, Any]:
    """Return what determines the models that evaluate the labels."""
    encoder = tuned_params.get("encoder")
    return {**tuned_params["params"], **({"encoder": encoder["digest"]} if encoder else {})}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _preview(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> dg.MarkdownMetadataValue:
    shown = [tuple(_rounded(row[name]) for name in columns) for row in rows[:_SHOWN]]
    return dg.MetadataValue.md(markdown_table(list(columns), shown, _CHARS))


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
