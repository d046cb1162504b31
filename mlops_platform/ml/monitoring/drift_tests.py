"""Drift tests: whether a window of predictions differs from a reference, under one correction for multiple testing.

A model is more confident on its training rows than on new ones, so the tags and probabilities of the reference must be
out-of-fold or held-out; in-sample ones trigger the confidence test every day. Plots belong in `drift_plots`, comparable
predictions in `drift_monitor`, and what follows from drift in `retraining_policy`.
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
        rows_by_day: Number of rows on each full day, for the volume test; of the reference, those of the days before
            the window, not of the training data.
        truth: n true tags, None where unknown; () if there are none.
    """

    titles: Sequence[object]
    descriptions: Sequence[object]
    tags: Sequence[str]
    confidence: Sequence[float]
    rows_by_day: Sequence[int] = ()
    truth: Sequence[str | None] = ()

    def __post_init__(self) -> None:
        """Raise ValueError if the columns differ in length."""
        lengths = {len(self.titles), len(self.descriptions), len(self.tags), len(self.confidence)}
        if len(lengths) > 1 or (len(self.truth) and len(self.truth) != len(self.titles)):
            raise ValueError(
                "Titles, descriptions, tags, confidence and truth differ in length; give one of each a row."
            )

    @property
    def texts(self) -> list[str]:
        """The composed text of each row."""
        return [compose(*pair) for pair in zip(self.titles, self.descriptions, strict=True)]

    def labeled(self) -> list[tuple[str, str]]:
        """Return the (true, predicted) pairs of the rows whose true tag is known."""
        return [(true, tag) for true, tag in zip(self.truth, self.tags, strict=False) if true is not None]


@dataclass(frozen=True)
class DriftTest:
    """Result of one test.

    Attributes:
        name: What is tested.
        statistic: Size of the difference in the test's own unit; None if the test was not run.
        p_value: Probability of such a difference without drift; None if the test was not run.
        adjusted_p: `p_value` after Holm's correction over the tests of the day.
        threshold: Family-wise error rate that `adjusted_p` is compared with.
        detected: Whether `adjusted_p` is at most `threshold`.
        reference_rows: Rows of the reference (days for the volume).
        window_rows: Rows of the window (days for the volume).
        detail: The finding, or what the test needs to be run.
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


Result = tuple[float, float, str]  # statistic, p-value, detail
Test = Callable[[Sample, Sample, int], Result]


def _text(reference: Sample, window: Sample, seed: int) -> Result:
    mmd = text_mmd(reference.texts, window.texts, seed=seed)
    return mmd.statistic, mmd.p_value, f"MMD on word TF-IDF against {mmd.reference_rows} rows of the reference"


def _classes(reference: Sample, window: Sample, seed: int) -> Result:
    """Run a chi-squared test on predicted tags; p from random tables of the same margins, exact for rare tags too."""
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
    shifts = np.array(now) / sum(now) - np.array(before) / sum(before)
    largest = int(np.abs(shifts).argmax())
    return value, p, f"largest shift: share of {names[largest]!r}, {shifts[largest]:+.1%}"


def _confidence(reference: Sample, window: Sample, _: int) -> Result:
    result = stats.ks_2samp(reference.confidence, window.confidence)
    medians = float(np.median(reference.confidence)), float(np.median(window.confidence))
    return float(result.statistic), float(result.pvalue), f"median top probability {medians[0]:.2f} to {medians[1]:.2f}"


def _unknown_words(reference: Sample, window: Sample, _: int) -> Result:
    """Run a rank test of whether the window's rows hold more words that no other reference row has."""
    reference_words, window_words = ([set(WORDS(text)) for text in side.texts] for side in (reference, window))
    documents = Counter(word for words in reference_words for word in words)

    def unknown_share(words: set[str], own: int) -> float:
        return sum(documents[word] <= own for word in words) / len(words) if words else 0.0

    before = [unknown_share(words, 1) for words in reference_words]  # its own occurrence does not make a word known
    now = [unknown_share(words, 0) for words in window_words]
    value = float(np.mean(now) - np.mean(before))
    p = float(stats.mannwhitneyu(now, before, alternative="greater").pvalue)
    return value, p, f"words unknown to the reference {np.mean(before):.1%} to {np.mean(now):.1%}"


def _nulls(column: str) -> Test:
    def run(reference: Sample, window: Sample, _: int) -> Result:
        before, now = (sum(not compose(value, None) for value in getattr(side, column)) for side in (reference, window))
        n, m = len(reference.titles), len(window.titles)
        p = float(stats.fisher_exact([[before, n - before], [now, m - now]])[1])
        return now / m - before / n, p, f"missing or blank {before / n:.1%} to {now / m:.1%}"

    return run


def _volume(reference: Sample, window: Sample, _: int) -> Result:
    """Run a t-test on the square roots of daily counts, with the standard deviation of the reference days.

    The root makes the standard deviation of a Poisson count 1/2 whatever its mean (Anscombe 1948). The observed
    one, if larger, accounts for overdispersion; since it is estimated, the test uses t rather than the normal.
    """
    before, now = (2 * np.sqrt(np.asarray(side.rows_by_day) + 0.375) for side in (reference, window))
    spread = max(float(before.std(ddof=1)), 1.0) * np.sqrt(1 / len(before) + 1 / len(now))
    value = float((now.mean() - before.mean()) / spread)
    p = float(2 * stats.t.sf(abs(value), len(before) - 1))
    return value, p, f"rows a day {np.mean(reference.rows_by_day):.1f} to {np.mean(window.rows_by_day):.1f}"


def _f1(reference: Sample, window: Sample, seed: int) -> Result:
    """Run a permutation test of whether weighted F1 dropped."""
    before, now = reference.labeled(), window.labeled()
    pairs = np.array(before + now)
    names, codes = np.unique(pairs, return_inverse=True)
    codes, k, n = codes.reshape(pairs.shape), len(names), len(before)

    def drop(order: npt.NDArray[np.intp]) -> float:
        return _f1_of(codes[order[:n]], k) - _f1_of(codes[order[n:]], k)

    value = drop(np.arange(len(pairs)))
    draw = np.random.default_rng(seed)
    count = sum(drop(draw.permutation(len(pairs))) >= value - 1e-12 for _ in range(1999))
    detail = f"weighted F1 {weighted_f1(*zip(*before, strict=True)):.3f} to {weighted_f1(*zip(*now, strict=True)):.3f}"
    return value, (1 + count) / 2000, f"{detail} on the labeled rows, which may not be representative"


def _f1_of(codes: npt.NDArray[np.intp], k: int) -> float:
    table = np.bincount(codes[:, 0] * k + codes[:, 1], minlength=k * k).reshape(k, k)
    support = table.sum(axis=1)
    return float((2 * table.diagonal() * support / np.maximum(support + table.sum(axis=0), 1)).sum() / support.sum())


@dataclass(frozen=True)
class Interval:
    """Weighted F1 on labeled rows, which need not be representative, with its 95% interval."""

    value: float
    low: float
    high: float
    rows: int


def online_f1(window: Sample, *, minimum: int = MINIMUM_ROWS, seed: int = 0) -> Interval | None:
    """Return weighted F1 on the labeled rows with a percentile bootstrap interval; None below `minimum` such rows."""
    pairs = np.array(window.labeled())
    if len(pairs) < max(minimum, 1):
        return None
    names, codes = np.unique(pairs, return_inverse=True)
    codes = codes.reshape(pairs.shape)
    picks = np.random.default_rng(seed).integers(0, len(pairs), (1000, len(pairs)))
    low, high = np.quantile([_f1_of(codes[pick], len(names)) for pick in picks], [0.025, 0.975])
    return Interval(_f1_of(codes, len(names)), float(low), float(high), len(pairs))


ROW_TESTS: dict[str, Test] = {
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
    """Run every test for which there is enough data.

    The probability that any test of the day fires without drift is at most `alpha`. There is no correction over
    days: of 100 quiet days up to 100 `alpha` may alarm, and alarms of overlapping windows are correlated.

    Args:
        reference: Rows that the champion knows; see `Sample`.
        window: Recent rows.
        alpha: Family-wise error rate of the day.
        seed: Seed of the permutations and of the subsample of the reference.
        minimum: Rows (labeled rows for F1) that each side needs.

    Returns:
        All tests; one without enough data has no p-value, and its `detail` says what it needs.
    """
    plan: list[tuple[str, Test, int, int, int, int, str]] = [
        (name, run, len(reference.titles), len(window.titles), minimum, minimum, "rows")
        for name, run in ROW_TESTS.items()
    ]
    days = len(reference.rows_by_day), len(window.rows_by_day)
    plan.append(("volume", _volume, *days, MINIMUM_DAYS, 1, "days"))
    labeled = len(reference.labeled()), len(window.labeled())
    plan.append(("f1", _f1, *labeled, minimum, minimum, "labeled rows"))
    tests = []
    for name, run, before, now, need_before, need_now, unit in plan:
        result: tuple[float | None, float | None, str]
        if before >= max(need_before, 1) and now >= max(need_now, 1):
            result = run(reference, window, seed)
        else:
            needs = f"{need_before} in the reference and {need_now} in the window"
            result = None, None, f"not run: has {before} and {now} {unit}, needs {needs}"
        statistic, p_value, detail = result
        tests.append(DriftTest(name, statistic, p_value, None, alpha, False, before, now, detail))
    adjusted = iter(holm([test.p_value for test in tests if test.p_value is not None]))
    return [
        test if test.p_value is None else replace(test, adjusted_p=(p := next(adjusted)), detected=p <= alpha)
        for test in tests
    ]
