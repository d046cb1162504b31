"""The model: fitted on the training split with the tuned parameters, logged and registered once."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_platform.assets.dataset import STREAMED
from mlops_platform.assets.evaluation_set import evaluation_set, learnt_from
from mlops_platform.assets.sentence_encoder import tuned_encoder
from mlops_platform.errors import platform_errors_as_failures
from mlops_platform.ml.training_data.config import Recipe
from mlops_platform.resources.datasets.evaluation_set_store import EvaluationSetStore
from mlops_platform.resources.datasets.store import DatasetStore
from mlops_platform.resources.encoders.store import EncoderStore
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

    from mlops_platform.ml.classifier.out_of_core import Batch
    from mlops_platform.ml.classifier.text_classifier import Params
    from mlops_platform.ml.embeddings.encoder import Encoder
    from mlops_platform.ml.evaluation.holdout import EvaluationSet
    from mlops_platform.ml.training_data.resampling import Composed

# the sources and packages that decide which model the same data and parameters give
_MODEL_SOURCES = (
    "classifier/text.py",
    "classifier/text_classifier.py",
    "embeddings/encoder.py",
    "training_data/config.py",
    "training_data/resampling.py",
    "training_data/splits.py",
)
_MODEL_PACKAGES = ("scikit-learn", "imbalanced-learn")
_STREAM_SOURCES = ("classifier/out_of_core.py", "classifier/hashed_features.py")
_LEARNT = ("title", "description", "tag")
EXAMPLE_ROWS = 3


def code_version(*also: str) -> str:
    """Version of the code that makes a model: a hash of its sources and of the packages' versions.

    Args:
        also: Paths of further sources in `ml`.

    Returns:
        Twelve hex digits.
    """
    from importlib.metadata import version

    digest = hashlib.sha256(" ".join(version(package) for package in _MODEL_PACKAGES).encode())
    for name in (*_MODEL_SOURCES, *also):
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
        recipe: What departs from the defaults in how the training data was composed, and in the features.

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
        # which way a run goes is not known before it: Dagster asks again if either changed, and `fingerprint` tells
        # whether the model did
        code_version=code_version(*_STREAM_SOURCES),
        description=(
            f"A version of the registered model `{MODEL_NAME}`: word and character TF-IDF, with sentence vectors "
            "beside it where MLOPS_FEATURES says so, and a calibrated linear classifier. The same data, parameters and "
            "code give the version that is there already."
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
        """Train, or find the version that the same training made before."""
        from mlops_platform.ml.classifier import text_classifier

        with platform_errors_as_failures(ValueError):
            dataset = validated_dataset["version"]
            params = text_classifier.Params.from_dict(tuned_params["params"])
            encoder = tuned_encoder(encoders, tuned_params)
            measured = tuned_params.get("encoder") or {}
            tier = {"encoder": encoder.digest, "encoder_precision": measured["precision"]} if encoder else {}
            streamed = bool(validated_dataset.get(STREAMED))
            if streamed:
                if recipe != recipe.weights_only():
                    context.log.warning(
                        "There are too many rows to train on in memory: the model is streamed, which can weigh classes "
                        "(MLOPS_BALANCE=weights or none) but neither resamples, augments nor replays rows."
                    )
                changes = recipe.weights_only().to_dict()
                way: _Whole | _Streamed = _Streamed(datasets, dataset, recipe.weights_only())
            else:
                changes = recipe.to_dict()
                way = _Whole(datasets, dataset, recipe, config.seed, params, encoder)
            identity = fingerprint(dataset, way.params, way.code, config.seed, {**changes, **tier})
            experiment_id = tracking.experiment(config.experiment_name)
            registered = tracking.find(identity)
            tracking.close_unfinished(experiment_id, identity, finished=registered.run_id if registered else None)
            reused = registered is not None
            made = None
            if registered is None:
                # the set is refreshed first, as the evaluation would: rows may have come to the train split by rule
                learnt = learnt_from(dataset, tracking.by_alias(CHAMPION))
                frozen = evaluation_set(context, datasets, evaluation_sets, dataset, learnt, streamed=streamed)
                made = way.fit(frozen)
                tags = {
                    FINGERPRINT_TAG: identity,
                    "dagster_run_id": context.run_id,
                    "data_version": dataset,
                    "code_version": way.code,
                }
                registered = tracking.register(
                    made.model,
                    made.example,
                    experiment_id=experiment_id,
                    run_name=config.run_name,
                    # drift's tests ask for these, whichever way the model was trained
                    params={**params.to_dict(), "seed": config.seed, **changes, **tier, **way.told, **made.params},
                    metrics={
                        "cv_f1_weighted": tuned_params["score"],
                        "train_rows": float(made.rows),
                        **{name: measured[name] for name in ("f1_float32", "f1_int8") if name in measured},
                    },
                    tags=tags,
                    artifacts={"params.json": json.dumps(way.params, indent=2).encode()},
                    trusted_types=[
                        *text_classifier.TRUSTED_TYPES,
                        *(text_classifier.SENTENCE_TYPES if encoder else ()),
                    ],
                    sentence_vectors=encoder is not None,
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
                "params": dg.MetadataValue.json(way.params),
                "dataset_version": dataset,
                "train_rows": validated_dataset["train_rows"],
                "features": f"TF-IDF and sentence vectors of encoder {encoder.digest[:12]}" if encoder else "TF-IDF",
                "composition": dg.MetadataValue.json(changes) if changes else "as the rows are",
                **(made.metadata if made else {}),
            },
        )

    return trained_model


@dataclass(frozen=True)
class _Made:
    """A fitted model, rows as it takes them, how many it learnt from, what to tell of it, what its run shall know."""

    model: "Pipeline"
    example: "pd.DataFrame"
    rows: int
    metadata: dict[str, Any]
    params: dict[str, str] = field(default_factory=dict)


class _Whole:
    """Training with all rows in memory."""

    def __init__(
        self,
        datasets: DatasetStore,
        dataset: str,
        recipe: Recipe,
        seed: int,
        params: "Params",
        encoder: "Encoder | None",
    ) -> None:
        self._datasets, self._dataset, self._recipe, self._seed = datasets, dataset, recipe, seed
        self._params, self._encoder = params, encoder
        self.params, self.code = params.to_dict(), code_version()
        self.told: dict[str, Any] = {}

    def fit(self, frozen: "EvaluationSet | None") -> _Made:
        """Fit on the train split, of which no row may be in the evaluation set."""
        from mlops_platform.ml.classifier import text_classifier
        from mlops_platform.ml.evaluation.holdout import check_never_trained_on
        from mlops_platform.ml.training_data.resampling import compose_rows

        composed = compose_rows(self._datasets.load(self._dataset, "train"), self._recipe, seed=self._seed)
        if frozen is not None:
            check_never_trained_on(frozen, (row.id for row in composed.rows))
        frame = text_classifier.frame(*zip(*((row.title, row.description) for row in composed.rows), strict=True))
        fitted = text_classifier.fit(
            frame,
            [row.tag for row in composed.rows],
            self._params,
            seed=self._seed,
            # copies of a row, where there are any, are calibrated together
            groups=[row.id for row in composed.rows] if self._recipe.to_dict() else None,
            weighted=self._recipe.weighs_classes,
            encoder=self._encoder,
        )
        return _Made(fitted, frame.head(EXAMPLE_ROWS), len(frame), _composition(composed))


class _Streamed:
    """Training batch by batch, where there are more rows than shall be in memory."""

    def __init__(self, datasets: DatasetStore, dataset: str, recipe: Recipe) -> None:
        from mlops_platform.ml.classifier.out_of_core import STREAM

        self._datasets, self._dataset, self._recipe = datasets, dataset, recipe
        self.params, self.code = STREAM.to_dict(), code_version(*_STREAM_SOURCES)
        self.told = {f"stream_{name}": value for name, value in self.params.items()}

    def fit(self, frozen: "EvaluationSet | None") -> _Made:
        """Fit on the train split, of which no row may be in the evaluation set."""
        from itertools import islice

        from mlops_platform.ml.classifier import out_of_core, text_classifier
        from mlops_platform.ml.evaluation.holdout import check_never_trained_on

        if frozen is not None:
            check_never_trained_on(frozen, self._datasets.tags_of(self._dataset, frozen.tags, "train"))
        counts = self._datasets.counts(self._dataset, "train")
        weights = out_of_core.class_weights(counts) if self._recipe.weighs_classes else None
        made = out_of_core.fit_stream(self._rows, counts, weights=weights)
        first = next(iter(self._rows()))
        example = text_classifier.frame(*(islice(texts, EXAMPLE_ROWS) for texts in (first.titles, first.descriptions)))
        features = "words and character n-grams" if made.characters else "words"
        return _Made(
            made.pipeline,
            example,
            made.rows + made.held_out,
            {
                "rows_by_tag": dg.MetadataValue.table(
                    [dg.TableRecord({"tag": tag, "rows": rows}) for tag, rows in counts.items()]
                ),
                "held_out_rows": made.held_out,
                "features": f"TF-IDF of hashed {features}",
                **({} if made.char_gain is None else {"gain_by_character_ngrams": round(made.char_gain, 4)}),
                "evaluations": dg.MetadataValue.table([dg.TableRecord(vars(each)) for each in made.evaluations]),
            },
            {"stream_features": features},
        )

    def _rows(self) -> "Iterator[Batch]":
        from mlops_platform.ml.classifier.out_of_core import Batch

        for batch in self._datasets.batches(self._dataset, "train", _LEARNT):
            yield Batch(*(batch.column(name).to_pylist() for name in _LEARNT))


def _composition(composed: "Composed") -> dict[str, Any]:
    """What a new version was fitted on, by tag."""
    return {
        "rows_by_tag": dg.MetadataValue.table([dg.TableRecord(each) for each in composed.by_tag()]),
        "replayed_rows": composed.replayed,
        "left_out_rows": composed.left_out,
        "changed_copies": composed.copies,
    }
