"""Whether a window of predictions differs from a reference: the tests of a day, under one correction.

Every test compares rows that must be alike where nothing drifts. A model is surer of rows it was trained on than
of new ones, so the tags and probabilities of the reference have to be out-of-fold (`ml.cross_validation`) or
held-out; with in-sample ones the confidence test fires for ever. Pictures are `ml.drift_plots`, what follows from
a drift is `ml.policy`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.feature_extraction.text import CountVectorizer

from mlops_platform.ml.classifier.text import compose
from mlops_platform.ml.evaluation.metrics import weighted_f1
from mlops_platform.ml.evaluation.multiple_testing import holm
from mlops_platform.ml.monitoring.mmd import text_mmd

ALPHA, MINIMUM_ROWS, MINIMUM_DAYS = 0.01, 50, 14
RESAMPLES = 9999
WORDS = CountVectorizer(strip_accents="unicode").build_analyzer()


@dataclass(frozen=True)
class Sample:
    """Rows of one side of the comparison.

    Attributes:
        titles: n titles; None and NaN are missing.
        descriptions: n descriptions, likewise.
        tags: n predicted tags; out-of-fold or held-out on the reference side.
        confidence: n top probabilities, of the same predictions as `tags`.
        rows_by_day: Rows of each whole day, for the volume; on the reference side of the days before the window, not
            of the days on which training data was made.
        truth: n true tags, None where not known (yet); () where there are none.
    """

    titles: Sequence[object]
    descriptions: Sequence[object]
    tags: Sequence[str]
    confidence: Sequence[float]
    rows_by_day: Sequence[int] = ()
    truth: Sequence[str | None] = ()

    def __post_init__(self) -> None:
        """Check lengths.

        Raises:
            ValueError: The columns differ in length.
        """
        lengths = {len(self.titles), len(self.descriptions), len(self.tags), len(self.confidence)}
        if len(lengths) > 1 or (len(self.truth) and len(self.truth) != len(self.titles)):
            raise ValueError(
                "Titles, descriptions, tags, confidence and truth differ in length; give one of each a row."
            )

    @property
    def texts(self) -> list[str]:
        """The text of each row as the model sees it."""
        return [compose(*pair) for pair in zip(self.titles, self.descriptions, strict=True)]

    def labelled(self) -> list[tuple[str, str]]:
        """The (true, predicted) pairs of the rows whose truth is known."""
        return [(true, tag) for true, tag in zip(self.truth, self.tags, strict=False) if true is not None]


@dataclass(frozen=True)
class DriftTest:
    """One test of a day.

    Attributes:
        name: What it looks at.
        statistic: The size of the difference, in the test's own unit; None where it was not run.
        p_value: Chance of such a difference without drift; None where it was not run.
        adjusted_p: `p_value` after Holm's correction over the tests run that day.
        threshold: The family-wise rate that `adjusted_p` is held against.
        detected: Whether `adjusted_p` is at or under `threshold`.
        reference_rows: Rows (days for the volume) of the reference used.
        window_rows: The same of the window.
        detail: What was found, or what the test needs to be run.
    """

    name: str
    statistic: float | None
    p_value: float | None
    adjusted_p: float | None
    threshold: float
    detected: bool
    reference_rows: int
    window_rows: int
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """Return the columns of a `drift_report` row."""
        return asdict(self)


Found = tuple[float, float, str]  # statistic, p, detail


def _text(reference: Sample, window: Sample, seed: int) -> Found:
    found = text_mmd(reference.texts, window.texts, seed=seed)
    return found.statistic, found.p_value, f"MMD on word TF-IDF against {found.reference_rows} rows of the reference"


def _classes(reference: Sample, window: Sample, seed: int) -> Found:
    """Chi-squared on predicted tags; its p from tables with the same margins, so rare tags do no harm."""
    names = sorted({*reference.tags, *window.tags})
    before, now = ([Counter(side.tags)[name] for name in names] for side in (reference, window))
    pooled = np.array(before) + np.array(now)
    expected = pooled * len(window.tags) / pooled.sum()
    scale = expected * (1 - len(window.tags) / pooled.sum())

    def chi2(counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.asarray(((counts - expected) ** 2 / scale).sum(axis=-1))

    value = float(chi2(np.array(now)))
    draws = np.random.default_rng(seed).multivariate_hypergeometric(pooled, len(window.tags), size=RESAMPLES)
    p = (1 + int((chi2(draws) >= value - 1e-9).sum())) / (1 + RESAMPLES)
    moved = np.array(now) / sum(now) - np.array(before) / sum(before)
    most = int(np.abs(moved).argmax())
    return value, p, f"share of {names[most]!r} moved most, {moved[most]:+.1%}"


def _confidence(reference: Sample, window: Sample, _: int) -> Found:
    result = stats.ks_2samp(reference.confidence, window.confidence)
    medians = float(np.median(reference.confidence)), float(np.median(window.confidence))
    return float(result.statistic), float(result.pvalue), f"median top probability {medians[0]:.2f} to {medians[1]:.2f}"


def unknown_shares(reference: Sequence[str], window: Sequence[str]) -> tuple[list[float], list[float]]:
    """Share of each row's words that no other reference row has; rows without a word count 0.

    A reference row is left out of its own vocabulary: every word of it would be known else.
    """
    rows = [set(WORDS(text)) for text in reference]
    held = Counter(word for row in rows for word in row)

    def share(words: set[str], own: int) -> float:
        return sum(held[word] <= own for word in words) / len(words) if words else 0.0

    return [share(row, 1) for row in rows], [share(set(WORDS(text)), 0) for text in window]


def _unknown_words(reference: Sample, window: Sample, _: int) -> Found:
    """Rank test of whether the window's rows hold more unknown words."""
    before, now = unknown_shares(reference.texts, window.texts)
    value = float(np.mean(now) - np.mean(before))
    p = float(stats.mannwhitneyu(now, before, alternative="greater").pvalue)
    return value, p, f"words unknown to the reference {np.mean(before):.1%} to {np.mean(now):.1%}"


def _nulls(column: str) -> Callable[[Sample, Sample, int], Found]:
    def run(reference: Sample, window: Sample, _: int) -> Found:
        before, now = (sum(not compose(value, None) for value in getattr(side, column)) for side in (reference, window))
        n, m = len(reference.titles), len(window.titles)
        p = float(stats.fisher_exact([[before, n - before], [now, m - now]])[1])
        return now / m - before / n, p, f"missing or blank {before / n:.1%} to {now / m:.1%}"

    return run


def _volume(reference: Sample, window: Sample, _: int) -> Found:
    """Student's t for new days on the square roots of counts, whose spread is taken from the reference days.

    The root makes a Poisson count's spread 1/2 whatever its mean (Anscombe 1948); the days' own spread, where
    larger, stands for overdispersion, and t instead of normal for its being estimated.
    """
    before, now = (2 * np.sqrt(np.asarray(side.rows_by_day) + 0.375) for side in (reference, window))
    spread = max(float(before.std(ddof=1)), 1.0) * np.sqrt(1 / len(before) + 1 / len(now))
    value = float((now.mean() - before.mean()) / spread)
    p = float(2 * stats.t.sf(abs(value), len(before) - 1))
    return value, p, f"rows a day {np.mean(reference.rows_by_day):.1f} to {np.mean(window.rows_by_day):.1f}"


def _f1(reference: Sample, window: Sample, seed: int) -> Found:
    """Permutation test of whether weighted F1 fell: (true, predicted) pairs are dealt anew to the two sides."""
    before, now = reference.labelled(), window.labelled()
    pairs = np.array(before + now)
    names, codes = np.unique(pairs, return_inverse=True)
    codes, k, n = codes.reshape(pairs.shape), len(names), len(before)

    def fall(order: npt.NDArray[np.intp]) -> float:
        return _f1_of(codes[order[:n]], k) - _f1_of(codes[order[n:]], k)

    value = fall(np.arange(len(pairs)))
    draw = np.random.default_rng(seed)
    count = sum(fall(draw.permutation(len(pairs))) >= value - 1e-12 for _ in range(1999))
    detail = f"weighted F1 {weighted_f1(*zip(*before, strict=True)):.3f} to {weighted_f1(*zip(*now, strict=True)):.3f}"
    return value, (1 + count) / 2000, f"{detail} on the rows with a label, which may not be typical of all"


def _f1_of(codes: npt.NDArray[np.intp], k: int) -> float:
    table = np.bincount(codes[:, 0] * k + codes[:, 1], minlength=k * k).reshape(k, k)
    support = table.sum(axis=1)
    return float((2 * table.diagonal() * support / np.maximum(support + table.sum(axis=0), 1)).sum() / support.sum())


@dataclass(frozen=True)
class Interval:
    """Weighted F1 measured on labelled rows, with its 95 % interval; of the labelled rows, typical or not."""

    value: float
    low: float
    high: float
    rows: int


def online_f1(window: Sample, *, minimum: int = MINIMUM_ROWS, seed: int = 0) -> Interval | None:
    """Measure weighted F1 on the rows whose true tag has arrived, by a percentile bootstrap of 1000 resamples.

    Returns:
        The figure, or None where fewer than `minimum` rows have a label.
    """
    pairs = np.array(window.labelled())
    if len(pairs) < max(minimum, 1):
        return None
    names, codes = np.unique(pairs, return_inverse=True)
    codes = codes.reshape(pairs.shape)
    picks = np.random.default_rng(seed).integers(0, len(pairs), (1000, len(pairs)))
    low, high = np.quantile([_f1_of(codes[pick], len(names)) for pick in picks], [0.025, 0.975])
    return Interval(_f1_of(codes, len(names)), float(low), float(high), len(pairs))


ROW_TESTS: dict[str, Callable[[Sample, Sample, int], Found]] = {
    "text": _text,
    "classes": _classes,
    "confidence": _confidence,
    "unknown_words": _unknown_words,
    "null_titles": _nulls("titles"),
    "null_descriptions": _nulls("descriptions"),
}


def drift_tests(
    reference: Sample, window: Sample, *, alpha: float = ALPHA, seed: int = 0, minimum: int = MINIMUM_ROWS
) -> list[DriftTest]:
    """Run every test of a day that has the data for it.

    The chance that any test of the day fires without drift is at most `alpha`. Days are not corrected for each
    other: of 100 quiet days up to 100 `alpha` may alarm, and alarms of windows that overlap come together.

    Args:
        reference: What the champion was trained on; see `Sample` for what its columns must be.
        window: The recent rows.
        alpha: False alarms a day.
        seed: Of the permutations and of the subsample of the reference.
        minimum: Rows (labelled rows for F1) that each side needs.

    Returns:
        The tests; one without enough data has no p-value, and `detail` says what it needs.
    """
    plan: list[tuple[str, Callable[[Sample, Sample, int], Found], int, int, int, int, str]] = [
        (name, run, len(reference.titles), len(window.titles), minimum, minimum, "rows")
        for name, run in ROW_TESTS.items()
    ]
    days = len(reference.rows_by_day), len(window.rows_by_day)
    plan.append(("volume", _volume, *days, MINIMUM_DAYS, 1, "days"))
    labelled = len(reference.labelled()), len(window.labelled())
    plan.append(("f1", _f1, *labelled, minimum, minimum, "labelled rows"))
    tests = []
    for name, run, before, now, need_before, need_now, unit in plan:
        blank = DriftTest(name, None, None, None, alpha, False, before, now, "")
        if before < max(need_before, 1) or now < max(need_now, 1):
            needs = f"{need_before} in the reference and {need_now} in the window"
            tests.append(replace(blank, detail=f"not run: has {before} and {now} {unit}, needs {needs}"))
        else:
            statistic, p, detail = run(reference, window, seed)
            tests.append(replace(blank, statistic=statistic, p_value=p, detail=detail))
    adjusted = iter(holm([test.p_value for test in tests if test.p_value is not None]))
    done = [test if test.p_value is None else replace(test, adjusted_p=next(adjusted)) for test in tests]
    return [replace(test, detected=test.adjusted_p is not None and test.adjusted_p <= alpha) for test in done]
