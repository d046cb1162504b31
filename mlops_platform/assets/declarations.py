"""What the declarations of several assets share: their stage's arguments of `dg.asset`, and how they get a version.

An argument that one asset alone has stands at that asset; the raw tables have theirs in ``ingest``.
"""

import datetime as dt
import hashlib
import json
import warnings
from collections.abc import Callable
from typing import Any

import dagster as dg

TRAINING: dict[str, Any] = {"group_name": "training", "owners": ["team:ml"]}
LABELING: dict[str, Any] = {
    "group_name": "labeling",
    "owners": ["team:ml"],
    "kinds": {"scikitlearn"},
    "pool": "warehouse",
}


def daily_asset(first_day: dt.date, **arguments: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Declare an asset of the warehouse with a partition per day (UTC), today included; a backfill is one run."""
    with warnings.catch_warnings():
        # Dagster warns that backfill policies are in beta each time the graph is loaded
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.asset(
            owners=["team:ml"],
            partitions_def=dg.DailyPartitionsDefinition(first_day.isoformat(), timezone="UTC", end_offset=1),
            backfill_policy=dg.BackfillPolicy.single_run(),
            pool="warehouse",
            **arguments,
        )


def json_digest(value: Any, digits: int = 16) -> str:
    """Return the first hex digits of a hash of a value's JSON, in which the order of keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:digits]
