"""Composition of the training data: class balance, light augmentation, and replay of old rows among new ones.

Use it on training rows only, and within the training set of a fold: copies on both sides of a fold inflate the score.
Every copy keeps the id of its row, so that `evaluation.holdout` can check it. Out-of-core training supports class
weights only. On the 764 Made With ML rows nothing here improves on class weights (docs/training-data.md).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_platform.ml.classifier.text import compose
from mlops_platform.ml.training_data.config import Augmentation, Balance, Recipe
from mlops_platform.ml.training_data.splits import hash_fractions

CHANGED_WORDS = 0.1  # share of the words that a copy drops or swaps, as Wei & Zou (2019) recommend


def balance(labels: Sequence[str], method: Balance, *, ratio: float = 1.0, seed: int = 0) -> npt.NDArray[np.intp]:
    """Return sorted row numbers that balance the classes.

    Args:
        labels: Tag of each row, n > 0.
        method: "oversample" repeats random rows of small classes, "undersample" drops random rows of large classes;
            the others choose every row once, since class weights are set on the model.
        ratio: Least ratio in (0, 1] of any class to the largest one when oversampling, and of the smallest class to
            any other when undersampling.
        seed: Seed of the sampling.

    Raises:
        ValueError: One class only, an unknown method, or a ratio out of range.
    """
    Recipe(balance=method, balance_ratio=ratio)
    if method in ("weights", "none"):
        return np.arange(len(labels), dtype=np.intp)
    counts = Counter(labels)
    if len(counts) < 2:
        raise ValueError(f"The {len(labels)} rows have {len(counts)} tags; balancing needs two or more.")

    # takes 1.6 s, and only this function needs it
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
    sampler.fit_resample(np.arange(len(labels))[:, None], np.asarray(labels, dtype=str))
    return np.sort(sampler.sample_indices_).astype(np.intp)


@dataclass(frozen=True)
class TrainingRow:
    """A training row, or an augmented copy of one; `change` is None for the row itself."""

    id: int
    title: str
    description: str
    tag: str
    change: Augmentation | None = None


def augment(rows: Sequence[TrainingRow], changes: Collection[Augmentation], *, seed: int = 0) -> list[TrainingRow]:
    """Return each row followed by its augmented copies, one per change.

    A copy depends on the row, the change and `seed` alone, so it is stable when rows are added. Copies that are empty,
    or equal to the row or another copy of it, are dropped.

    Args:
        rows: Rows of the train split; nothing else may be augmented.
        changes: Some of "drop_words" and "swap_words" (a tenth of the words, at least one), "title_only" and
            "description_only".
        seed: Seed of the words that are dropped or swapped.

    Raises:
        ValueError: A change is unknown.
    """
    Recipe(augment=tuple(changes))
    ordered = [change for change in get_args(Augmentation) if change in changes]
    result = []
    for row in rows:
        result.append(row)
        texts = {"", compose(row.title, row.description)}
        for change in ordered:
            copy = _changed(row, change, seed)
            if (text := compose(copy.title, copy.description)) not in texts:
                texts.add(text)
                result.append(copy)
    return result


def _changed(row: TrainingRow, change: Augmentation, seed: int) -> TrainingRow:
    if change == "title_only":
        return TrainingRow(row.id, row.title, "", row.tag, change)
    if change == "description_only":
        return TrainingRow(row.id, "", row.description, row.tag, change)
    # a string seed gives the same draws in every process
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
    """Return a sample of the old rows followed by all new rows, against catastrophic forgetting (Robins 1995).

    The sample is drawn by a hash of the id, in proportion to the tags, but with at least two rows per tag, which
    calibration needs. With a larger share the sample only grows.

    Args:
        old: Older rows; those whose id is among `new` are ignored.
        new: Newer rows.
        share: Share of old rows in the result, in [0, 1), if there are enough, and if two per tag are not more.
        seed: Seed of the draw.

    Raises:
        ValueError: `share` is out of range.
    """
    Recipe(replay_share=share)
    new_ids = {row.id for row in new}
    older = [row for row in old if row.id not in new_ids]
    target = len(new) * share / (1 - share)
    if not target or not older:
        return list(new)
    rate = min(target / len(older), 1.0)
    fractions = hash_fractions([row.id for row in older], f"replay {seed}")
    sampled: set[int] = set()
    for tag, count in Counter(row.tag for row in older).items():
        by_hash = sorted((fractions[i], older[i].id, i) for i in range(len(older)) if older[i].tag == tag)
        sampled.update(i for *_, i in by_hash[: max(2, round(rate * count))])
    return [*(row for i, row in enumerate(older) if i in sampled), *new]


@dataclass(frozen=True)
class Composed:
    """The composed training data.

    Attributes:
        rows: The rows in order, with repeated rows and augmented copies.
        given: Number of rows of each tag in the train split.
        replayed: Number of old rows that were replayed.
        left_out: Number of old rows that were not replayed.
        copies: Number of augmented copies.
    """

    rows: list[TrainingRow]
    given: dict[str, int]
    replayed: int
    left_out: int
    copies: int

    def by_tag(self) -> list[dict[str, Any]]:
        """Return the number of rows of each tag before and after, sorted by tag."""
        after = Counter(row.tag for row in self.rows)
        return [{"tag": tag, "before": rows, "after": after[tag]} for tag, rows in sorted(self.given.items())]


def compose_rows(train: pd.DataFrame, recipe: Recipe, *, seed: int = 0) -> Composed:
    """Compose the training data: replay old rows among recent ones, then balance, then augment.

    Args:
        train: The train split, with columns id, created_on (a row without one counts as old), title, description, tag.
        recipe: The recipe.
        seed: Seed of all draws.

    Raises:
        ValueError: Over- or undersampling has one class only.
    """
    texts = (train[name].fillna("") for name in ("title", "description"))
    rows = [TrainingRow(int(id_), *columns) for id_, *columns in zip(train["id"], *texts, train["tag"], strict=True)]
    given, selected, replayed = dict(Counter(row.tag for row in rows)), rows, 0
    created = pd.to_datetime(train["created_on"], utc=True)
    if recipe.recent_days and created.notna().any():
        recent = (created >= created.max() - pd.Timedelta(days=recipe.recent_days)).to_numpy()
        new = [row for row, is_new in zip(rows, recent, strict=True) if is_new]
        old = [row for row, is_new in zip(rows, recent, strict=True) if not is_new]
        selected = mix(old, new, recipe.replay_share, seed=seed)
        replayed = len(selected) - len(new)
    balanced = balance([row.tag for row in selected], recipe.balance, ratio=recipe.balance_ratio, seed=seed)
    result = augment([selected[i] for i in balanced], recipe.augment, seed=seed)
    copies = sum(row.change is not None for row in result)
    return Composed(result, given, replayed, len(rows) - len(selected), copies)
