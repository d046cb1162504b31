"""The model: fitted on the training split with the tuned parameters, logged and registered once."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_platform.assets.failures import sentences
from mlops_platform.assets.frozen import evaluation_set, learnt_from
from mlops_platform.ml.recipe import Recipe
from mlops_platform.resources.datasets import DatasetStore
from mlops_platform.resources.evaluation_sets import EvaluationSetStore
from mlops_platform.resources.tracking import CHALLENGER, CHAMPION, FINGERPRINT_TAG, MODEL_NAME, MlflowTracking

if TYPE_CHECKING:
    from mlops_platform.ml.composition import Composed

# the sources and packages that decide which model the same data and parameters give
_MODEL_SOURCES = ("text.py", "model.py", "composition.py", "recipe.py", "splits.py")
_MODEL_PACKAGES = ("scikit-learn", "imbalanced-learn")
EXAMPLE_ROWS = 3


def code_version() -> str:
    """Version of the code that makes a model: a hash of its sources and of the packages' versions.

    Returns:
        Twelve hex digits.
    """
    from importlib.metadata import version

    digest = hashlib.sha256(" ".join(version(package) for package in _MODEL_PACKAGES).encode())
    for name in _MODEL_SOURCES:
        digest.update((Path(__file__).parents[1] / "ml" / name).read_bytes())
    return digest.hexdigest()[:12]


def fingerprint(
    dataset: str, params: dict[str, Any], code: str, seed: int, recipe: dict[str, Any] | None = None
) -> str:
    """Identity of a model: the same fingerprint is the same model.

    Args:
        dataset: Data version of the snapshot.
        params: The model's parameters.
        code: Code version.
        seed: Seed of the fit.
        recipe: What departs from the defaults in how the training data was composed.

    Returns:
        Sixteen hex digits.
    """
    identity = json.dumps([dataset, params, code, seed, *([recipe] if recipe else [])], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


class TrainingConfig(dg.Config):
    """Run config of the training."""

    experiment_name: str = Field("baselines", description="MLflow experiment that takes the run.")
    run_name: str = Field("sgd", description="Name of the MLflow run.")
    seed: int = Field(0, description="Seed of the calibration folds.")


def build_training_asset(recipe: Recipe) -> dg.AssetsDefinition:
    """Make the `trained_model` asset.

    Args:
        recipe: How the rows of the train split become what the model is fitted on.
    """

    @dg.asset(
        group_name="training",
        owners=["team:ml"],
        kinds={"scikitlearn", "mlflow"},
        code_version=code_version(),
        description=(
            f"A version of the registered model `{MODEL_NAME}`: word and character TF-IDF with a calibrated linear "
            "classifier. The same data, parameters and code give the version that is there already."
        ),
    )
    def trained_model(
        context: dg.AssetExecutionContext,
        config: TrainingConfig,
        validated_dataset: dict[str, Any],
        tuned_params: dict[str, Any],
        datasets: DatasetStore,
        evaluation_sets: EvaluationSetStore,
        tracking: MlflowTracking,
    ) -> dg.MaterializeResult[dict[str, Any]]:
        """Train, or find the version that the same training made before."""
        from mlops_platform.ml import model as models
        from mlops_platform.ml.composition import compose_rows
        from mlops_platform.ml.evaluation_set import check_never_trained_on

        with sentences(ValueError):
            dataset = validated_dataset["version"]
            params = models.Params.from_dict(tuned_params["params"])
            code = code_version()
            changes = recipe.to_dict()
            identity = fingerprint(dataset, params.to_dict(), code, config.seed, changes)
            experiment_id = tracking.experiment(config.experiment_name)
            registered = tracking.find(identity)
            tracking.close_unfinished(experiment_id, identity, finished=registered.run_id if registered else None)
            reused = registered is not None
            composed = None
            if registered is None:
                composed = compose_rows(datasets.load(dataset, "train"), recipe, seed=config.seed)
                # the set is refreshed first, as the evaluation would: rows may have come to the train split by rule
                learnt = learnt_from(dataset, tracking.by_alias(CHAMPION))
                frozen = evaluation_set(context, datasets, evaluation_sets, dataset, learnt)
                if frozen is not None:
                    check_never_trained_on(frozen, (row.id for row in composed.rows))
                frame = models.frame(*zip(*((row.title, row.description) for row in composed.rows), strict=True))
                fitted = models.fit(
                    frame,
                    [row.tag for row in composed.rows],
                    params,
                    seed=config.seed,
                    # copies of a row, where there are any, are calibrated together
                    groups=[row.id for row in composed.rows] if changes else None,
                    weighted=recipe.weighs_classes,
                )
                tags = {
                    FINGERPRINT_TAG: identity,
                    "dagster_run_id": context.run_id,
                    "data_version": dataset,
                    "code_version": code,
                }
                registered = tracking.register(
                    fitted,
                    frame.head(EXAMPLE_ROWS),
                    experiment_id=experiment_id,
                    run_name=config.run_name,
                    params={**params.to_dict(), "seed": config.seed, **changes},
                    metrics={"cv_f1_weighted": tuned_params["score"], "train_rows": float(len(frame))},
                    tags=tags,
                    artifacts={"params.json": json.dumps(params.to_dict(), indent=2).encode()},
                    trusted_types=list(models.TRUSTED_TYPES),
                )
            context.log.info(
                f"Version {registered.version} of {MODEL_NAME} {'was there already' if reused else 'is new'}."
            )
            tracking.set_alias(CHALLENGER, registered.version, {})
        value = {
            "version": registered.version,
            "run_id": registered.run_id,
            "fingerprint": identity,
            "dataset_version": dataset,
        }
        return dg.MaterializeResult(
            value=value,
            data_version=dg.DataVersion(identity),
            metadata={
                "model_version": registered.version,
                "new_version": not reused,
                "mlflow_run": dg.MetadataValue.url(tracking.run_url(registered.run_id)),
                "registered_model": dg.MetadataValue.url(tracking.version_url(registered.version)),
                "params": dg.MetadataValue.json(params.to_dict()),
                "dataset_version": dataset,
                "train_rows": validated_dataset["train_rows"],
                "composition": dg.MetadataValue.json(changes) if changes else "as the rows are",
                **_composition(composed),
            },
        )

    return trained_model


def _composition(composed: "Composed | None") -> dict[str, Any]:
    """What a new version was fitted on, by tag; nothing for one that was there already."""
    if composed is None:
        return {}
    return {
        "rows_by_tag": dg.MetadataValue.table([dg.TableRecord(each) for each in composed.by_tag()]),
        "replayed_rows": composed.replayed,
        "left_out_rows": composed.left_out,
        "changed_copies": composed.copies,
    }
