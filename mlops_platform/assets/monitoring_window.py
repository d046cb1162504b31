"""The rows that a drift report compares (a window of days, and what the champion was trained on), and new labels.

Only reads the warehouse and the snapshots; the comparison is in ``ml.monitoring``.
"""

import datetime as dt
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from mlops_platform.assets.label_tables import LABELS
from mlops_platform.assets.predictions import FEEDBACK
from mlops_platform.errors import PlatformError
from mlops_platform.resources.datasets.dataset_store import DatasetStore
from mlops_platform.resources.labels.label_log import RANDOM
from mlops_platform.resources.warehouse.base import Warehouse
from mlops_platform.sql import SQL, literal, sql

if TYPE_CHECKING:
    import pandas as pd

    from mlops_platform.ml.monitoring.drift_monitor import LabeledRows, WindowRows
    from mlops_platform.ml.monitoring.retraining_policy import LabelDoubt

MOST_ROWS = 5000  # of a window: the kernel test uses 1000 rows, so more cost memory and add no power
KNOWN_ROWS = 20_000  # of a snapshot's split, which may not fit in memory
DAYS_BEFORE = 56  # days before the window, whose volume is compared with the window's


def known_rows(datasets: DatasetStore, version: str, split: str) -> "LabeledRows":
    """Return the labeled rows of a snapshot's split; of a large one, about `KNOWN_ROWS` by a hash of the id."""
    from mlops_platform.ml.monitoring.drift_monitor import LabeledRows

    rows = datasets.sample(version, split, KNOWN_ROWS)
    return LabeledRows(rows["title"].tolist(), rows["description"].tolist(), rows["tag"].tolist())


def window_rows(
    warehouse: Warehouse, first: dt.date, last: dt.date, trained_on: Callable[[Collection[int]], Collection[int]]
) -> "tuple[WindowRows, list[int]]":
    """Return the rows predicted in a window of days, each once, with the true tags that are known by now.

    A true tag is the latest feedback on a prediction of the service, if any project has that tag, or the label that a
    project got since. Two kinds of rows would bias the F1: labels that the queue chose because the champion was unsure
    do not count, and projects that the champion was trained on are excluded.

    Args:
        warehouse: The warehouse.
        first: First day of the window.
        last: Last day of the window, inclusive.
        trained_on: Given project ids, returns those that the champion was trained on.

    Returns:
        At most about `MOST_ROWS` rows, sampled by a hash of their ids, with the number of rows on each day of the
        window; and the number on each day before it, for at most `DAYS_BEFORE` days since the first prediction.
    """
    from mlops_platform.ml.monitoring.drift_monitor import WindowRows

    volumes = _volumes(warehouse, first - dt.timedelta(days=DAYS_BEFORE), last)
    by_day = _filled(volumes, first, last)
    begin = max(min(volumes, default=first), first - dt.timedelta(days=DAYS_BEFORE))
    before = _filled(volumes, begin, first - dt.timedelta(days=1))
    rows = _rows(warehouse, first, last, sum(by_day))
    of_projects = rows.loc[rows["source"] == "batch", "id"]
    known = {str(project) for project in trained_on([int(project) for project in of_projects])}
    rows = rows[~((rows["source"] == "batch") & rows["id"].isin(known))]
    tags = {tag for (tag,) in warehouse.fetch_rows("SELECT DISTINCT tag FROM labeled_projects")}
    # feedback may contain typos: only a tag that some project has counts
    truth = [tag if tag in tags else None for tag in rows["truth"]]
    return WindowRows(rows["title"].tolist(), rows["description"].tolist(), truth, by_day), before


def _volumes(warehouse: Warehouse, first: dt.date, last: dt.date) -> dict[dt.date, int]:
    query = "SELECT day, COUNT(DISTINCT id) FROM predictions WHERE day >= ? AND day <= ? GROUP BY day"
    return dict(warehouse.fetch_rows(query, [first, last]))


def _filled(volumes: dict[dt.date, int], first: dt.date, last: dt.date) -> list[int]:
    """Return the number of rows of each day, 0 for a day without any."""
    return [volumes.get(first + dt.timedelta(days=number), 0) for number in range((last - first).days + 1)]


def _rows(warehouse: Warehouse, first: dt.date, last: dt.date, expected: int) -> "pd.DataFrame":
    sample = SQL("TRUE")
    if expected > MOST_ROWS:
        sample = SQL(f"{warehouse.split_sql('id', MOST_ROWS / expected)} = 'test'")
    feedback = SQL("SELECT CAST(NULL AS STRING) AS id, CAST(NULL AS STRING) AS tag, 0 AS place")
    if warehouse.has_table(FEEDBACK):
        feedback = SQL(
            'SELECT id, tag, ROW_NUMBER() OVER (PARTITION BY id ORDER BY "at" DESC, tag) AS place FROM feedback'
        )
    unbiased = SQL("TRUE")
    if warehouse.has_table(LABELS):
        unbiased = sql(
            "id NOT IN (SELECT id FROM labels GROUP BY id "
            "HAVING MAX(CASE WHEN source LIKE {random} THEN 1 ELSE 0 END) = 0)",
            random=literal(f"%{RANDOM}%"),
        )
    # an id predicted by several model versions, or on several days, is one text
    query = sql(
        """
        SELECT seen.id, seen.source, seen.title, seen.description, COALESCE(latest.tag, labeled.tag) AS truth
        FROM (
            SELECT id, source, MAX(title) AS title, MAX(description) AS description
            FROM predictions WHERE day >= ? AND day <= ? AND {sample} GROUP BY id, source
        ) AS seen
        LEFT JOIN (SELECT id, tag FROM ({feedback}) AS ranked WHERE place = 1) AS latest
            ON seen.source = 'service' AND latest.id = seen.id
        LEFT JOIN (SELECT id, tag FROM labeled_projects WHERE {unbiased}) AS labeled
            ON seen.source = 'batch' AND CAST(labeled.id AS STRING) = seen.id
        ORDER BY seen.source, seen.id
        """,
        sample=sample,
        feedback=feedback,
        unbiased=unbiased,
    )
    frame: pd.DataFrame = warehouse.fetch_arrow(query, [first, last]).to_pandas()
    return frame


def _changed_labels(datasets: DatasetStore, champion: str, current: str) -> "set[int] | None":
    """Return the ids that are new or have another tag since the champion's snapshot; None if that is missing."""
    if champion == current:
        return set()
    try:
        before = datasets.tags(champion)
    except PlatformError:
        return None
    now = datasets.tags(current)
    merged: Any = now.merge(before, on="id", how="left", suffixes=("", "_before"))
    return set(merged.loc[merged["tag"] != merged["tag_before"], "id"].tolist())


def new_labels(
    datasets: DatasetStore, champion: str, current: str, label_issues: dict[str, Any]
) -> "tuple[int, LabelDoubt | None]":
    """Count the labels given since the champion's training, between two data versions.

    Returns:
        Their number, 0 if the champion's snapshot is missing; and label QA's figures on those that it evaluated, None
        if there are none.
    """
    changed, evaluated = _changed_labels(datasets, champion, current), label_issues["dataset_version"]
    # label QA may have run on another snapshot
    new = changed if evaluated == current else _changed_labels(datasets, champion, evaluated)
    return len(changed or ()), _doubt(new, label_issues) if new else None


def _doubt(new: set[int], label_issues: dict[str, Any]) -> "LabelDoubt":
    """Return label QA's figures on the new labels, and on the older ones."""
    from mlops_platform.ml.monitoring.retraining_policy import LabelDoubt

    suspects = {suspect["id"] for suspect in label_issues["suspects"]}
    evaluated_new = len(new - set(label_issues["unjudged"]))
    return LabelDoubt(
        suspects=len(suspects & new),
        judged=evaluated_new,
        old_suspects=len(suspects - new),
        old_judged=label_issues["judged"] - evaluated_new,
    )
