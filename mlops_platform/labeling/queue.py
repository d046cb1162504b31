"""The labeling queue as the page shows it, read once from the warehouse.

Which projects are in the queue is decided by the asset `labeling_queue`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlops_platform.assets.label_tables import known_tags
from mlops_platform.errors import WarehouseError
from mlops_platform.resources.labels.label_log import PAGE, RANDOM, UNDO, Label
from mlops_platform.resources.warehouse.base import Warehouse


@dataclass(frozen=True)
class Queue:
    """The projects to label.

    Attributes:
        rows: By rank: id, title, description, reason, guess, probability, neighbours (id, title, tag, similarity),
            and the current label `given`, if there is one.
        classes: (tag, number of projects), in the order of the suite.
    """

    rows: tuple[dict[str, Any], ...]
    classes: tuple[tuple[str, int], ...]

    @property
    def tags(self) -> list[str]:
        """The tags that a label may have."""
        return [tag for tag, _ in self.classes]


def read_classes(warehouse: Warehouse) -> tuple[tuple[str, int], ...]:
    """Return the tags that a label may have, with the number of projects of each."""
    counts: dict[str, int] = {}
    if warehouse.has_table("labeled_projects"):
        rows = warehouse.fetch_rows("SELECT tag, COUNT(*) FROM labeled_projects GROUP BY tag ORDER BY tag")
        counts = {tag: int(count) for tag, count in rows if tag}
    return tuple((tag, counts.get(tag, 0)) for tag in known_tags() or sorted(counts))


def read_queue(warehouse: Warehouse) -> Queue:
    """Read the queue, or raise a `WarehouseError` if it was never materialized."""
    with warehouse.connect():
        if not warehouse.has_table("labeling_queue"):
            todo = "run `mlops run`, then materialize label_issues and labeling_queue (the job `monitoring` does)"
            raise WarehouseError(f"There is no labeling queue yet: {todo}.")
        rows = warehouse.fetch_arrow(
            "SELECT queue.id, queue.title, queue.description, reason, guess, probability, neighbours, tag AS given "
            "FROM labeling_queue AS queue LEFT JOIN labeled_projects AS labeled ON queue.id = labeled.id "
            "ORDER BY queue.rank"
        ).to_pylist()
        classes = read_classes(warehouse)
    for row in rows:
        row["neighbours"] = json.loads(row["neighbours"] or "[]")
    return Queue(tuple(rows), classes)


def history(labels: Sequence[Label], person: str, queue: Queue) -> list[dict[str, Any]]:
    """Return the steps of a person on the queue that can be undone, oldest first.

    Returns:
        `id`, the `tag` that was given, and the person's previous one as `before`, empty for none.
    """
    ids = {row["id"] for row in queue.rows}
    current: dict[int, str] = {}
    steps: list[dict[str, Any]] = []
    for label in labels:
        if label.labeled_by != person or label.id not in ids:
            continue
        if label.source == UNDO:
            # it reverts the latest step on this project
            for index in reversed(range(len(steps))):
                if steps[index]["id"] == label.id:
                    del steps[index]
                    break
        elif label.source in (PAGE, PAGE + RANDOM):  # a file is not undone step by step
            steps.append({"id": label.id, "tag": label.tag, "before": current.get(label.id, "")})
        current[label.id] = label.tag
    return steps
