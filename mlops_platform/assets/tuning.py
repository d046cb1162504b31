"""The asset `tuned_params`: hyperparameters by cross-validation on the train split, in a study that persists.

The search space and the choice are in ``ml.tuning``; where studies are stored is `StudyStore`.
"""

import json
import math
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_platform.assets.dataset import SAMPLE_ROWS, STREAMED
from mlops_platform.assets.declarations import TRAINING, json_digest
from mlops_platform.assets.sentence_encoder import choose_encoder
from mlops_platform.errors import platform_errors_as_failures
from mlops_platform.resources.datasets.dataset_store import DatasetStore
from mlops_platform.resources.encoders.encoder_store import EncoderStore
from mlops_platform.resources.study_store import StudyStore

if TYPE_CHECKING:
    from mlops_platform.ml.tuning.encoder_precision import Precision
    from mlops_platform.ml.tuning.search import TrialRecord

_SAMPLED = (
    "There are too many rows to train in memory: the model is trained out of core with fixed parameters. These were "
    "tuned on a sample and serve label_issues only."
)


def build_tuning_asset(num_trials: int, workers: int = 1, cpu_seconds: float = math.inf) -> dg.AssetsDefinition:
    """Build the asset `tuned_params`.

    Args:
        num_trials: Default of `num_trials` in the run config.
        workers: Trials that run at once.
        cpu_seconds: CPU seconds for all trials of a dataset.
    """
    default_trials = num_trials

    class TuningConfig(dg.Config):
        """Run config of the search."""

        study_name: str = Field("optimization", description="Optuna study to create or continue.")
        num_trials: int = Field(
            default_trials, ge=1, description="Finished trials that the study should hold for this dataset."
        )
        seed: int = Field(0, description="Seed of the folds and of the sampler.")

    @dg.asset(
        **TRAINING,
        kinds={"optuna", "scikitlearn"},
        description=(
            "The best hyperparameters by cross-validation on the train split, if folds that the search did not use "
            "confirm them; otherwise the defaults. The Optuna study persists: a killed search resumes, and the same "
            "dataset with the same number of trials runs no trial."
        ),
    )
    def tuned_params(
        context: dg.AssetExecutionContext,
        config: TuningConfig,
        validated_dataset: dict[str, Any],
        datasets: DatasetStore,
        studies: dg.ResourceParam[StudyStore],
        encoders: EncoderStore,
    ) -> dg.MaterializeResult[dict[str, Any]]:
        from mlops_platform.ml.classifier import text_classifier
        from mlops_platform.ml.evaluation import plots
        from mlops_platform.ml.tuning import search as tuning

        version = validated_dataset["version"]
        with platform_errors_as_failures(ValueError):
            sampled = bool(validated_dataset.get(STREAMED))
            train = datasets.sample(version, "train", SAMPLE_ROWS) if sampled else datasets.load(version, "train")
            texts = text_classifier.frame(train["title"], train["description"])[text_classifier.TEXT].tolist()
            tags = train["tag"].tolist()
            chosen = None if sampled else choose_encoder(encoders, texts, tags)
            if chosen is not None:
                context.log.info(_precision_line(chosen))
            with studies.hold(config.study_name) as study:
                result = tuning.tune(
                    study,
                    texts,
                    tags,
                    num_trials=config.num_trials,
                    seed=config.seed,
                    data_version=version,
                    cpu_seconds=cpu_seconds,
                    workers=workers,
                    encoder=chosen.encoder if chosen else None,
                    callback=lambda trial, best: context.log.info(_trial_line(trial, best)),
                )
        context.log.info(result.verdict)
        params = result.params.to_dict()
        value: dict[str, Any] = {"params": params, "score": result.score, "dataset_version": version}
        identity: dict[str, Any] = {"params": params, "dataset": version}
        if sampled:
            value["encoder"] = None  # a model trained out of core has no sentence vectors, whatever MLOPS_FEATURES is
        elif chosen is not None:
            value["encoder"], identity["encoder"] = chosen.to_dict(), chosen.encoder.digest
        return dg.MaterializeResult(
            value=value,
            data_version=dg.DataVersion(json_digest(identity)),
            metadata={
                "cv_f1_weighted": round(result.score, 4),
                "default_cv_f1_weighted": round(result.baseline_score, 4),
                "params": dg.MetadataValue.json(params),
                "choice": result.verdict,
                "study": config.study_name,
                "trials": len(result.trials),
                "trials_run_now": result.trials_run,
                "trials_pruned": sum(trial.pruned for trial in result.trials),
                "folds_saved_by_pruning": round(result.folds_saved, 2),
                **({"sampled_rows": len(train), "note": _SAMPLED} if sampled else {}),
                **({"encoder": dg.MetadataValue.json(chosen.to_dict())} if chosen else {}),
                "history": dg.MetadataValue.md(plots.embed(plots.tuning_history_png(result.trials))),
            },
        )

    return tuned_params


def _trial_line(trial: "TrialRecord", best: float) -> str:
    return (
        f"Trial {trial.number} ({trial.source}{', pruned' if trial.pruned else ''}): F1 {trial.score:.4f} in "
        f"{trial.seconds:.2f} CPU s, best {best:.4f}, {json.dumps(trial.params.to_dict())}"
    )


def _precision_line(chosen: "Precision") -> str:
    return (
        f"The sentence encoder has {chosen.name} weights: on {chosen.rows} rows int8 gives a weighted F1 of "
        f"{chosen.f1_small:.4f} and float32 {chosen.f1_exact:.4f}."
    )
