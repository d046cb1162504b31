"""What `ml.composition` does to rows, for rows that come in batches.

Old rows are drawn and copies made row by row, as there. Over- and undersampling become the weights that have the same
effect on average: to repeat a row or to count it twice is the same to a learner that sees one row at a time.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from mlops_platform.ml.composition import TrainingRow, augment
from mlops_platform.ml.recipe import Recipe
from mlops_platform.ml.splits import hash_fractions
from mlops_platform.ml.streaming import Batch, class_weights


class StreamComposer:
    """Rows to learn from, made of the rows there are by a recipe.

    Attributes:
        counts: Rows of each tag that the batches hold.
        weights: Weight of each tag's rows; None where all weigh the same.
    """

    def __init__(
        self, read: Callable[[], Iterable[Batch]], given: Mapping[str, int], recipe: Recipe, seed: int = 0
    ) -> None:
        """Count what the recipe makes of the rows; that takes a pass or two where it departs from the defaults.

        Args:
            read: Starts a pass over the rows of the train split, with ids and times.
            given: Rows of each tag in it.
            recipe: What to do.
            seed: Of the draws.
        """
        self._read, self._given, self._recipe, self._seed = read, dict(given), recipe, seed
        self._recent: tuple[dt.datetime, float] | None = None
        if recipe.recent_days:
            self._recent = self._draw()
        chosen = self._count(self._chosen) if self._recent else self._given
        self.counts = self._count(self.batches) if recipe.augment else chosen
        self.weights = weights_of(self.counts, recipe)

    def batches(self) -> Iterator[Batch]:
        """Start a pass over the rows to learn from."""
        for batch in self._chosen():
            yield self._augmented(batch) if self._recipe.augment else batch

    def by_tag(self) -> list[dict[str, Any]]:
        """Rows of each tag before and after, by tag."""
        return [{"tag": tag, "before": rows, "after": self.counts.get(tag, 0)} for tag, rows in self._given.items()]

    def _chosen(self) -> Iterator[Batch]:
        if self._recent is None:
            yield from self._read()
            return
        since, part = self._recent
        for batch in self._read():
            drawn = hash_fractions(batch.ids, f"replay {self._seed}") < part
            new = [made is not None and made >= since for made in batch.created_on]
            kept = [row for row, is_new in enumerate(new) if is_new or drawn[row]]
            yield Batch(*([column[row] for row in kept] for column in vars(batch).values()))

    def _draw(self) -> tuple[dt.datetime, float] | None:
        """The time from which all rows are taken, and the share of the older ones that is drawn."""
        newest = max((made for batch in self._read() for made in batch.created_on if made is not None), default=None)
        if newest is None:
            return None
        since = newest - dt.timedelta(days=self._recipe.recent_days)
        new = sum(made is not None and made >= since for batch in self._read() for made in batch.created_on)
        old, share = sum(self._given.values()) - new, self._recipe.replay_share
        return since, min(new * share / (1 - share) / old, 1.0) if old else 1.0

    def _augmented(self, batch: Batch) -> Batch:
        texts = (
            [text if isinstance(text, str) else "" for text in each] for each in (batch.titles, batch.descriptions)
        )
        rows = [TrainingRow(*each) for each in zip(batch.ids, *texts, batch.tags, strict=True)]
        made = augment(rows, self._recipe.augment, seed=self._seed)
        return Batch([row.title for row in made], [row.description for row in made], [row.tag for row in made])

    def _count(self, read: Callable[[], Iterable[Batch]]) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for batch in read():
            counts.update(batch.tags)
        return dict(sorted(counts.items()))


def weights_of(rows: Mapping[str, int], recipe: Recipe) -> dict[str, float] | None:
    """Weights that deal with classes of different size as the recipe asks for.

    Args:
        rows: Rows by tag, each above 0.
        recipe: Its balance and ratio.

    Returns:
        Weight of each tag's rows; None where all weigh the same.
    """
    if recipe.balance == "weights":
        return class_weights(rows)
    largest, smallest = max(rows.values(), default=0), min(rows.values(), default=0)
    if recipe.balance == "oversample":
        return {tag: max(1.0, recipe.balance_ratio * largest / count) for tag, count in rows.items()}
    if recipe.balance == "undersample":
        return {tag: min(1.0, smallest / (recipe.balance_ratio * count)) for tag, count in rows.items()}
    return None
