"""The tagger for more rows than fit in memory: hashed words, and a linear classifier that learns batch by batch.

Rows come as batches in an order as good as random, once or more often; what is kept is the coefficients. The result is
a pipeline as `ml.model` makes it, of stock scikit-learn classes: the same input, the same answers, another size.

On generated rows (`benchmarks/generate.py`) words alone do better than `ml.model` with its character n-grams from
about 50,000 rows on, at a hundredth of the time; on the 764 Made With ML rows they do worse (.89 weighted F1, not .91).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from mlops_platform.ml.model import TEXT, frame
from mlops_platform.ml.text import compose

BATCH_ROWS = 2_000
HELD_OUT_SHARE, HELD_OUT_ROWS = 0.05, 10_000  # rows that calibrate and tell when to stop: this share, at most so many


@dataclass(frozen=True)
class StreamParams:
    """What decides a streamed model besides its rows. Part of its identity, not tuned.

    Attributes:
        bits: There are 2 ** bits features. With 20 bits F1 is .003 better and the memory four times as much.
        idf_rows: First rows that the words' inverse document frequencies are counted on.
        alpha: Strength of the L2 penalty; half or double of it makes no difference.
        average_from: Rows after which coefficients are averaged (Ruppert & Polyak).
        epochs: Passes over the rows, at most.
        check_rows: Rows after which the held-out rows are looked at, if the epoch has not ended before.
        least_gain: Relative gain of a look's Brier score over the best so far below which a look counts as none.
        patience: Looks without gain after which learning ends.
    """

    bits: int = 18
    idf_rows: int = 100_000
    alpha: float = 1e-5
    average_from: int = 10
    epochs: int = 4
    check_rows: int = 500_000
    least_gain: float = 0.002
    patience: int = 2

    def to_dict(self) -> dict[str, float | int]:
        """Return the parameters by name, JSON-able."""
        return asdict(self)


STREAM = StreamParams()


@dataclass(frozen=True)
class Batch:
    """Some rows to train on, as columns of one length; None and NaN are missing texts.

    Attributes:
        titles: Titles.
        descriptions: Descriptions.
        tags: True tags.
        ids: Their ids; only `ml.stream_composition` asks for these.
        created_on: Times in UTC, None where not known; likewise.
    """

    titles: Sequence[object]
    descriptions: Sequence[object]
    tags: Sequence[str]
    ids: Sequence[int] = ()
    created_on: Sequence[dt.datetime | None] = ()


@dataclass(frozen=True)
class Look:
    """What the held-out rows said while the model was learning.

    Attributes:
        rows: Rows learnt from by then, those of all epochs.
        brier: Mean squared error of the calibrated probabilities, from 0 to 2 (Brier 1950).
    """

    rows: int
    brier: float


@dataclass(frozen=True)
class Streamed:
    """A model and how it came about.

    Attributes:
        pipeline: A frame with the column "text" in, tags and probabilities out.
        rows: Rows that it was fitted on, each counted once.
        held_out: Rows that calibrated it and said when to stop.
        looks: In order.
        temperature: What the classifier's scores were divided by.
    """

    pipeline: Pipeline
    rows: int
    held_out: int
    looks: list[Look]
    temperature: float


def class_weights(rows: Mapping[str, int]) -> dict[str, float]:
    """Weights by which every class counts the same.

    Args:
        rows: Rows by class, each above 0.
    """
    total = sum(rows.values())
    return {name: total / (len(rows) * count) for name, count in rows.items()}


def held_out_rows(rows: int) -> int:
    """How many of the first rows of a stream are held out."""
    return min(HELD_OUT_ROWS, max(1, round(rows * HELD_OUT_SHARE)))


def fit_stream(
    read: Callable[[], Iterable[Batch]],
    rows: Mapping[str, int],
    *,
    weights: Mapping[str, float] | None = None,
    params: StreamParams = STREAM,
) -> Streamed:
    """Fit a model on batches. Same rows in the same order, weights and parameters: the same model, bit for bit.

    Words are hashed (Weinberger et al. 2009) and weighed by TF-IDF; a logistic loss a class is minimized by stochastic
    gradient descent with averaged coefficients (Xu 2011; scikit-learn's `SGDClassifier`). The first rows are held out:
    one temperature that is fitted on them turns scores into probabilities (Guo et al. 2017), and the Brier score of
    these tells when to stop; the best coefficients are kept. (Wrong tags weigh less in it than in the log loss: with 4%
    of them, the calibration error is .03 and not .07.) Since the classifier's scores are linear, the temperature is a
    factor of the coefficients, and the result is the multinomial `LogisticRegression` that has them.

    Args:
        read: Starts a pass over the rows: each gives the same rows in the same order, which must not depend on the
            tags. How they are cut into batches does not matter.
        rows: Rows of each tag, in all.
        weights: Weight of each tag's rows; by default all weigh the same.
        params: What decides the model besides its rows.

    Raises:
        ValueError: The rows cannot be trained on: none, one tag, no text with a word; or a pass does not give the
            rows that `rows` counts.
    """
    total = sum(rows.values())
    if len(rows) < 2:
        raise ValueError(f"The {total} labelled rows have {len(rows)} tags; a classifier needs two tags or more.")
    # single precision all the way: half of the memory, and the Brier score is the same in six digits
    hashing = HashingVectorizer(
        n_features=2**params.bits, norm=None, alternate_sign=False, strip_accents="unicode", dtype=np.float32
    )
    held_out, classes = held_out_rows(total), sorted(rows)
    # short vectors: more threads cost more than they give, and sums would depend on their number
    with threadpool_limits(1):
        weighing = _weighing(hashing, _chunks(read(), held_out, held_out + params.idf_rows))

        def vectors(start: int, stop: int | None) -> Iterator[tuple[sp.csr_matrix, list[str]]]:
            for texts, tags in _chunks(read(), start, stop):
                yield weighing.transform(hashing.transform(texts)), tags

        judged = list(vectors(0, held_out))
        held = _HeldOut.of(
            sp.vstack([each for each, _ in judged]), [tag for _, tags in judged for tag in tags], classes
        )
        learner = _Learner(classes, weights, params)
        for epoch in range(params.epochs):
            seen = Counter(held.tags)
            for each, tags in vectors(held_out, None):
                learner.learn(each, tags)
                if not epoch:
                    seen.update(tags)
                if learner.since >= params.check_rows and learner.look(held):
                    break
            if not epoch and not learner.done and seen != Counter(rows):
                raise ValueError(f"The rows are not those that were counted: {dict(seen)}, not {dict(rows)}.")
            if learner.done or (learner.since and learner.look(held)):
                break
    return Streamed(
        Pipeline([("features", _features(hashing, weighing)), ("classifier", learner.best.classifier(classes))]),
        total - held_out,
        held_out,
        learner.looks,
        learner.best.temperature,
    )


def _chunks(batches: Iterable[Batch], start: int, stop: int | None) -> Iterator[tuple[list[str], list[str]]]:
    """Texts and tags of some rows, `BATCH_ROWS` at a time however the batches were cut."""
    rows = (
        (compose(title, description), tag)
        for batch in batches
        for title, description, tag in zip(batch.titles, batch.descriptions, batch.tags, strict=True)
    )
    some = islice(rows, start, stop)
    while chunk := list(islice(some, BATCH_ROWS)):
        yield [text for text, _ in chunk], [tag for _, tag in chunk]


def _weighing(hashing: HashingVectorizer, chunks: Iterable[tuple[list[str], list[str]]]) -> TfidfTransformer:
    """What `TfidfTransformer.fit` would make of all chunks at once, which would not fit in memory."""
    rows, holding = 0, np.zeros(hashing.n_features, dtype=np.int64)
    for texts, _ in chunks:
        holding += np.bincount(hashing.transform(texts).indices, minlength=len(holding))
        rows += len(texts)
    if not holding.any():
        raise ValueError(f"The {rows} texts hold no word: check titles and descriptions.")
    weighing = TfidfTransformer(sublinear_tf=True)
    weighing.fit(sp.csr_matrix((1, len(holding))))
    weighing.idf_ = (np.log((1 + rows) / (1 + holding)) + 1).astype(hashing.dtype)
    return weighing


def _features(hashing: HashingVectorizer, weighing: TfidfTransformer) -> ColumnTransformer:
    words = Pipeline([("hashing", hashing), ("weighing", weighing)])
    features = ColumnTransformer([("word", words, TEXT)], sparse_threshold=1.0)
    # fitting is done: this only makes scikit-learn know the column, on copies
    features.fit(frame(["word"], [""]))
    features.transformers_ = [("word", words, TEXT)]
    return features


@dataclass(frozen=True)
class _HeldOut:
    """Rows that judge coefficients: vectors, tags, and the tags' places among the classes."""

    vectors: sp.csr_matrix
    tags: list[str]
    truth: npt.NDArray[np.intp]

    @classmethod
    def of(cls, vectors: sp.csr_matrix, tags: list[str], classes: list[str]) -> _HeldOut:
        _check_known(tags, classes)
        place = {name: k for k, name in enumerate(classes)}
        return cls(vectors, tags, np.array([place[tag] for tag in tags], dtype=np.intp))


@dataclass(frozen=True)
class _Fit:
    """Coefficients at one time, and what the held-out rows made of them."""

    coefficients: npt.NDArray[np.float32]
    intercepts: npt.NDArray[np.float32]
    temperature: float
    brier: float

    def classifier(self, classes: list[str]) -> LogisticRegression:
        """The classifier whose probabilities are those of the scores over the temperature."""
        made = LogisticRegression()
        made.classes_ = np.array(classes)
        # in this order a prediction multiplies by it as it is; else each would copy it first
        made.coef_ = np.asfortranarray(self.coefficients / self.temperature)
        # double precision here makes the scores so, and probabilities that sum to 1 as exactly
        made.intercept_ = self.intercepts.astype(np.float64) / self.temperature
        made.n_features_in_ = self.coefficients.shape[1]
        return made


_EMPTY = np.zeros(0, dtype=np.float32)


class _Learner:
    """A classifier that learns from batches and is looked at from time to time."""

    def __init__(self, classes: list[str], weights: Mapping[str, float] | None, params: StreamParams) -> None:
        self._classes, self._params = classes, params
        self._sgd = SGDClassifier(
            loss="log_loss",
            alpha=params.alpha,
            average=params.average_from,
            class_weight=dict(weights) if weights else None,
            shuffle=False,  # it would shuffle within a batch; the order of the rows is the caller's
            random_state=0,
        )
        self._rows, self._misses, self.since = 0, 0, 0
        self.looks: list[Look] = []
        self.best = _Fit(_EMPTY, _EMPTY, 1.0, np.inf)

    @property
    def done(self) -> bool:
        """Whether looks have shown no gain for long enough."""
        return self._misses >= self._params.patience

    def learn(self, vectors: sp.csr_matrix, tags: list[str]) -> None:
        """Learn from some rows."""
        _check_known(tags, self._classes)
        self._sgd.partial_fit(vectors, tags, classes=self._classes)
        self._rows += len(tags)
        self.since += len(tags)

    def look(self, held: _HeldOut) -> bool:
        """Judge what was learnt; keeps the best and says whether learning is done."""
        scores = self._sgd.decision_function(held.vectors)
        temperature, brier = _temperature(scores, held.truth)
        gained = brier < self.best.brier * (1 - self._params.least_gain)
        if brier < self.best.brier:
            self.best = _Fit(_EMPTY, _EMPTY, temperature, brier)  # the old coefficients go before the new ones come
            self.best = _Fit(self._sgd.coef_.copy(), self._sgd.intercept_.copy(), temperature, brier)
        self._misses = 0 if gained else self._misses + 1
        self.since = 0
        self.looks.append(Look(self._rows, brier))
        return self.done


def _check_known(tags: list[str], classes: list[str]) -> None:
    if unknown := sorted(set(tags) - set(classes)):
        raise ValueError(f"The rows are not those that were counted: tag {unknown[0]!r} was not among them.")


def _temperature(scores: npt.NDArray[np.float32], truth: npt.NDArray[np.intp]) -> tuple[float, float]:
    """The temperature with the least Brier score, between 0.01 and 100, and that score."""
    both = scores[:, None] * [0.0, 1.0] if scores.ndim == 1 else scores  # two classes have one score
    right = np.zeros(both.shape)
    right[np.arange(len(truth)), truth] = 1

    def brier(log_temperature: float) -> float:
        return float(((softmax(both / np.exp(log_temperature), axis=1) - right) ** 2).sum(axis=1).mean())

    found = minimize_scalar(brier, bounds=(np.log(0.01), np.log(100)), method="bounded")
    return float(np.exp(found.x)), float(found.fun)
