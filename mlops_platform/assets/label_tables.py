"""People's labels in the warehouse: the tables `labels` and `label_conflicts`, and the labels' effect on `tags`.

How votes are resolved is in ``ml.labeling.label_votes``; where people give labels is ``labeling``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import WarehouseError
from mlops_platform.resources.labels.label_log import LabelLog
from mlops_platform.resources.validation.suite import read_suite
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.resources.warehouse.parquet_writer import load_rows
from mlops_platform.sql import sql

if TYPE_CHECKING:
    import pandas as pd

TAGS, LABELS, CONFLICTS = "tags", "labels", "label_conflicts"
_LABEL_COLUMNS = {
    "id": "BIGINT",
    "tag": "VARCHAR",
    "labeled_at": "TIMESTAMP",
    "labeled_by": "VARCHAR",
    "source": "VARCHAR",
}
_CONFLICT_COLUMNS = {**_LABEL_COLUMNS, "won": "BOOLEAN", "unresolved": "BOOLEAN"}
_TAG_COLUMNS = {"id": "BIGINT", "tag": "VARCHAR"}


@dataclass(frozen=True)
class Applied:
    """The effect of people's labels.

    Attributes:
        labeled: Number of ids that people labeled.
        conflicts: How many of them have labels that disagree; a source's tag counts as a label.
        unresolved: How many of them have no tag with more than half of the votes, so that the latest label counts.
    """

    labeled: int
    conflicts: int
    unresolved: int


def known_tags() -> list[str]:
    """Return the classes that the suite `tags` knows, in its order; none if it has no such rule."""
    rules = read_suite(TAGS)
    return [
        str(tag)
        for rule in rules
        if rule.type == "expect_column_values_to_be_in_set" and rule.kwargs.get("column") == "tag"
        for tag in rule.kwargs["value_set"]
    ]


def apply(warehouse: Warehouse, log: LabelLog) -> Applied | None:
    """Replace the tags of the ids that people labeled, in one transaction; other rows stay as they are.

    The source's row is one vote (see ``ml.labeling.label_votes``). An id whose labels were all withdrawn keeps the
    source's rows. Return the effect, or None without labels.
    """
    if not log.labels:
        # the labels of a log that was moved away are removed too
        for table, columns in ((LABELS, _LABEL_COLUMNS), (CONFLICTS, _CONFLICT_COLUMNS)):
            if warehouse.has_table(table):
                load_rows(warehouse, table, columns, [])
        return None
    import pandas as pd

    from mlops_platform.ml.labeling.label_votes import resolve

    if dict(warehouse.describe(TAGS)) != _TAG_COLUMNS:
        raise WarehouseError(
            "People's labels cannot be applied to the table tags, which has columns besides id and tag and belongs to "
            "the loader: let the loader write to a landing table with the prefix airbyte_."
        )
    labels = pd.DataFrame([asdict(label) for label in log.labels])
    people = resolve(labels)
    labeled = set(people.labels["id"].tolist())
    load_rows(warehouse, LABELS, _LABEL_COLUMNS, [_row(asdict(label)) for label in log.labels])
    source = warehouse.fetch_arrow(
        sql("SELECT id, tag FROM {tags} WHERE id IN (SELECT id FROM {labels})", tags=TAGS, labels=LABELS)
    ).to_pandas()
    votes = pd.concat(
        [labels, source.assign(labeled_at=None, labeled_by=None, source=TAGS)[list(labels.columns)].astype(object)]
    )
    resolved = resolve(votes[votes["id"].isin(labeled)])
    tied = people.labels.loc[people.labels["votes"] * 2 <= people.labels["voters"], "id"]
    unresolved = set(tied.tolist())
    conflicts = [
        _row({**dict(zip(resolved.conflicts.columns, values, strict=True)), "unresolved": values[0] in unresolved})
        for values in resolved.conflicts.itertuples(index=False)
    ]
    load_rows(warehouse, CONFLICTS, _CONFLICT_COLUMNS, conflicts)
    _replace_tags(warehouse, resolved.labels)
    return Applied(len(labeled), resolved.conflict_count, len(unresolved))


def _replace_tags(warehouse: Warehouse, resolved: pd.DataFrame) -> None:
    """Replace the table `tags` by the source's rows of unlabeled ids and the resolved tags."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory(prefix="mlops-labels-") as folder:
        loaded, merged = Path(folder) / "loaded.parquet", Path(folder) / "tags.parquet"
        warehouse.export_parquet(sql("SELECT id, tag FROM {tags} ORDER BY id, tag", tags=TAGS), loaded)
        schema = pa.schema([("id", pa.int64()), ("tag", pa.string())])
        ids = pa.array(resolved["id"].tolist(), pa.int64())
        with pq.ParquetFile(loaded) as source, pq.ParquetWriter(merged, schema) as writer:
            for batch in source.iter_batches(columns=["id", "tag"]):
                # is_in is false for a row without an id: it stays, and the suite reports it
                unlabeled = pa.compute.invert(pa.compute.is_in(batch.column("id"), value_set=ids))
                writer.write_table(pa.Table.from_batches([batch.filter(unlabeled)]).cast(schema))
            writer.write_table(pa.table({"id": ids, "tag": pa.array(resolved["tag"].tolist(), pa.string())}))
        warehouse.replace_rows(TAGS, merged, {})


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a label or conflict as a row: its time in UTC without a zone, missing values as None."""
    import pandas as pd

    at = values["labeled_at"]
    if isinstance(at, str):
        at = datetime.fromisoformat(at).astimezone(UTC)
    row = {name: None if pd.isna(value) else value for name, value in values.items()}
    return {**row, "labeled_at": None if pd.isna(at) else at.replace(tzinfo=None)}
