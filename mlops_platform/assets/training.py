"""The asset `trained_model`: fitted on the train split with the tuned parameters, logged and registered once.

How a model is fitted is in ``ml.classifier``; what decides whether a fit is needed (its fingerprint) is here.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_platform.assets.dataset import STREAMED
from mlops_platform.assets.declarations import TRAINING, json_digest
from mlops_platform.assets.evaluation_set import evaluation_set, training_versions
from mlops_platform.assets.sentence_encoder import tuned_encoder
from mlops_platform.errors import platform_errors_as_failures
from mlops_platform.ml.training_data.resampling import Recipe
from mlops_platform.resources.datasets.dataset_store import DatasetStore
from mlops_platform.resources.datasets.evaluation_set_store import EvaluationSetStore
from mlops_platform.resources.encoders.encoder_store import EncoderStore
from mlops_platform.resources.registry.model_registry import (
    CHALLENGER,
    CHAMPION,
    FINGERPRINT_TAG,
    MODEL_NAME,
    MlflowTracking,
)

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

    from mlops_platform.ml.classifier.out_of_core import Row
    from mlops_platform.ml.classifier.text_classifier import Params
    from mlops_platform.ml.embeddings.encoder import Encoder
    from mlops_platform.ml.evaluation.holdout import EvaluationSet
    from mlops_platform.ml.training_data.resampling import TrainingRow

# the sources and packages that determine which model the same data and parameters give
_MODEL_SOURCES = (
    "classifier/text.py",
    "classifier/text_classifier.py",
    "embeddings/encoder.py",
    "training_data/resampling.py",
)
_MODEL_PACKAGES = ("scikit-learn", "imbalanced-learn")
_STREAM_SOURCES = ("classifier/out_of_core.py", "classifier/hashed_features.py")
_TRAINING_COLUMNS = ("title", "description", "tag")
EXAMPLE_ROWS = 3


def code_version(*also: str) -> str:
    """Return a hash of the package versions and sources in `ml` that fit a model, those in `also` among them."""
    from importlib.metadata import version

    digest = hashlib.sha256(" ".join(version(package) for package in _MODEL_PACKAGES).encode())
    for name in (*_MODEL_SOURCES, *also):
        digest.update((Path(__file__).parents[1] / "ml" / name).read_bytes())
    return digest.hexdigest()[:12]


def fingerprint(
    dataset: str, params: dict[str, Any], code: str, seed: int, recipe: dict[str, Any] | None = None
) -> str:
    """Return the identity of a model; `recipe` holds what differs from the default training data and features."""
    return json_digest([dataset, params, code, seed, *([recipe] if recipe else [])])


class TrainingConfig(dg.Config):
    """Run config of the training."""

    experiment_name: str = Field("baselines", description="MLflow experiment of the run.")
    run_name: str = Field("sgd", description="Name of the MLflow run.")
    seed: int = Field(0, description="Seed of the calibration folds.")


def build_training_asset(recipe: Recipe) -> dg.AssetsDefinition:
    """Build the asset `trained_model`; `recipe` says how the train split becomes what the model is fitted on."""

    @dg.asset(
        **TRAINING,
        kinds={"scikitlearn", "mlflow"},
        # whether a run trains in memory or out of core is not known here: a change of either makes the asset stale, and
        # `fingerprint` decides whether the model changes
        code_version=code_version(*_STREAM_SOURCES),
        description=(
            f"A version of the registered model `{MODEL_NAME}`: a calibrated linear classifier on word and character "
            "TF-IDF, and on sentence vectors if MLOPS_FEATURES is sentence. The same data, parameters and code give "
            "the existing version instead of a new one."
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
        encoders: EncoderStore,
    ) -> dg.MaterializeResult[dict[str, Any]]:
        """Train, or return the version that the same training registered before."""
        from mlops_platform.ml.classifier import text_classifier

        with platform_errors_as_failures(ValueError):
            dataset = validated_dataset["version"]
            params = text_classifier.Params(**tuned_params["params"])
            encoder = tuned_encoder(encoders, tuned_params)
            measured = tuned_params.get("encoder") or {}
            tier = {"encoder": encoder.digest, "encoder_precision": measured["precision"]} if encoder else {}
            streamed = bool(validated_dataset.get(STREAMED))
            trainer: _InMemoryTrainer | _OutOfCoreTrainer
            if streamed:
                if recipe != recipe.weights_only():
                    context.log.warning(
                        "There are too many rows to train in memory: out of core, classes can be weighted "
                        "(MLOPS_BALANCE=weights or none), but rows are not resampled or augmented."
                    )
                trainer = _OutOfCoreTrainer(datasets, dataset, recipe.weights_only())
            else:
                trainer = _InMemoryTrainer(datasets, dataset, recipe, config.seed, params, encoder)
            changes = trainer.recipe.to_dict()
            identity = fingerprint(dataset, trainer.params, trainer.code, config.seed, {**changes, **tier})
            experiment_id = tracking.experiment(config.experiment_name)
            registered = tracking.find(identity)
            tracking.close_unfinished(experiment_id, identity, finished=registered.run_id if registered else None)
            reused = registered is not None
            training = None
            if registered is None:
                # refreshed first, as the evaluation would: a row of the old set may now be in the train split
                trained_on = training_versions(dataset, tracking.by_alias(CHAMPION))
                holdout = evaluation_set(context, datasets, evaluation_sets, dataset, trained_on, streamed=streamed)
                training = trainer.fit(holdout)
                registered = tracking.register(
                    training.model,
                    training.example,
                    experiment_id=experiment_id,
                    run_name=config.run_name,
                    # drift_report needs the tuned parameters, however the model was trained
                    params={
                        **params.to_dict(),
                        "seed": config.seed,
                        **changes,
                        **tier,
                        **trainer.logged_params,
                        **training.params,
                    },
                    metrics={
                        "cv_f1_weighted": tuned_params["score"],
                        "train_rows": float(training.rows),
                        **{name: measured[name] for name in ("f1_float32", "f1_int8") if name in measured},
                    },
                    tags={
                        FINGERPRINT_TAG: identity,
                        "dagster_run_id": context.run_id,
                        "data_version": dataset,
                        "code_version": trainer.code,
                    },
                    artifacts={"params.json": json.dumps(trainer.params, indent=2).encode()},
                    trusted_types=[
                        *text_classifier.TRUSTED_TYPES,
                        *(text_classifier.SENTENCE_TYPES if encoder else ()),
                    ],
                    sentence_vectors=encoder is not None,
                )
            context.log.info(
                f"Version {registered.version} of {MODEL_NAME} {'exists already' if reused else 'is new'}."
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
                "params": dg.MetadataValue.json(trainer.params),
                "dataset_version": dataset,
                "train_rows": validated_dataset["train_rows"],
                "features": f"TF-IDF and sentence vectors of encoder {encoder.digest[:12]}" if encoder else "TF-IDF",
                "composition": dg.MetadataValue.json(changes) if changes else "as the rows are",
                **(training.metadata if training else {}),
            },
        )

    return trained_model


@dataclass(frozen=True)
class _Training:
    """A fitted model, example input, the number of training rows, metadata, and more parameters for the MLflow run."""

    model: "Pipeline"
    example: "pd.DataFrame"
    rows: int
    metadata: dict[str, Any]
    params: dict[str, str] = field(default_factory=dict)


class _InMemoryTrainer:
    """Trains with all rows in memory."""

    def __init__(
        self,
        datasets: DatasetStore,
        dataset: str,
        recipe: Recipe,
        seed: int,
        params: "Params",
        encoder: "Encoder | None",
    ) -> None:
        self._datasets, self._dataset, self.recipe, self._seed = datasets, dataset, recipe, seed
        self._params, self._encoder = params, encoder
        self.params, self.code = params.to_dict(), code_version()
        self.logged_params: dict[str, Any] = {}

    def fit(self, holdout: "EvaluationSet | None") -> _Training:
        """Fit on the train split, of which no row may be in the holdout set."""
        from mlops_platform.ml.classifier import text_classifier
        from mlops_platform.ml.evaluation.holdout import check_never_trained_on
        from mlops_platform.ml.training_data.resampling import compose_rows

        train = self._datasets.load(self._dataset, "train")
        rows = compose_rows(train, self.recipe, seed=self._seed)
        if holdout is not None:
            check_never_trained_on(holdout, (row.id for row in rows))
        frame = text_classifier.frame(*zip(*((row.title, row.description) for row in rows), strict=True))
        fitted = text_classifier.fit(
            frame,
            [row.tag for row in rows],
            self._params,
            seed=self._seed,
            # copies of a row stay in one calibration fold
            groups=[row.id for row in rows] if self.recipe.to_dict() else None,
            weighted=self.recipe.balance == "weights",
            encoder=self._encoder,
        )
        return _Training(fitted, frame.head(EXAMPLE_ROWS), len(frame), _composition(train["tag"], rows))


class _OutOfCoreTrainer:
    """Trains batch by batch, where there are more rows than MLOPS_STREAM_ABOVE_ROWS."""

    def __init__(self, datasets: DatasetStore, dataset: str, recipe: Recipe) -> None:
        from mlops_platform.ml.classifier.out_of_core import STREAM

        self._datasets, self._dataset, self.recipe = datasets, dataset, recipe
        self.params, self.code = asdict(STREAM), code_version(*_STREAM_SOURCES)
        self.logged_params = {f"stream_{name}": value for name, value in self.params.items()}

    def fit(self, holdout: "EvaluationSet | None") -> _Training:
        """Fit on the train split, of which no row may be in the holdout set."""
        from itertools import islice

        from mlops_platform.ml.classifier import out_of_core, text_classifier
        from mlops_platform.ml.evaluation.holdout import check_never_trained_on

        if holdout is not None:
            check_never_trained_on(holdout, self._datasets.tags_of(self._dataset, holdout.tags, "train"))
        counts = self._datasets.counts(self._dataset, "train")
        fitted = out_of_core.fit_stream(self._rows, counts, weighted=self.recipe.balance == "weights")
        titles, descriptions, _ = zip(*islice(self._rows(), EXAMPLE_ROWS), strict=True)
        features = "words and character n-grams" if fitted.characters else "words"
        return _Training(
            fitted.pipeline,
            text_classifier.frame(titles, descriptions),
            sum(counts.values()),
            {
                "rows_by_tag": dg.MetadataValue.table(
                    [dg.TableRecord({"tag": tag, "rows": rows}) for tag, rows in counts.items()]
                ),
                "held_out_rows": fitted.held_out,
                "features": f"TF-IDF of hashed {features}",
                **({} if fitted.char_gain is None else {"gain_by_character_ngrams": round(fitted.char_gain, 4)}),
                "evaluations": dg.MetadataValue.table(
                    [dg.TableRecord({"rows": rows, "brier": brier}) for rows, brier in fitted.evaluations.items()]
                ),
            },
            {"stream_features": features},
        )

    def _rows(self) -> "Iterator[Row]":
        for batch in self._datasets.batches(self._dataset, "train", _TRAINING_COLUMNS):
            yield from zip(*(batch.column(name).to_pylist() for name in _TRAINING_COLUMNS), strict=True)


def _composition(tags: Iterable[str], rows: "Sequence[TrainingRow]") -> dict[str, Any]:
    before, after = Counter(tags), Counter(row.tag for row in rows)
    return {
        "rows_by_tag": dg.MetadataValue.table(
            [dg.TableRecord({"tag": tag, "before": before[tag], "after": after[tag]}) for tag in sorted(before)]
        ),
        "changed_copies": sum(row.change is not None for row in rows),
    }
