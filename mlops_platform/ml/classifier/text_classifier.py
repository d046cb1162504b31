"""The tagger: its parameters, its scikit-learn pipeline, and how it is fitted.

The pipeline holds stock scikit-learn classes only, and sentence vectors' own file goes with a model that has them
(`ml.encoder`), so a saved model loads where this package is absent.
Cross-validating is `ml.cross_validation`, choosing parameters `ml.tuning`; storing models is not done here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
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
WORD_NGRAM_LIMIT, CHAR_NGRAM_MIN, CHAR_NGRAM_LIMIT = 3, 2, 6
CALIBRATION_FOLDS = 5
LONGEST_TERM = 250  # letters; with longer ones a dictionary is the smaller way to hold a vocabulary
TOLERANCE = 1e-5  # of the ridge's solution: at 1e-3 one prediction in ten thousand differed
RELEVANCE = 0.1  # 0 would be the plain ridge; from .07 to .15 the score hardly differs

# Classes from which the default is the support vector machine. Weighted F1 of ridge and SVM on one fold of banking77,
# by number of classes: 10, .973 and .983; 20, .947 and .957; 40, .905 and .942; 77, .819 and .906.
MANY_CLASSES = 20

# what skops must be told to trust in a saved model; everything else in it is on skops' own list
TRUSTED_TYPES = (
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.model_selection._split.StratifiedKFold",
)
# and besides where a model has sentence vectors
SENTENCE_TYPES = (
    "mlops_platform.ml.embeddings.encoder.Encoder",
    "mlops_platform.ml.embeddings.encoder.SentenceVectors",
)


Classifier = Literal["ridge", "svm"]


@dataclass(frozen=True)
class Params:
    """The model's parameters. The defaults score well without tuning.

    Attributes:
        alpha: Strength of the penalty, > 0; the SVM's C is 1 / (2 alpha).
        word_ngram_max: Longest word n-gram, 1 to 3.
        char_ngram_max: Longest character n-gram within a word, 2 to 6.
        min_df: Rows that must hold an n-gram for it to count, at least 1.
        char_weight: Weight of the character features relative to the word features, > 0.
        sentence_weight: Weight of the sentence vectors relative to the word features, > 0; None has none of them.
        classifier: "ridge", a ridge classifier, or "svm", a linear support vector machine.
    """

    alpha: float = 1.0
    word_ngram_max: int = 1
    char_ngram_max: int = 4
    min_df: int = 1
    char_weight: float = 1.0
    sentence_weight: float | None = None
    classifier: Classifier = "ridge"

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: A value is out of range or of the wrong kind.
        """
        for name, low, high in (
            ("word_ngram_max", 1, WORD_NGRAM_LIMIT),
            ("char_ngram_max", CHAR_NGRAM_MIN, CHAR_NGRAM_LIMIT),
            ("min_df", 1, 1000),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} is {value!r}; it must be a whole number from {low} to {high}.")
        for name in ("alpha", "char_weight", *(() if self.sentence_weight is None else ("sentence_weight",))):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ValueError(f"{name} is {value!r}; it must be a finite number above 0.")
        if self.classifier not in get_args(Classifier):
            raise ValueError(f"classifier is {self.classifier!r}; it must be one of {', '.join(get_args(Classifier))}.")

    def to_dict(self) -> dict[str, float | int | str]:
        """Return the parameters by name, JSON-able; without `sentence_weight` where it is None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Params:
        """Make parameters from a mapping such as `to_dict` returns; a missing name takes its default.

        Raises:
            ValueError: A name is unknown or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"Unknown model parameter {', '.join(unknown)}; the model has {', '.join(known)}.")
        return cls(**values)


DEFAULT = Params()
# each block of features weighs the same. On 6x5 folds of the 764 Made With ML rows nothing else was better by more
# than noise (.933 weighted F1; from .7 to 2, .923 to .933), nor on 3x5 folds of the sample (.956; .945 to .956)
SENTENCE_DEFAULT = Params(sentence_weight=1.0)


def default_of(labels: Iterable[str], encoder: object | None = None) -> Params:
    """Return the default parameters for so many classes, with an encoder of sentence vectors or without one."""
    default = DEFAULT if encoder is None else SENTENCE_DEFAULT
    return replace(default, classifier="svm") if len(set(labels)) >= MANY_CLASSES else default


def frame(titles: Iterable[object], descriptions: Iterable[object]) -> pd.DataFrame:
    """Build a model's input from titles and descriptions, for training and prediction alike.

    Args:
        titles: n titles; None and NaN count as empty.
        descriptions: n descriptions, likewise.

    Returns:
        n rows with the single column "text".
    """
    return pd.DataFrame({TEXT: [compose(*pair) for pair in zip(titles, descriptions, strict=True)]}, dtype=object)


class RelevanceRidge(RidgeClassifier):
    """A ridge classifier whose penalty is lighter on features that tell the classes apart.

    Each feature is scaled by its chi-squared statistic to the power `RELEVANCE`, as in supervised term weighting
    (Debole & Sebastiani 2003), and the scale is folded into the coefficients: what is fitted predicts from
    unscaled features. On 6x5 folds, weighted F1 against the plain ridge: +.0036 (standard error .0018) on the 764
    Made With ML rows, +.0023 (.0018) on the sample.
    """

    coef_: npt.NDArray[np.float64]

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RelevanceRidge:  # noqa: N803 - scikit-learn's name
        """Fit; `X` is sparse and not negative, shape (n, features)."""
        statistic = np.nan_to_num(chi2(X, y)[0])
        if statistic.any():
            scale = (statistic / statistic.max()) ** RELEVANCE
            # rows keep their mean square length, so that alpha means what it means without the scale
            scale *= np.sqrt(X.multiply(X).sum() / (X.multiply(X) @ scale**2).sum())
            super().fit(X @ diags_array(scale), y, sample_weight)
            self.coef_ = self.coef_ * scale
            return self
        super().fit(X, y, sample_weight)
        return self

    def plain(self) -> RidgeClassifier:
        """The same fitted model as scikit-learn's own class, which loads where this package is absent."""
        twin = RidgeClassifier(**self.get_params())
        vars(twin).update(vars(self))
        return twin


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
    """Build the linear classifier that works on the features, not calibrated.

    Beside sentence vectors the ridge is the plain one: relevance gains nothing there (.933 weighted F1 without, .934
    with, standard error .0035, on 6x5 folds), and has no meaning for features that may be negative.

    Args:
        params: The model's parameters.
        weighted: Whether every class counts the same, however many rows it has.
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
    """Build the unfitted pipeline: a DataFrame with the column "text" in, tags and probabilities out.

    Word and character TF-IDF (sublinear), and sentence vectors where there is an encoder, feed a class-balanced ridge
    classifier (Rifkin & Lippert 2007), which on TF-IDF alone leans on the features that tell the classes apart, or a
    linear support vector machine. One temperature, fitted on out-of-fold scores, turns its scores into probabilities
    (Guo et al. 2017): scaling never changes which class leads, so what tuning measures on scores is what the model
    predicts.

    Args:
        params: The model's parameters.
        calibration_folds: Folds that give the out-of-fold scores, at least 2.
        seed: Shuffles the calibration folds.
        weighted: Whether every class counts the same, however many rows it has.
        encoder: Makes the sentence vectors.

    Raises:
        ValueError: The parameters weigh sentence vectors and there is no encoder, or the other way round.
    """
    _check_tier(params, encoder)

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
    """What makes a fitted model's sentence vectors; None where it has none."""
    # a streamed model's features are of another kind
    fitted = {name: step for name, step, _ in getattr(model[0], "transformers_", ())}
    return fitted["sentence"].encoder if "sentence" in fitted else None


def _check_tier(params: Params, encoder: Encoder | None) -> None:
    if (params.sentence_weight is None) != (encoder is None):
        weighs = "do not weigh" if params.sentence_weight is None else "weigh"
        given = "no encoder" if encoder is None else "an encoder"
        raise ValueError(f"The parameters {weighs} sentence vectors and there is {given}: tune the parameters again.")


def check_classes(labels: Sequence[str], *, least: int = 2) -> Counter[str]:
    """Count the rows of each class and refuse what cannot be trained on.

    Args:
        labels: Class of each row.
        least: Rows that each class needs.

    Returns:
        Rows by class.

    Raises:
        ValueError: No rows, one class only, or a class with fewer than `least` rows.
    """
    counts = Counter(labels)
    if not counts:
        raise ValueError("There are no labelled rows to train on: check the tags source.")
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
    """Cut stratified folds that part no row from its copies.

    Args:
        groups: The row that each of n rows is a copy of, or is; rows of a group have one label.
        labels: Label of each row, length n.
        folds: Cuts the groups.

    Returns:
        Row numbers of the training and of the held-out part of each fold. Unlike StratifiedGroupKFold's, each
        training part holds every label that has two groups or more.
    """
    _, first, group_of = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    cut = folds.split(first, np.asarray(labels)[first])
    return [(np.flatnonzero(np.isin(group_of, a)), np.flatnonzero(np.isin(group_of, b))) for a, b in cut]


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
    """Fit the pipeline. Same rows in the same order, parameters and seed: the same model, bit for bit.

    Args:
        frame: Has the column "text" (see `ml.text.compose`), n rows.
        labels: Tag of each row, length n.
        params: The model's parameters.
        seed: Shuffles the calibration folds.
        groups: Id of each row, length n, where some rows are copies of others: calibration parts no row from its
            copies, which would make the model look surer than it is. By default each row stands alone.
        weighted: Whether every class counts the same, however many rows it has.
        encoder: Makes the sentence vectors, where the parameters weigh them.

    Returns:
        The fitted pipeline; `classes_` are the sorted tags. Calibration uses 5 folds, or as many as the
        rarest tag has rows (groups, where they are given).

    Raises:
        ValueError: The rows cannot be trained on: none, one tag, a tag with one row, no n-gram that `min_df`
            rows share, or lengths that differ; or an encoder is missing or too much.
    """
    tags = [str(label) for label in labels]
    if len(frame) != len(tags):
        raise ValueError(f"There are {len(frame)} texts and {len(tags)} tags; give one tag a text.")
    if groups is not None and len(groups) != len(tags):
        raise ValueError(f"There are {len(groups)} groups and {len(tags)} tags; give one group a row.")
    alone = tags if groups is None else list(dict(zip(groups, tags, strict=True)).values())
    folds = min(CALIBRATION_FOLDS, *check_classes(alone).values())
    pipeline = build_pipeline(params, calibration_folds=folds, seed=seed, weighted=weighted, encoder=encoder)
    classifier = pipeline.named_steps["classifier"]
    cut: StratifiedKFold = classifier.cv
    if groups is not None:
        classifier.cv = grouped_folds(groups, tags, cut)
    try:
        # the vectors are short: a second BLAS thread doubled the CPU time, and the sums would depend on cores
        with threadpool_limits(1):
            pipeline.fit(frame[[TEXT]], np.array(tags))
    except ValueError as error:
        check_vocabulary(error, len(frame), params)
        raise
    classifier.cv = cut  # not the row numbers: a saved model holds what it was fitted by, not its rows
    for holder in (classifier, *classifier.calibrated_classifiers_):
        if isinstance(holder.estimator, RelevanceRidge):
            holder.estimator = holder.estimator.plain()
    for _, vectorizer, _ in pipeline.named_steps["features"].transformers_:
        if isinstance(vectorizer, TfidfVectorizer):
            _flatten_vocabulary(vectorizer)
    return pipeline


def check_vocabulary(error: ValueError, rows: int, params: Params) -> None:
    """Raise a sentence if a vectorizer found no n-gram to count.

    Raises:
        ValueError: The rows hold no word, or none that enough of them share.
    """
    # the last is of a min_df above the number of rows
    if any(words in str(error) for words in ("empty vocabulary", "no terms remain", "max_df corresponds to")):
        raise ValueError(
            f"The {rows} texts hold no word, or none that {params.min_df} of them share: check titles and"
            " descriptions, or lower min_df."
        ) from error


def _flatten_vocabulary(vectorizer: TfidfVectorizer) -> None:
    """Hold the vocabulary as one array, from which scikit-learn makes the dictionary at the first prediction.

    skops writes a page of JSON for each entry of a dictionary: 16 MB for the 764 Made With ML rows, against 1.6 MB
    with the arrays, which it also saves and loads fifty times as fast.
    """
    terms = vectorizer.get_feature_names_out()
    # an array has room for the longest term in each entry, and loses what an entry ends in nothing
    if any(len(term) > LONGEST_TERM or term.endswith("\0") for term in terms):
        # as numpy integers each entry would become a file of its own in the archive
        vectorizer.vocabulary_ = {term: int(index) for term, index in vectorizer.vocabulary_.items()}
        return
    vectorizer.vocabulary = terms.astype(str)
    vectorizer.fixed_vocabulary_ = True
    del vectorizer.vocabulary_
