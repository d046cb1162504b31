"""What a day's report looks at: the rows of a window of days, and the rows that the champion was trained on.

Reads the warehouse and the snapshots; what is made of the rows is in ``ml``.
"""

import datetime as dt
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from mlops_platform.assets.inference import FEEDBACK, PREDICTIONS
from mlops_platform.errors import PlatformError
from mlops_platform.resources.datasets import DatasetStore
from mlops_platform.resources.label_log import RANDOM
from mlops_platform.resources.label_tables import LABELS
from mlops_platform.resources.warehouse_base import Warehouse

if TYPE_CHECKING:
    import pandas as pd

    from mlops_platform.ml.policy import LabelDoubt
    from mlops_platform.ml.watching import LabeledRows, WindowRows

MOST_ROWS = 5000  # of a window; more make no test stronger than its kernel of 1000 rows, and cost memory
KNOWN_ROWS = 20_000  # of a snapshot's split: those of a streamed model are more than need be held
DAYS_BEFORE = 56  # days of volume that a window's days are held against


def known_rows(datasets: DatasetStore, version: str, split: str) -> "LabeledRows":
    """Read the labelled rows of a snapshot; of many, about `KNOWN_ROWS` by a hash of the id.

    Args:
        datasets: The snapshots.
        version: The data version.
        split: `train` or `test`.

    Raises:
        PlatformError: The snapshot is not there, or damaged.
    """
    from mlops_platform.ml.watching import LabeledRows

    rows = datasets.sample(version, split, KNOWN_ROWS)
    return LabeledRows(rows["title"].tolist(), rows["description"].tolist(), rows["tag"].tolist())


def window_rows(
    warehouse: Warehouse, first: dt.date, last: dt.date, trained_on: Callable[[Collection[int]], Collection[int]]
) -> "tuple[WindowRows, list[int]]":
    """Read the rows that were predicted in a window of days, each once, with the true tags that are known by now.

    A true tag is the latest feedback on a prediction of the service, if it is a tag that some project has, or the label
    that a project got since; but not what people said of a project that the labeling queue chose for another reason
    than by chance: those are the ones that a champion knows least. Projects that the champion was trained on are left
    out: it is surer of them than of others, and always right.

    Args:
        warehouse: Has the tables.
        first: First day of the window.
        last: Its last day.
        trained_on: Says which of some ids are of projects that are left out.

    Returns:
        At most about `MOST_ROWS` rows, drawn by a hash of their ids, with the rows of each day of the window; and the
        rows of each day before it, at most `DAYS_BEFORE` of them and none from before the first prediction.

    Raises:
        WarehouseError: There are no predictions yet.
    """
    from mlops_platform.ml.watching import WindowRows

    volumes = _volumes(warehouse, first - dt.timedelta(days=DAYS_BEFORE), last)
    by_day = _filled(volumes, first, last)
    begun = min(volumes, default=first)
    before = _filled(volumes, max(begun, first - dt.timedelta(days=DAYS_BEFORE)), first - dt.timedelta(days=1))
    rows = _rows(warehouse, first, last, sum(by_day))
    of_projects = rows.loc[rows["source"] == "batch", "id"]
    known = {str(each) for each in trained_on([int(each) for each in of_projects])}
    rows = rows[~((rows["source"] == "batch") & rows["id"].isin(known))]
    tags = {tag for (tag,) in warehouse.fetch_rows("SELECT DISTINCT tag FROM labeled_projects")}
    # feedback comes from anywhere: a tag that no project has is a typo until people label projects so
    truth = [tag if tag in tags else None for tag in rows["truth"]]
    return WindowRows(rows["title"].tolist(), rows["description"].tolist(), truth, by_day), before


def _volumes(warehouse: Warehouse, first: dt.date, last: dt.date) -> dict[dt.date, int]:
    found = warehouse.fetch_rows(
        f"SELECT day, COUNT(DISTINCT id) FROM {PREDICTIONS} WHERE day >= ? AND day <= ? GROUP BY day",  # noqa: S608
        [first, last],
    )
    return dict(found)


def _filled(volumes: dict[dt.date, int], first: dt.date, last: dt.date) -> list[int]:
    """Rows of each day; a day without any counts 0."""
    return [volumes.get(first + dt.timedelta(days=number), 0) for number in range((last - first).days + 1)]


def _rows(warehouse: Warehouse, first: dt.date, last: dt.date, expected: int) -> "pd.DataFrame":
    drawn = f"AND {warehouse.split_sql('id', MOST_ROWS / expected)} = 'test'" if expected > MOST_ROWS else ""
    feedback = (
        # bare, `at` is a reserved word
        f"SELECT id, tag, ROW_NUMBER() OVER (PARTITION BY id ORDER BY {FEEDBACK}.at DESC, tag) AS place "  # noqa: S608
        f"FROM {FEEDBACK}"
        if warehouse.has_table(FEEDBACK)
        else "SELECT CAST(NULL AS STRING) AS id, CAST(NULL AS STRING) AS tag, 0 AS place"
    )
    chosen = (
        f"WHERE id NOT IN (SELECT id FROM {LABELS} GROUP BY id "  # noqa: S608
        f"HAVING MAX(CASE WHEN source LIKE '%{RANDOM}%' THEN 1 ELSE 0 END) = 0)"
        if warehouse.has_table(LABELS)
        else ""
    )
    # one id in several model versions, or on two days, is one text
    query = f"""
        SELECT seen.id, seen.source, seen.title, seen.description, COALESCE(told.tag, labeled.tag) AS truth
        FROM (
            SELECT id, source, MAX(title) AS title, MAX(description) AS description
            FROM {PREDICTIONS} WHERE day >= ? AND day <= ? {drawn} GROUP BY id, source
        ) AS seen
        LEFT JOIN (SELECT id, tag FROM ({feedback}) AS given WHERE place = 1) AS told
            ON seen.source = 'service' AND told.id = seen.id
        LEFT JOIN (SELECT id, tag FROM labeled_projects {chosen}) AS labeled
            ON seen.source = 'batch' AND CAST(labeled.id AS STRING) = seen.id
        ORDER BY seen.source, seen.id
    """  # noqa: S608 - names and dates of our own
    frame: pd.DataFrame = warehouse.fetch_arrow(query, [first, last]).to_pandas()
    return frame


def changed_labels(datasets: DatasetStore, champion: str, current: str) -> "set[int] | None":
    """Find the labels that came since the champion's training: new rows, and rows with another tag.

    Args:
        datasets: The snapshots.
        champion: Data version that the champion was trained on.
        current: The present data version.

    Returns:
        Ids of the present snapshot; None where the champion's snapshot is gone, so nobody can tell.
    """
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
    """Count the labels that came since the champion's training.

    Args:
        datasets: The snapshots.
        champion: Data version that the champion was trained on.
        current: The present data version.
        label_issues: The value of that asset.

    Returns:
        How many there are, 0 where nobody can tell; and what label QA says of those that it saw, None if it saw none.
    """
    changed, judged = changed_labels(datasets, champion, current), label_issues["dataset_version"]
    # label QA may have seen another snapshot
    new = changed if judged == current else changed_labels(datasets, champion, judged)
    return len(changed or ()), _doubt(new, label_issues) if new else None


def _doubt(new: set[int], label_issues: dict[str, Any]) -> "LabelDoubt":
    """What label QA says of the new labels, beside the older ones."""
    from mlops_platform.ml.policy import LabelDoubt

    suspects = {each["id"] for each in label_issues["suspects"]}
    judged_new = len(new - set(label_issues["unjudged"]))
    return LabelDoubt(
        suspects=len(suspects & new),
        judged=judged_new,
        old_suspects=len(suspects - new),
        old_judged=label_issues["judged"] - judged_new,
    )
