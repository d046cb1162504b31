"""The frozen evaluation set in use, chosen or refreshed where a rule asks for it, for the assets that need it."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import dagster as dg

from mlops_platform.resources.datasets.evaluation_set_store import EvaluationSetStore
from mlops_platform.resources.datasets.store import DatasetStore
from mlops_platform.resources.registry.model_registry import RegisteredVersion

if TYPE_CHECKING:
    from mlops_platform.ml.evaluation.holdout import EvaluationSet

EVALUATION_ROWS = 20_000  # that come into question where the model is streamed: F1 is known to about .005 by them


def learnt_from(dataset: str, champion: RegisteredVersion | None) -> set[str]:
    """Versions of the snapshots that candidate and champion were fitted on.

    Args:
        dataset: The candidate's.
        champion: The champion; None without one.
    """
    return {dataset, *([champion.tags["data_version"]] if champion and "data_version" in champion.tags else [])}


def evaluation_set(
    context: dg.AssetExecutionContext,
    datasets: DatasetStore,
    sets: EvaluationSetStore,
    dataset: str,
    learnt_from: Collection[str],
    *,
    streamed: bool = False,
) -> "EvaluationSet | None":
    """Return the set in use; a new version is kept and its reason logged.

    Args:
        context: Takes the log.
        datasets: The snapshots.
        sets: The versions of the set.
        dataset: Version of the present snapshot.
        learnt_from: Versions of the snapshots whose train splits the models in question were fitted on. A row there
            may be a test row today, as MLOPS_TEST_SHARE may have been raised.
        streamed: Whether only the first `EVALUATION_ROWS` of the shuffled snapshot come into question, and not all of
            the test split.

    Returns:
        The set; None if the test split is empty.

    Raises:
        PlatformError: A file of the set or of the snapshot is damaged.
        ValueError: The models have learnt every test row.
    """
    from mlops_platform.ml.evaluation.holdout import EvaluationSet, refreshed

    frozen = sets.current(EvaluationSet)
    known, test = _rows(datasets, dataset, frozen, streamed)
    if not test:
        return None
    for version in sorted(set(learnt_from) - {dataset}):
        if datasets.path(version).exists():
            test -= datasets.tags_of(version, test, "train").keys()
        else:
            context.log.warning(
                f"Snapshot {version} is gone: whether its rows are in the evaluation set cannot be seen."
            )
    mix = datasets.counts(dataset) if streamed else None
    chosen = refreshed(frozen, list(known), list(known.values()), test, mix=mix)
    if frozen is None or chosen.version != frozen.version:
        chosen = sets.add(chosen)
        context.log.info(f"Evaluation set {chosen.version} has {len(chosen.tags)} rows. {chosen.reason}")
    return chosen


def _rows(
    datasets: DatasetStore, dataset: str, frozen: "EvaluationSet | None", streamed: bool
) -> tuple[dict[int, str], set[int]]:
    """Tags of the rows in question by id, and which of them are in the test split."""
    if not streamed:
        rows = datasets.tags(dataset)
        known = dict(zip(rows["id"].tolist(), rows["tag"].tolist(), strict=True))
        return known, {int(each) for each in datasets.load(dataset, "test")["id"]}
    known = {}
    for batch in datasets.batches(dataset, "test", ("id", "tag")):
        known.update(
            zip(*(column.to_pylist() for column in batch.slice(0, EVALUATION_ROWS - len(known)).columns), strict=True)
        )
        if len(known) >= EVALUATION_ROWS:
            break
    test = set(known)
    if frozen is not None:
        test |= datasets.tags_of(dataset, frozen.tags, "test").keys()
        known |= datasets.tags_of(dataset, frozen.tags)
    return known, test
