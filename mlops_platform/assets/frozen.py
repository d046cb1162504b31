"""The frozen evaluation set in use, chosen or refreshed where a rule asks for it, for the assets that need it."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import dagster as dg

from mlops_platform.resources.datasets import DatasetStore
from mlops_platform.resources.evaluation_sets import EvaluationSetStore
from mlops_platform.resources.tracking import RegisteredVersion

if TYPE_CHECKING:
    from mlops_platform.ml.evaluation_set import EvaluationSet


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
) -> "EvaluationSet | None":
    """Return the set in use; a new version is kept and its reason logged.

    Args:
        context: Takes the log.
        datasets: The snapshots.
        sets: The versions of the set.
        dataset: Version of the present snapshot.
        learnt_from: Versions of the snapshots whose train splits the models in question were fitted on. A row there
            may be a test row today, as MLOPS_TEST_SHARE may have been raised.

    Returns:
        The set; None if the test split is empty.

    Raises:
        PlatformError: A file of the set or of the snapshot is damaged.
        ValueError: The models have learnt every test row.
    """
    from mlops_platform.ml.evaluation_set import refreshed

    test = {int(each) for each in datasets.load(dataset, "test")["id"]}
    if not test:
        return None
    for version in sorted(set(learnt_from) - {dataset}):
        if datasets.path(version).exists():
            test -= {int(each) for each in datasets.load(version, "train")["id"]}
        else:
            context.log.warning(
                f"Snapshot {version} is gone: whether its rows are in the evaluation set cannot be seen."
            )
    rows = datasets.tags(dataset)
    frozen = sets.current()
    chosen = refreshed(frozen, rows["id"].tolist(), rows["tag"].tolist(), test)
    if frozen is None or chosen.version != frozen.version:
        chosen = sets.add(chosen)
        context.log.info(f"Evaluation set {chosen.version} has {len(chosen.tags)} rows. {chosen.reason}")
    return chosen
