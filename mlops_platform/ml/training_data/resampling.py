"""Composition of the training data: class balance and light augmentation of the train split.

Use it on training rows only, and within the training set of a fold: copies on both sides of a fold inflate the score.
Every copy keeps the id of its row, so that `evaluation.holdout` can check it. Nothing heavy is imported at the top, so
that the definitions can load `Recipe`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from mlops_platform.ml.classifier.text import compose

if TYPE_CHECKING:
    import pandas as pd

Balance = Literal["weights", "none", "oversample", "undersample"]
Augmentation = Literal["drop_words", "swap_words", "title_only", "description_only"]

CHANGED_WORDS = 0.1  # share of the words that a copy drops or swaps, as Wei & Zou (2019) recommend


@dataclass(frozen=True)
class Recipe:
    """How the train split becomes the training data. By default it is used unchanged, with class weights.

    Attributes:
        balance: Handling of class imbalance: "weights" weights rows inversely to class size, "none" weights all rows
            equally, "oversample" repeats rows of small classes, and "undersample" drops rows of large classes.
        balance_ratio: Target of the last two, in (0, 1]: rows of a small class over rows of a large one.
        augment: Augmented copies that are added for each row.
    """

    balance: Balance = "weights"
    balance_ratio: float = 1.0
    augment: tuple[Augmentation, ...] = ()

    @property
    def resamples(self) -> bool:
        """Whether rows are repeated or dropped."""
        return self.balance in ("oversample", "undersample")

    def weights_only(self) -> Recipe:
        """Return the part of the recipe that out-of-core training supports, the class weights."""
        return Recipe("none" if self.balance == "none" else "weights")

    def to_dict(self) -> dict[str, Any]:
        """Return the values that differ from the defaults and have an effect; equal for equivalent recipes."""
        return {
            **({} if self.balance == "weights" else {"balance": self.balance}),
            **({"balance_ratio": self.balance_ratio} if self.resamples else {}),
            **({"augment": sorted(set(self.augment))} if self.augment else {}),
        }


@dataclass(frozen=True)
class TrainingRow:
    """A training row, or an augmented copy of one; `change` is None for the row itself."""

    id: int
    title: str
    description: str
    tag: str
    change: Augmentation | None = None


def compose_rows(train: pd.DataFrame, recipe: Recipe, *, seed: int = 0) -> list[TrainingRow]:
    """Return the rows of the train split (id, title, description, tag), first balanced, then augmented."""
    columns = train[["id", "title", "description", "tag"]].fillna("")
    rows = [TrainingRow(*values) for values in columns.itertuples(index=False, name=None)]
    return augment([rows[i] for i in balance(train["tag"].tolist(), recipe, seed=seed)], recipe.augment, seed=seed)


def balance(labels: Sequence[str], recipe: Recipe, *, seed: int = 0) -> list[int]:
    """Return sorted row numbers that balance the classes; all rows once if the recipe does not resample.

    Raises:
        ValueError: There is one class only, and the recipe resamples.
    """
    if not recipe.resamples:
        return list(range(len(labels)))
    # takes 1.6 s, and only this function needs it
    from imblearn.over_sampling import RandomOverSampler
    from imblearn.under_sampling import RandomUnderSampler

    counts = Counter(labels)
    if recipe.balance == "oversample":
        least = round(max(counts.values()) * recipe.balance_ratio)
        sampler = RandomOverSampler(
            sampling_strategy={tag: max(rows, least) for tag, rows in counts.items()}, random_state=seed
        )
    else:
        most = round(min(counts.values()) / recipe.balance_ratio)
        sampler = RandomUnderSampler(
            sampling_strategy={tag: min(rows, most) for tag, rows in counts.items()}, random_state=seed
        )
    sampler.fit_resample([[row] for row in range(len(labels))], labels)
    return sorted(sampler.sample_indices_.tolist())


def augment(rows: Sequence[TrainingRow], changes: Collection[Augmentation], *, seed: int = 0) -> list[TrainingRow]:
    """Return each row followed by its augmented copies, one per change.

    A copy depends on the row, the change and `seed` alone, so it is stable when rows are added. Copies that are empty,
    or equal to the row or another copy of it, are dropped.
    """
    result = []
    for row in rows:
        result.append(row)
        texts = {"", compose(row.title, row.description)}
        for change in get_args(Augmentation):
            if change not in changes:
                continue
            copy = _changed(row, change, seed)
            if (text := compose(copy.title, copy.description)) not in texts:
                texts.add(text)
                result.append(copy)
    return result


def _changed(row: TrainingRow, change: Augmentation, seed: int) -> TrainingRow:
    if change == "title_only":
        return replace(row, description="", change=change)
    if change == "description_only":
        return replace(row, title="", change=change)
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
    return replace(row, description=" ".join(words), change=change)
