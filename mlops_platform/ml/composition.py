"""What the model is trained on: class balance, light augmentation, and old rows replayed among new ones.

All of it is for training rows only; every copy keeps the id of its row, so that `ml.evaluation_set` can tell.
Balance and augment inside the training part of a fold: copies on both sides of a fold flatter the model.

On the 764 Made With ML rows (2x5 folds) the model, which weighs its classes already, gains nothing by it. Weighted
F1 is .904 as it is, .906 oversampled, .881 undersampled to a ratio of .5, .903 with "drop_words" copies, and .896
with all four, which also spoil the calibration (ECE .066 in place of .043): its folds part a row from its copies.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from mlops_platform.ml.splits import hash_fractions
from mlops_platform.ml.text import compose

Balance = Literal["none", "weights", "oversample", "undersample"]
Augmentation = Literal["drop_words", "swap_words", "title_only", "description_only"]

CHANGED_WORDS = 0.1  # share of the words that a copy drops or swaps (Wei & Zou 2019 found .1 to do well)


@dataclass(frozen=True)
class Balanced:
    """Rows to train on, by number and in order, and how much each weighs; the weights have mean 1."""

    rows: npt.NDArray[np.intp]
    weights: npt.NDArray[np.float64]


def balance(labels: Sequence[str], method: Balance, *, ratio: float = 1.0, seed: int = 0) -> Balanced:
    """Balance the classes of training rows.

    Args:
        labels: Tag of each row, n > 0.
        method: "none"; "weights" (every class weighs the same); "oversample" (repeats rows of small classes) or
            "undersample" (leaves out rows of large classes), at random.
        ratio: What over- and undersampling aim at, in (0, 1]: rows of a class over those of the largest class
            when repeating, at least; rows of the smallest class over those of a class when leaving out, at least.
        seed: Of the sampling.

    Raises:
        ValueError: No rows, one class only, an unknown method, or a ratio out of range.
    """
    if method not in get_args(Balance):
        raise ValueError(f"The balance is {method!r}; it must be one of {', '.join(get_args(Balance))}.")
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio is {ratio}; it must lie above 0 and be at most 1.")
    counts = Counter(labels)
    if len(counts) < 2:
        raise ValueError(f"The {len(labels)} rows have {len(counts)} tags; balancing needs two or more.")
    rows = np.arange(len(labels), dtype=np.intp)
    if method == "weights":
        return Balanced(rows, np.array([len(labels) / (len(counts) * counts[label]) for label in labels]))
    if method == "none":
        return Balanced(rows, np.ones(len(rows)))

    # 1.6 s, and only this function needs it
    from imblearn.over_sampling import RandomOverSampler
    from imblearn.under_sampling import RandomUnderSampler

    if method == "oversample":
        least = round(max(counts.values()) * ratio)
        sampler = RandomOverSampler(
            sampling_strategy={tag: max(count, least) for tag, count in counts.items()}, random_state=seed
        )
    else:
        most = round(min(counts.values()) / ratio)
        sampler = RandomUnderSampler(
            sampling_strategy={tag: min(count, most) for tag, count in counts.items()}, random_state=seed
        )
    sampler.fit_resample(rows[:, None], np.asarray(labels, dtype=str))
    chosen = np.sort(sampler.sample_indices_).astype(np.intp)
    return Balanced(chosen, np.ones(len(chosen)))


@dataclass(frozen=True)
class TrainingRow:
    """A row to train on, or a changed copy of one; `change` is None for the row itself."""

    id: int
    title: str
    description: str
    tag: str
    change: Augmentation | None = None


def augment(rows: Sequence[TrainingRow], changes: Collection[Augmentation], *, seed: int = 0) -> list[TrainingRow]:
    """Add changed copies to training rows, one of each row and change.

    What a copy looks like depends on the row, the change and `seed` alone, so it stays when rows are added. No copy
    is made that would be empty or equal to its row or to another copy of it.

    Args:
        rows: Of the training split; nothing else may be augmented.
        changes: Of "drop_words" and "swap_words" (a tenth of the words, one at least), "title_only" and
            "description_only".
        seed: Of the words that are dropped or swapped.

    Returns:
        Each row, followed by its copies.

    Raises:
        ValueError: A change is unknown.
    """
    if unknown := sorted(set(changes) - set(get_args(Augmentation))):
        raise ValueError(f"Unknown augmentation {', '.join(unknown)}; there are {', '.join(get_args(Augmentation))}.")
    wanted = [change for change in get_args(Augmentation) if change in changes]
    result = []
    for row in rows:
        result.append(row)
        seen = {"", compose(row.title, row.description)}
        for change in wanted:
            copy = _changed(row, change, seed)
            if (text := compose(copy.title, copy.description)) not in seen:
                seen.add(text)
                result.append(copy)
    return result


def _changed(row: TrainingRow, change: Augmentation, seed: int) -> TrainingRow:
    if change == "title_only":
        return TrainingRow(row.id, row.title, "", row.tag, change)
    if change == "description_only":
        return TrainingRow(row.id, "", row.description, row.tag, change)
    # seeded by a text, which draws the same in every process
    draw = random.Random(f"{seed} {change} {row.id}")  # noqa: S311 - not for secrets
    words = row.description.split()
    times = max(1, round(CHANGED_WORDS * len(words)))
    if change == "drop_words":
        dropped = set(draw.sample(range(len(words)), min(times, max(len(words) - 1, 0))))
        words = [word for place, word in enumerate(words) if place not in dropped]
    elif len(words) > 1:
        for _ in range(times):
            a, b = draw.sample(range(len(words)), 2)
            words[a], words[b] = words[b], words[a]
    return TrainingRow(row.id, row.title, " ".join(words), row.tag, change)


def mix(old: Sequence[TrainingRow], new: Sequence[TrainingRow], share: float, *, seed: int = 0) -> list[TrainingRow]:
    """Replay old rows among new ones, so that what was learnt from them is not forgotten (Robins 1995).

    Old rows are drawn by a hash of their id, of each tag in proportion, one at least, so that rare tags are
    replayed too. With a larger share the draw only grows.

    Args:
        old: Rows of earlier training; those whose id is among `new` are left out.
        new: Rows that are all taken.
        share: Share of old rows in the result, in [0, 1); fewer come where there are fewer, and some more where one
            of each tag is more.
        seed: Of the draw.

    Returns:
        The old rows drawn, in their order, then the new ones.

    Raises:
        ValueError: `share` is out of range.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share is {share}; it must be 0 or more and below 1.")
    ids = {row.id for row in new}
    left = [row for row in old if row.id not in ids]
    wanted = len(new) * share / (1 - share)
    if not wanted or not left:
        return list(new)
    part = min(wanted / len(left), 1.0)
    fractions = hash_fractions([row.id for row in left], f"replay {seed}")
    taken: set[int] = set()
    for tag, count in Counter(row.tag for row in left).items():
        places = sorted((fractions[i], left[i].id, i) for i in range(len(left)) if left[i].tag == tag)
        taken.update(i for *_, i in places[: max(1, round(part * count))])
    return [*(row for i, row in enumerate(left) if i in taken), *new]
