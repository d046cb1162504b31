"""What people should look at: labels that are likely wrong, and the projects most worth a label."""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform.assets.dataset import SAMPLE_ROWS, STREAMED
from mlops_platform.assets.failures import sentences
from mlops_platform.assets.ingest import markdown_table
from mlops_platform.assets.sentence_encoder import tuned_encoder, with_vector_cache
from mlops_platform.errors import ModelError, WarehouseError
from mlops_platform.resources import label_log
from mlops_platform.resources.datasets import DatasetStore
from mlops_platform.resources.encoders import EncoderStore
from mlops_platform.resources.parquet_rows import write_rows
from mlops_platform.resources.tracking import CHAMPION, MlflowTracking
from mlops_platform.resources.warehouse_base import Warehouse

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

ISSUES, QUEUE = "label_issues", "labeling_queue"
_NEIGHBOURS = 3
_SHOWN = 10
_CHARS = 80
_LOOKED_AT = 20_000  # rows of a table that the queue is chosen from, and neighbours looked for in

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
    name=ISSUES,
    group_name="labeling",
    owners=["team:ml"],
    kinds={"scikitlearn"},
    pool="warehouse",
    description=(
        "Labels that the other rows contradict, by confident learning (cleanlab) on out-of-fold probabilities; the "
        "most doubtful first, each beside the labeled projects most like it."
    ),
)
def label_issues(
    validated_dataset: dict[str, Any],
    tuned_params: dict[str, Any],
    datasets: DatasetStore,
    warehouse: Warehouse,
    encoders: EncoderStore,
) -> dg.MaterializeResult[dict[str, Any]]:
    """Judge each label of the snapshot by models that were not fitted on it."""
    import pandas as pd

    from mlops_platform.ml import model as models
    from mlops_platform.ml.label_quality import find_suspects
    from mlops_platform.ml.neighbours import LabeledTexts, nearest_labeled

    with sentences(ValueError):
        version = validated_dataset["version"]
        if sampled := bool(validated_dataset.get(STREAMED)):
            parts = [datasets.sample(version, split, SAMPLE_ROWS) for split in ("train", "test")]
        else:
            parts = [datasets.load(version, split) for split in ("train", "test")]
        rows = pd.concat(parts, ignore_index=True)
        texts = models.frame(rows["title"], rows["description"])[models.TEXT].tolist()
        params = models.Params.from_dict(tuned_params["params"])
        encoder = tuned_encoder(encoders, tuned_params)
        quality = find_suspects(rows["id"].tolist(), texts, rows["tag"].tolist(), params, encoder=encoder)
        row_of = {int(key): row for row, key in enumerate(rows["id"])}
        known = LabeledTexts(rows["id"].tolist(), rows["title"].fillna("").tolist(), texts, rows["tag"].tolist())
        # one more is asked for: the nearest to a row is itself
        near = nearest_labeled([texts[row_of[each.id]] for each in quality.suspects], known, _NEIGHBOURS + 1)
        found = []
        for rank, (suspect, around) in enumerate(zip(quality.suspects, near, strict=True), start=1):
            row = rows.iloc[row_of[suspect.id]]
            others = [vars(each) for each in around if each.id != suspect.id][:_NEIGHBOURS]
            found.append(
                {
                    **vars(suspect),
                    "rank": rank,
                    "title": _text(row["title"]),
                    "description": _text(row["description"]),
                    "neighbours": json.dumps(others, ensure_ascii=False),
                }
            )
        _replace(warehouse, ISSUES, _ISSUE_COLUMNS, found)
    value = {"dataset_version": version, **quality.to_dict()}
    return dg.MaterializeResult(
        value=value,
        data_version=dg.DataVersion(f"{version}-{_digest(_judged_by(tuned_params))}"),
        metadata={
            "suspects": len(quality.suspects),
            "judged": quality.judged,
            "share": round(quality.share, 4),
            "not_judged": len(quality.unjudged),
            **({"sample": f"{len(rows)} of {validated_dataset['rows']} rows, by a hash of the id"} if sampled else {}),
            "preview": _preview(found, ("rank", "id", "title", "given", "suggested", "score")),
        },
    )


def build_queue_asset(size: int, labels_path: Path | None = None) -> dg.AssetsDefinition:
    """Make the `labeling_queue` asset.

    Args:
        size: Rows that people are asked to label.
        labels_path: The log of the labels that people gave: what is labeled is not asked for again.
    """

    @dg.asset(
        name=QUEUE,
        group_name="labeling",
        owners=["team:ml"],
        kinds={"scikitlearn"},
        deps=["unlabeled_projects", "labeled_projects", "champion_model"],
        pool="warehouse",
        description=(
            "The projects most worth a person's minute, in the order in which to label them: rows that the champion is "
            "unsure of, rows unlike one another, random ones for an unbiased sample, and doubtful labels."
        ),
    )
    def labeling_queue(
        label_issues: dict[str, Any], warehouse: Warehouse, tracking: MlflowTracking, encoders: EncoderStore
    ) -> dg.MaterializeResult[None]:
        from mlops_platform.ml.label_quality import Suspect
        from mlops_platform.ml.selection import Labeled, choose

        with sentences(ValueError):
            champion = tracking.by_alias(CHAMPION)
            if champion is None:
                raise ModelError("There is no champion to choose rows by: materialize champion_model first.")
            labels = label_log.read(labels_path).labels if labels_path else ()
            said = {key for key, _ in label_log.standing(labels)}
            with warehouse.connect():
                unlabeled = _texts(warehouse, "unlabeled_projects", "id, title, description")
                # those that were doubted are looked up whatever the draw
                doubted = [int(each["id"]) for each in label_issues["suspects"]]
                labeled = _texts(warehouse, "labeled_projects", "id, title, description, tag", doubted)
            tags = dict(zip(labeled["id"], labeled["tag"], strict=True))
            # a label that was changed since it was doubted is another label
            suspects = [Suspect(**each) for each in label_issues["suspects"] if tags.get(each["id"]) == each["given"]]
            chosen = choose(
                _with_probabilities(with_vector_cache(encoders, tracking.load(champion.version)), unlabeled),
                Labeled(*(labeled[name].tolist() for name in ("id", "title", "description", "tag"))),
                size=size,
                suspects=suspects,
                excluded=said,
            )
            rows = [
                {
                    **{name: value for name, value in vars(each).items() if name != "neighbours"},
                    "neighbours": json.dumps([vars(near) for near in each.neighbours], ensure_ascii=False),
                }
                for each in chosen
            ]
            _replace(warehouse, QUEUE, _QUEUE_COLUMNS, rows)
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


def _texts(warehouse: Warehouse, table: str, columns: str, always: Sequence[int] = ()) -> "pd.DataFrame":
    """Rows of a table, ordered by id; of many, about `_LOOKED_AT` by a hash of the id, and those that are named."""
    if not warehouse.has_table(table):
        raise WarehouseError(f"The warehouse has no table {table}: materialize {table} first.")
    rows, where = warehouse.row_count(table), ""
    if rows > _LOOKED_AT:
        named = f" OR id IN ({', '.join(map(str, always))})" if always else ""
        where = f"WHERE {warehouse.split_sql('id', _LOOKED_AT / rows)} = 'test'{named}"
    query = f"SELECT {columns} FROM {table} {where} ORDER BY id"  # noqa: S608 - names and numbers of our own
    frame: pd.DataFrame = warehouse.fetch_arrow(query).to_pandas()
    return frame


def _with_probabilities(model: "Pipeline", rows: "pd.DataFrame") -> Any:
    from mlops_platform.ml import model as models
    from mlops_platform.ml.selection import Unlabeled

    classes = [str(each) for each in model.classes_]
    texts = models.frame(rows["title"], rows["description"])
    if rows.empty:
        import numpy as np

        probabilities: Any = np.zeros((0, len(classes)))
    else:
        probabilities = model.predict_proba(texts)
    ids, titles, descriptions = (rows[name].tolist() for name in ("id", "title", "description"))
    return Unlabeled(ids, titles, descriptions, probabilities, classes)


def _replace(warehouse: Warehouse, table: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace a table as a whole."""
    with tempfile.TemporaryDirectory(prefix="mlops-labeling-") as folder:
        file = Path(folder) / f"{table}.parquet"
        write_rows(file, columns, rows)
        warehouse.replace_rows(table, file, {})


def _digest(params: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:12]


def _judged_by(tuned_params: dict[str, Any]) -> dict[str, Any]:
    """What decides the models that judge the labels."""
    encoder = tuned_params.get("encoder")
    return {**tuned_params["params"], **({"encoder": encoder["digest"]} if encoder else {})}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _preview(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> dg.MarkdownMetadataValue:
    shown = [tuple(_rounded(row[name]) for name in columns) for row in rows[:_SHOWN]]
    return dg.MetadataValue.md(markdown_table(list(columns), shown, _CHARS))


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
