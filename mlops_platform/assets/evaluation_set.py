"""The current holdout set, chosen or refreshed by the rules of ``ml.evaluation.holdout``.

Training avoids its rows and the evaluation uses them; where its versions are stored is `EvaluationSetStore`.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

import dagster as dg

from mlops_platform.resources.datasets.dataset_store import DatasetStore
from mlops_platform.resources.datasets.evaluation_set_store import EvaluationSetStore
from mlops_platform.resources.registry.model_registry import RegisteredVersion

if TYPE_CHECKING:
    from mlops_platform.ml.evaluation.holdout import EvaluationSet

EVALUATION_ROWS = 20_000  # eligible rows where the model is trained out of core: they give F1 to about 0.005


def training_versions(dataset: str, champion: RegisteredVersion | None) -> set[str]:
    """Return the versions of the snapshots that a candidate of `dataset` and the champion were trained on."""
    return {dataset, *([champion.tags["data_version"]] if champion and "data_version" in champion.tags else [])}


def evaluation_set(
    context: dg.AssetExecutionContext,
    datasets: DatasetStore,
    sets: EvaluationSetStore,
    dataset: str,
    trained_on: Collection[str],
    *,
    streamed: bool = False,
) -> "EvaluationSet | None":
    """Return the current holdout set; a new version is stored and its reason logged.

    Args:
        context: For the log.
        datasets: The snapshots.
        sets: The versions of the set.
        dataset: Version of the current snapshot.
        trained_on: Versions of the snapshots whose train splits the candidate and the champion were trained on. A row
            of them may be a test row now, as MLOPS_TEST_SHARE may have been raised.
        streamed: Whether only the first `EVALUATION_ROWS` of the shuffled snapshot are eligible, or all of the test
            split.

    Returns:
        The set; None if the test split is empty.

    Raises:
        PlatformError: A file of the set or of the snapshot is damaged.
        ValueError: The models were trained on every test row.
    """
    from mlops_platform.ml.evaluation.holdout import EvaluationSet, refreshed

    current = sets.current(EvaluationSet)
    known, test = _eligible_rows(datasets, dataset, current, streamed)
    if not test:
        return None
    for version in sorted(set(trained_on) - {dataset}):
        if datasets.path(version).exists():
            test -= datasets.tags_of(version, test, "train").keys()
        else:
            context.log.warning(
                f"Snapshot {version} is missing: whether its train rows are in the evaluation set cannot be checked."
            )
    chosen = refreshed(current, known, test, datasets.counts(dataset))
    if current is None or chosen.version != current.version:
        chosen = sets.add(chosen)
        context.log.info(f"Evaluation set {chosen.version} has {len(chosen.tags)} rows. {chosen.reason}")
    return chosen


def _eligible_rows(
    datasets: DatasetStore, dataset: str, current: "EvaluationSet | None", streamed: bool
) -> tuple[dict[int, str], set[int]]:
    """Return the tags of the eligible rows by id, and the ids that are in the test split."""
    if not streamed:
        rows = datasets.tags(dataset)
        known = dict(zip(rows["id"].tolist(), rows["tag"].tolist(), strict=True))
        return known, {int(row_id) for row_id in datasets.load(dataset, "test")["id"]}
    known = {}
    for batch in datasets.batches(dataset, "test", ("id", "tag")):
        known.update(
            zip(*(column.to_pylist() for column in batch.slice(0, EVALUATION_ROWS - len(known)).columns), strict=True)
        )
        if len(known) >= EVALUATION_ROWS:
            break
    test = set(known)
    if current is not None:
        test |= datasets.tags_of(dataset, current.tags, "test").keys()
        known |= datasets.tags_of(dataset, current.tags)
    return known, test
