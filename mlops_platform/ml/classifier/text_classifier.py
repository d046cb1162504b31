"""The text classifier: its parameters, its scikit-learn pipeline, and fitting it in memory.

The pipeline holds stock scikit-learn classes only, and `embeddings.encoder` is bundled with a model that uses it, so
a saved model loads where this package is absent. Cross-validation and the choice of parameters belong in `tuning`,
training beyond memory in `out_of_core`, and storing models in `resources.registry`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from scipy.sparse import diags_array
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import chi2
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from mlops_platform.ml.classifier.text import compose
from mlops_platform.ml.embeddings.encoder import Encoder, SentenceVectors

TEXT = "text"  # the one input column of a model
CHAR_NGRAM_MIN = 2
CALIBRATION_FOLDS = 5
LONGEST_TERM = 250  # letters; with longer terms a dictionary stores the vocabulary in less space than an array
TOLERANCE = 1e-5  # of the ridge's solution: at 1e-3 one prediction in ten thousand differed
RELEVANCE = 0.1  # 0 is the plain ridge; from 0.07 to 0.15 the score hardly differs

# With this many classes or more the default is the SVM. Weighted F1 of ridge and SVM on one fold of banking77:
# 10 classes, 0.973 and 0.983; 20, 0.947 and 0.957; 40, 0.905 and 0.942; 77, 0.819 and 0.906.
MANY_CLASSES = 20

# the types in a saved model that skops does not trust by default
TRUSTED_TYPES = (
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.model_selection._split.StratifiedKFold",
)
# in addition, for a model with sentence vectors
SENTENCE_TYPES = (
    "mlops_platform.ml.embeddings.encoder.Encoder",
    "mlops_platform.ml.embeddings.encoder.SentenceVectors",
)

Classifier = Literal["ridge", "svm"]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class Params:
    """The model's parameters. The defaults score well without tuning.

    Attributes:
        alpha: Strength of the penalty; the SVM's C is 1 / (2 alpha).
        word_ngram_max: Longest word n-gram.
        char_ngram_max: Longest character n-gram within a word.
        min_df: Rows that must hold an n-gram for it to count.
        char_weight: Weight of the character features relative to the word features.
        sentence_weight: Weight of the sentence vectors relative to the word features; None for no such vectors.
        classifier: "ridge", a ridge classifier, or "svm", a linear support vector machine.
    """

    alpha: Positive = 1.0
    word_ngram_max: Annotated[int, Field(ge=1, le=3)] = 1
    char_ngram_max: Annotated[int, Field(ge=CHAR_NGRAM_MIN, le=6)] = 4
    min_df: Annotated[int, Field(ge=1, le=1000)] = 1
    char_weight: Positive = 1.0
    sentence_weight: Positive | None = None
    classifier: Classifier = "ridge"

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as JSON-able values; without `sentence_weight` where it is None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


DEFAULT = Params()
# Equal weights. On 6x5 folds of the 764 Made With ML rows no other weight was better by more than noise (0.933
# weighted F1; weights from 0.7 to 2 gave 0.923 to 0.933), nor on 3x5 folds of the sample (0.956; 0.945 to 0.956).
SENTENCE_DEFAULT = Params(sentence_weight=1.0)


def default_of(labels: Iterable[str], encoder: object | None = None) -> Params:
    """Return the default parameters for these labels, with or without sentence vectors."""
    default = DEFAULT if encoder is None else SENTENCE_DEFAULT
    return replace(default, classifier="svm") if len(set(labels)) >= MANY_CLASSES else default


def frame(titles: Iterable[object], descriptions: Iterable[object]) -> pd.DataFrame:
    """Build a model's input, a frame with the single column "text"; None and NaN count as empty."""
    return pd.DataFrame({TEXT: [compose(*pair) for pair in zip(titles, descriptions, strict=True)]}, dtype=object)


class RelevanceRidge(RidgeClassifier):
    """A ridge classifier with a lighter penalty on discriminative features.

    Each feature is scaled by its chi-squared statistic to the power `RELEVANCE`, as in supervised term weighting
    (Debole & Sebastiani 2003). The scale is folded into the coefficients, so the fitted model takes unscaled
    features. On 6x5 folds, weighted F1 against the plain ridge: +0.0036 (standard error 0.0018) on the 764
    Made With ML rows, +0.0023 (0.0018) on the sample.
    """

    coef_: npt.NDArray[np.float64]

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RelevanceRidge:  # noqa: N803 - scikit-learn's name
        """Fit on sparse, non-negative features of shape (n, features)."""
        statistic = np.nan_to_num(chi2(X, y)[0])
        if not statistic.any():
            super().fit(X, y, sample_weight)
            return self
        scale = (statistic / statistic.max()) ** RELEVANCE
        # preserve the rows' mean squared length, so that alpha means the same as without the scale
        scale *= np.sqrt(X.multiply(X).sum() / (X.multiply(X) @ scale**2).sum())
        super().fit(X @ diags_array(scale), y, sample_weight)
        self.coef_ = self.coef_ * scale
        return self

    def plain(self) -> RidgeClassifier:
        """Return the fitted model as scikit-learn's own class, which loads where this package is absent."""
        ridge = RidgeClassifier(**self.get_params())
        vars(ridge).update(vars(self))
        return ridge


def build_tfidf(kind: Literal["word", "char"], params: Params) -> TfidfVectorizer:
    """Build the vectorizer of word n-grams, or of character n-grams within words."""
    return TfidfVectorizer(
        analyzer="word" if kind == "word" else "char_wb",
        ngram_range=(1, params.word_ngram_max) if kind == "word" else (CHAR_NGRAM_MIN, params.char_ngram_max),
        min_df=params.min_df,
        sublinear_tf=True,
        strip_accents="unicode",
    )


def build_classifier(params: Params, *, weighted: bool = True) -> RidgeClassifier | LinearSVC:
    """Build the uncalibrated linear classifier; `weighted` balances the classes.

    With sentence vectors it is the plain ridge: relevance gains nothing there (0.933 weighted F1 without, 0.934 with,
    standard error 0.0035, on 6x5 folds) and is undefined for negative features.
    """
    weight = "balanced" if weighted else None
    if params.classifier == "svm":
        return LinearSVC(C=1 / (2 * params.alpha), class_weight=weight, random_state=0)
    kind = RelevanceRidge if params.sentence_weight is None else RidgeClassifier
    return kind(alpha=params.alpha, class_weight=weight, solver="sparse_cg", tol=TOLERANCE)


def build_pipeline(
    params: Params,
    *,
    calibration_folds: int = CALIBRATION_FOLDS,
    seed: int = 0,
    weighted: bool = True,
    encoder: Encoder | None = None,
) -> Pipeline:
    """Build the unfitted pipeline, from a frame with the column "text" to tags and probabilities.

    Sublinear word and character TF-IDF, and sentence vectors if there is an encoder, feed a class-balanced ridge
    classifier (Rifkin & Lippert 2007; `RelevanceRidge` on TF-IDF alone) or a linear SVM. Temperature scaling, fitted
    on out-of-fold scores, turns scores into probabilities (Guo et al. 2017). It never changes the predicted class, so
    what tuning measures on uncalibrated scores holds for the calibrated model.

    Args:
        params: The model's parameters.
        calibration_folds: Folds of the calibration, at least 2.
        seed: Seed of the calibration folds.
        weighted: Whether to balance the classes.
        encoder: Encoder of the sentence vectors.

    Raises:
        ValueError: The parameters have a sentence weight without an encoder, or an encoder without a weight.
    """
    if (params.sentence_weight is None) != (encoder is None):
        weighs = "do not weigh" if params.sentence_weight is None else "weigh"
        given = "no encoder" if encoder is None else "an encoder"
        raise ValueError(f"The parameters {weighs} sentence vectors and there is {given}: tune the parameters again.")
    blocks: list[tuple[str, Any, str]] = [
        ("word", build_tfidf("word", params), TEXT),
        ("char", build_tfidf("char", params), TEXT),
    ]
    weights = {"word": 1.0, "char": params.char_weight}
    if encoder is not None and params.sentence_weight is not None:
        blocks.append(("sentence", SentenceVectors(encoder), TEXT))
        weights["sentence"] = params.sentence_weight
    features = ColumnTransformer(blocks, transformer_weights=weights, sparse_threshold=1.0)
    folds = StratifiedKFold(calibration_folds, shuffle=True, random_state=seed)
    classifier = CalibratedClassifierCV(
        build_classifier(params, weighted=weighted), method="temperature", cv=folds, ensemble=False
    )
    return Pipeline([("features", features), ("classifier", classifier)])


def encoder_of(model: Pipeline) -> Encoder | None:
    """Return the encoder of a fitted model's sentence vectors; None without such vectors."""
    # an out-of-core model has another kind of first step
    steps = {name: step for name, step, _ in getattr(model[0], "transformers_", ())}
    return steps["sentence"].encoder if "sentence" in steps else None


def check_classes(labels: Sequence[str], *, least: int = 2) -> Counter[str]:
    """Return the number of rows of each class.

    Raises:
        ValueError: There are no rows, only one class, or a class with fewer than `least` rows.
    """
    counts = Counter(labels)
    if not counts:
        raise ValueError("There are no labeled rows to train on: check the tags source.")
    if len(counts) == 1:
        raise ValueError(f"All {len(labels)} rows have the tag {labels[0]!r}; a classifier needs two tags or more.")
    rare = sorted(name for name, rows in counts.items() if rows < least)
    if rare:
        raise ValueError(
            f"Too few rows have the tag {', '.join(map(repr, rare))}: each tag needs {least} rows or more, so"
            " add rows or merge the tag into another."
        )
    return counts


def grouped_folds(
    groups: Sequence[int], labels: Sequence[str], folds: StratifiedKFold
) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Return the (train, held-out) row numbers of stratified folds that never split a group.

    All rows of a group (a row and its copies) have one label. Unlike StratifiedGroupKFold's, each training part holds
    every label that has two groups or more.
    """
    _, first, group_of = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    group_folds = folds.split(first, np.asarray(labels)[first])
    return [(np.flatnonzero(np.isin(group_of, a)), np.flatnonzero(np.isin(group_of, b))) for a, b in group_folds]


def fit(
    frame: pd.DataFrame,
    labels: Sequence[str],
    params: Params = DEFAULT,
    *,
    seed: int = 0,
    groups: Sequence[int] | None = None,
    weighted: bool = True,
    encoder: Encoder | None = None,
) -> Pipeline:
    """Fit the pipeline. The same rows in the same order, parameters and seed give the same model bit for bit.

    Args:
        frame: n rows with the column "text" (see `frame`).
        labels: Tag of each row, length n.
        params: The model's parameters.
        seed: Seed of the calibration folds.
        groups: Id of each row, length n, if some rows are copies of others: calibration folds that separate copies
            would make the model overconfident. By default there are no copies.
        weighted: Whether to balance the classes.
        encoder: Encoder of the sentence vectors, if the parameters have a sentence weight.

    Returns:
        The fitted pipeline; `classes_` are the sorted tags. Calibration uses 5 folds, or as many as the
        rarest tag has rows (or groups).

    Raises:
        ValueError: The rows cannot be trained on: none, one tag, a tag with one row, no n-gram that `min_df`
            rows share, or lengths that differ; or encoder and parameters do not match.
    """
    tags = [str(label) for label in labels]
    if len(frame) != len(tags):
        raise ValueError(f"There are {len(frame)} texts and {len(tags)} tags; give one tag a text.")
    distinct = tags if groups is None else list(dict(zip(groups, tags, strict=True)).values())
    folds = min(CALIBRATION_FOLDS, *check_classes(distinct).values())
    pipeline = build_pipeline(params, calibration_folds=folds, seed=seed, weighted=weighted, encoder=encoder)
    classifier = pipeline.named_steps["classifier"]
    splitter: StratifiedKFold = classifier.cv
    if groups is not None:
        classifier.cv = grouped_folds(groups, tags, splitter)
    try:
        # short vectors: a second BLAS thread doubled the CPU time, and sums would depend on the number of cores
        with threadpool_limits(1):
            pipeline.fit(frame[[TEXT]], np.array(tags))
    except ValueError as error:
        check_vocabulary(error, len(frame), params)
        raise
    classifier.cv = splitter  # a saved model must not hold row numbers
    for calibrated in (classifier, *classifier.calibrated_classifiers_):
        if isinstance(calibrated.estimator, RelevanceRidge):
            calibrated.estimator = calibrated.estimator.plain()
    for _, vectorizer, _ in pipeline.named_steps["features"].transformers_:
        if isinstance(vectorizer, TfidfVectorizer):
            _flatten_vocabulary(vectorizer)
    return pipeline


def check_vocabulary(error: ValueError, rows: int, params: Params) -> None:
    """Raise a clearer ValueError if `error` is a vectorizer's empty vocabulary."""
    # the third message means that min_df exceeds the number of rows
    if any(message in str(error) for message in ("empty vocabulary", "no terms remain", "max_df corresponds to")):
        raise ValueError(
            f"The {rows} texts hold no word, or none that {params.min_df} of them share: check titles and"
            " descriptions, or lower min_df."
        ) from error


def _flatten_vocabulary(vectorizer: TfidfVectorizer) -> None:
    """Replace the vocabulary by an array, from which scikit-learn rebuilds the dictionary at the first prediction.

    skops writes a page of JSON per dictionary entry: 16 MB for the 764 Made With ML rows, against 1.6 MB for arrays,
    which it also saves and loads fifty times as fast.
    """
    terms = vectorizer.get_feature_names_out()
    # an array reserves the length of the longest term for each, and drops trailing NULs
    if any(len(term) > LONGEST_TERM or term.endswith("\0") for term in terms):
        # skops would write each numpy integer to a separate file of the archive
        vectorizer.vocabulary_ = {term: int(index) for term, index in vectorizer.vocabulary_.items()}
        return
    vectorizer.vocabulary = terms.astype(str)
    vectorizer.fixed_vocabulary_ = True
    del vectorizer.vocabulary_
