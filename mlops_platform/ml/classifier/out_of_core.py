"""The tagger for more rows than fit in memory: hashed texts, and a linear classifier that learns batch by batch.

Rows come as batches in an order as good as random, once or more often; what is kept is the coefficients. The result is
a pipeline as `ml.model` makes it, of stock scikit-learn classes: the same input, the same answers, another size.

Character n-grams take three times as long as words alone. Whether they are worth it is tried on the first rows: they
are where words are rare, misspelt or inflected (on 47,000 descriptions of Debian's packages, 20 classes, weighted F1 is
.903 with them, .893 without, .917 with `ml.model`), and are not where words have nothing in common (.749 and .751).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from mlops_platform.ml.classifier.hashed_features import HashedText
from mlops_platform.ml.classifier.text import compose

BATCH_ROWS = 2_000
HELD_OUT_SHARE, HELD_OUT_ROWS = 0.05, 10_000  # rows that calibrate and tell when to stop: this share, at most so many
LEAST_TRIED = 1_000  # rows; fewer don't tell whether character n-grams help


@dataclass(frozen=True)
class StreamParams:
    """What decides a streamed model besides its rows. Part of its identity, not tuned.

    Attributes:
        bits: Words have 2 ** bits features. With 20 bits F1 is .003 better and the memory four times as much.
        n_gram: Length of the character n-grams. Those of 4 letters beat those of 3, and of 2 to 4, by .002 to .01.
        n_gram_bits: They have 2 ** n_gram_bits features. With 18 bits F1 is .001 better, in one of three cases.
        least_char_gain: Expected relative gain of the Brier score below which the model does without them.
        try_share: Share of the rows that learns with them and without, to see that gain, but not more than `idf_rows`.
        idf_rows: First rows that the inverse document frequencies are counted on.
        alpha: Strength of the L2 penalty; half or double of it makes no difference.
        average_from: Rows after which coefficients are averaged (Ruppert & Polyak).
        epochs: Passes over the rows, at most.
        check_rows: Rows after which the model is evaluated, if the epoch has not ended before.
        least_gain: Relative gain of the Brier score over the best so far, below which an evaluation shows no gain.
        patience: Evaluations without gain after which learning ends.
    """

    bits: int = 18
    n_gram: int = 4
    n_gram_bits: int = 16
    least_char_gain: float = 0.01
    try_share: float = 0.2
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
    """

    titles: Sequence[object]
    descriptions: Sequence[object]
    tags: Sequence[str]


@dataclass(frozen=True)
class Evaluation:
    """How the model did on the held-out rows while it was learning.

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
        evaluations: In order.
        temperature: What the classifier's scores were divided by.
        characters: Whether it has character n-grams.
        char_gain: By how much of it these were expected to lower the Brier score of words alone, where that was tried.
    """

    pipeline: Pipeline
    rows: int
    held_out: int
    evaluations: list[Evaluation]
    temperature: float
    characters: bool
    char_gain: float | None


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

    Words, and character n-grams where they gain enough, are hashed and weighed by TF-IDF; a logistic loss a class is
    minimized by stochastic gradient descent with averaged coefficients (Xu 2011; scikit-learn's `SGDClassifier`). The
    first rows are held out: one temperature that is fitted on them turns scores into probabilities (Guo et al. 2017),
    and the Brier score of these tells whether n-grams gain and when to stop; the best coefficients are kept. (Wrong
    tags weigh less in it than in the log loss: with 4% of them, the calibration error is .03 and not .07.) Since the
    classifier's scores are linear, the temperature is a factor of the coefficients, and the result is the multinomial
    `LogisticRegression` that has them.

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
    held_out, classes = held_out_rows(total), sorted(rows)
    held = _HeldOut.of(list(_chunks(read(), 0, held_out)), classes)
    stream = _Stream(read, held, weights, params)
    # short vectors: more threads cost more than they give, and sums would depend on their number
    with threadpool_limits(1):
        gain = _char_gain(stream, total)
        characters = gain is not None and gain >= params.least_char_gain
        learner = stream.learner(params.idf_rows, characters=characters)
        for epoch in range(params.epochs):
            seen = Counter(held.tags)
            for texts, tags in stream.chunks(None):
                learner.learn(texts, tags)
                if not epoch:
                    seen.update(tags)
                if learner.since >= params.check_rows and learner.evaluate():
                    break
            if not epoch and not learner.done and seen != Counter(rows):
                raise ValueError(f"The rows are not those that were counted: {dict(seen)}, not {dict(rows)}.")
            if learner.done or (learner.since and learner.evaluate()):
                break
    return Streamed(
        Pipeline([("features", learner.text.step()), ("classifier", learner.best.classifier(classes))]),
        total - held_out,
        held_out,
        learner.evaluations,
        learner.best.temperature,
        characters,
        gain,
    )


def _char_gain(stream: _Stream, total: int) -> float | None:
    """By how much of it character n-grams will lower the Brier score of words alone; None where the rows are too few.

    Some gain at any number of rows, others only while few words are known: at 100,000 generated rows the score was 4%
    lower, at a million F1 was .004 worse. So the gain of the trial is taken to shrink each time the rows double as it
    did when the trial's rows doubled.
    """
    tried = min(stream.params.idf_rows, int(total * stream.params.try_share))
    if tried < LEAST_TRIED:
        return None
    scores = []
    for characters in (False, True):
        learner = stream.learner(tried, characters=characters)
        for texts, tags in stream.chunks(tried):
            learner.learn(texts, tags)
            if not learner.evaluations and learner.since >= tried / 2:
                learner.evaluate()
        learner.evaluate()
        scores.append([each.brier for each in learner.evaluations])
    words, both = scores
    at_half, at_end = (1 - with_them / alone if alone else 0.0 for alone, with_them in zip(words, both, strict=True))
    kept = min(at_end / at_half, 1.0) if at_half > 0 else 1.0
    return at_end * kept ** math.log2(total / tried) if at_end > 0 else at_end


@dataclass(frozen=True)
class _Stream:
    """The rows, of which the first are held out, and how they are learnt."""

    read: Callable[[], Iterable[Batch]]
    held: _HeldOut
    weights: Mapping[str, float] | None
    params: StreamParams

    def chunks(self, rows: int | None) -> Iterator[tuple[list[str], list[str]]]:
        """Texts and tags of the first rows that are not held out; None for all."""
        first = len(self.held.tags)
        return _chunks(self.read(), first, None if rows is None else first + rows)

    def learner(self, rows: int, *, characters: bool) -> _Learner:
        """One that has learnt nothing yet, and weighs n-grams by the first rows."""
        texts = (texts for texts, _ in self.chunks(rows))
        text = HashedText.counted(
            texts,
            bits=self.params.bits,
            n_gram=self.params.n_gram if characters else None,
            n_gram_bits=self.params.n_gram_bits,
        )
        return _Learner(text, self.held, self.weights, self.params)


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


@dataclass(frozen=True)
class _HeldOut:
    """Rows that score coefficients: texts, some at a time, tags, and the tags' places among the classes."""

    texts: list[list[str]]  # their vectors would take ten times the memory
    tags: list[str]
    classes: list[str]
    truth: npt.NDArray[np.intp]

    @classmethod
    def of(cls, chunks: list[tuple[list[str], list[str]]], classes: list[str]) -> _HeldOut:
        tags = [tag for _, some in chunks for tag in some]
        _check_known(tags, classes)
        place = {name: k for k, name in enumerate(classes)}
        truth = np.array([place[tag] for tag in tags], dtype=np.intp)
        return cls([texts for texts, _ in chunks], tags, classes, truth)


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
    """A classifier that learns from batches and is evaluated from time to time."""

    def __init__(
        self, text: HashedText, held: _HeldOut, weights: Mapping[str, float] | None, params: StreamParams
    ) -> None:
        self.text, self._held, self._params = text, held, params
        self._sgd = SGDClassifier(
            loss="log_loss",
            alpha=params.alpha,
            average=params.average_from,
            class_weight=dict(weights) if weights else None,
            shuffle=False,  # it would shuffle within a batch; the order of the rows is the caller's
            random_state=0,
        )
        self._rows, self._misses, self.since = 0, 0, 0
        self.evaluations: list[Evaluation] = []
        self.best = _Fit(_EMPTY, _EMPTY, 1.0, np.inf)

    @property
    def done(self) -> bool:
        """Whether evaluations have shown no gain for long enough."""
        return self._misses >= self._params.patience

    def learn(self, texts: list[str], tags: list[str]) -> None:
        """Learn from some rows."""
        _check_known(tags, self._held.classes)
        self._sgd.partial_fit(self.text.vectors(texts), tags, classes=self._held.classes)
        self._rows += len(tags)
        self.since += len(tags)

    def evaluate(self) -> bool:
        """Score the held-out rows, keep the best coefficients, and return whether learning is done."""
        scores = np.concatenate([self._sgd.decision_function(self.text.vectors(some)) for some in self._held.texts])
        temperature, brier = _temperature(scores, self._held.truth)
        gained = brier < self.best.brier * (1 - self._params.least_gain)
        if brier < self.best.brier:
            self.best = _Fit(_EMPTY, _EMPTY, temperature, brier)  # the old coefficients go before the new ones come
            self.best = _Fit(self._sgd.coef_.copy(), self._sgd.intercept_.copy(), temperature, brier)
        self._misses = 0 if gained else self._misses + 1
        self.since = 0
        self.evaluations.append(Evaluation(self._rows, brier))
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
