"""What the model is trained on: class balance, light augmentation, and old rows replayed among new ones.

All of it is for training rows only; every copy keeps the id of its row, so that `ml.evaluation_set` can tell.
Balance and augment inside the training part of a fold: copies on both sides of a fold flatter the model.

Streamed training (`ml.streaming`) has class weights alone. On the 764 Made With ML rows the model, which weighs its
classes already, gains nothing by any of it (docs/training-data.md).
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

CHANGED_WORDS = 0.1  # share of the words that a copy drops or swaps (Wei & Zou 2019 found .1 to do well)


def balance(labels: Sequence[str], method: Balance, *, ratio: float = 1.0, seed: int = 0) -> npt.NDArray[np.intp]:
    """Choose training rows so that the classes are balanced.

    Args:
        labels: Tag of each row, n > 0.
        method: "oversample" (repeats rows of small classes) or "undersample" (leaves out rows of large classes), at
            random; the others choose every row once, as weights are the model's affair (`ml.model.fit`).
        ratio: What over- and undersampling aim at, in (0, 1]: rows of a class over those of the largest class
            when repeating, at least; rows of the smallest class over those of a class when leaving out, at least.
        seed: Of the sampling.

    Returns:
        Row numbers, ascending.

    Raises:
        ValueError: One class only, an unknown method, or a ratio out of range.
    """
    Recipe(balance=method, balance_ratio=ratio)
    if method in ("weights", "none"):
        return np.arange(len(labels), dtype=np.intp)
    counts = Counter(labels)
    if len(counts) < 2:
        raise ValueError(f"The {len(labels)} rows have {len(counts)} tags; balancing needs two or more.")

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
    sampler.fit_resample(np.arange(len(labels))[:, None], np.asarray(labels, dtype=str))
    return np.sort(sampler.sample_indices_).astype(np.intp)


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
    Recipe(augment=tuple(changes))
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

    Old rows are drawn by a hash of their id, of each tag in proportion, two at least, so that rare tags are
    replayed too and can be calibrated. With a larger share the draw only grows.

    Args:
        old: Rows of earlier training; those whose id is among `new` are left out.
        new: Rows that are all taken.
        share: Share of old rows in the result, in [0, 1); fewer come where there are fewer, and some more where two
            of each tag are more.
        seed: Of the draw.

    Returns:
        The old rows drawn, in their order, then the new ones.

    Raises:
        ValueError: `share` is out of range.
    """
    Recipe(replay_share=share)
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
        taken.update(i for *_, i in places[: max(2, round(part * count))])
    return [*(row for i, row in enumerate(left) if i in taken), *new]


@dataclass(frozen=True)
class Composed:
    """Rows to train on, and how they came about.

    Attributes:
        rows: In order; a row may be there several times, and its copies.
        given: Rows of each tag that there were.
        replayed: Old rows among the result, before balance and copies.
        left_out: Old rows that are not in the result.
        copies: Changed copies in the result.
    """

    rows: list[TrainingRow]
    given: dict[str, int]
    replayed: int
    left_out: int
    copies: int

    def by_tag(self) -> list[dict[str, Any]]:
        """Rows of each tag before and after, by tag."""
        after = Counter(row.tag for row in self.rows)
        return [{"tag": tag, "before": rows, "after": after[tag]} for tag, rows in sorted(self.given.items())]


def compose_rows(train: pd.DataFrame, recipe: Recipe, *, seed: int = 0) -> Composed:
    """Compose the training data: old rows replayed among recent ones, then balanced, then augmented.

    Args:
        train: Rows of the train split alone; columns id, created_on (a row without one counts as old), title,
            description, tag.
        recipe: What to do.
        seed: Of the draws.

    Raises:
        ValueError: Over- or undersampling has one class only.
    """
    texts = (train[name].fillna("") for name in ("title", "description"))
    rows = [TrainingRow(int(i), *each) for i, *each in zip(train["id"], *texts, train["tag"], strict=True)]
    given, taken, replayed = dict(Counter(row.tag for row in rows)), rows, 0
    made = pd.to_datetime(train["created_on"], utc=True)
    if recipe.recent_days and made.notna().any():
        recent = (made >= made.max() - pd.Timedelta(days=recipe.recent_days)).to_numpy()
        new = [row for row, is_new in zip(rows, recent, strict=True) if is_new]
        old = [row for row, is_new in zip(rows, recent, strict=True) if not is_new]
        taken = mix(old, new, recipe.replay_share, seed=seed)
        replayed = len(taken) - len(new)
    chosen = balance([row.tag for row in taken], recipe.balance, ratio=recipe.balance_ratio, seed=seed)
    result = augment([taken[i] for i in chosen], recipe.augment, seed=seed)
    copies = sum(row.change is not None for row in result)
    return Composed(result, given, replayed, len(rows) - len(taken), copies)
