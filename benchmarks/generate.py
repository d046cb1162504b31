"""Generate any number of projects and tags, as CSV or Parquet: `python -m benchmarks.generate 100000 folder`.

The text is as hard to classify as real text: words are drawn by Zipf's law from stems with
endings, a share of them from the words of the project's topic, which has thousands of words, most of them rare, so
that more rows teach more. Projects differ in how much they speak of their topic, and some tags are wrong. A row depends
on its number and the seed alone: the first rows of a large table are a small table, and rows can be added later.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

TAGS = ("natural-language-processing", "computer-vision", "mlops", "other")
SHARES = (0.46, 0.37, 0.1, 0.07)  # about those of the Made With ML projects
NOISE = 0.04  # share of the rows whose tag is drawn at random
UNLABELED = 0.05  # share of the projects without a tag
TOPICAL = (2.0, 10.0)  # Beta distribution of the share of a project's words that are of its topic
STEMS, TOPIC_STEMS = 20_000, 4_000
ENDINGS = ("", "s", "ing", "ed", "er", "ation")
MARKS = ("", ",", ".", ":")
FIRST_SECOND = int(np.datetime64("2020-01-01", "s").astype(int))
BLOCK = 50_000  # rows that are drawn together; part of what a seed means

_SYLLABLES = [a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an", "er", "il", "ou", "é")]


@dataclass(frozen=True)
class Batch:
    """Some rows: `projects` with id, created_on, title and description, `tags` with id and tag."""

    projects: pa.Table
    tags: pa.Table


def batches(rows: int, *, start: int = 0, seed: int = 0, per_day: int | None = None) -> Iterator[Batch]:
    """Generate rows, `BLOCK` at a time.

    Args:
        rows: How many projects, from 1 on.
        start: Number of the first one; ids are the numbers plus 1.
        seed: Another seed gives other rows.
        per_day: Projects a day, from 2020-01-01 on; by default as many as spread `start + rows` over 1,000 days.

    Yields:
        Batches in the order of the ids.
    """
    every = 86_400 / (per_day or max(1.0, (start + rows) / 1000))
    for block in range(start // BLOCK, -(-(start + rows) // BLOCK)):
        generated = _block(block, seed, every)
        first, last = max(start - block * BLOCK, 0), min(start + rows - block * BLOCK, BLOCK)
        projects = generated.projects.slice(first, last - first)
        ids = generated.tags["id"]
        inside = pc.and_(
            pc.greater(ids, block * BLOCK + first),
            pc.less_equal(ids, block * BLOCK + last),
        )
        yield Batch(projects, generated.tags.filter(inside))


def write(
    folder: Path,
    rows: int,
    *,
    form: Literal["csv", "parquet"] = "csv",
    start: int = 0,
    seed: int = 0,
    per_day: int | None = None,
) -> tuple[Path, Path]:
    """Write `projects` and `tags` to a folder; a block of rows is all that is in memory.

    Args:
        folder: Created if missing.
        rows: See `batches`.
        form: What files to write.
        start: See `batches`.
        seed: See `batches`.
        per_day: See `batches`.

    Returns:
        Paths of the projects and of the tags.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"projects.{form}", folder / f"tags.{form}"
    with ExitStack() as stack:
        writers: list[pyarrow.csv.CSVWriter | pyarrow.parquet.ParquetWriter] = []
        for batch in batches(rows, start=start, seed=seed, per_day=per_day):
            tables = (batch.projects, batch.tags)
            for path, table in zip(paths[len(writers) :], tables[len(writers) :], strict=True):
                kind = pyarrow.parquet.ParquetWriter if form == "parquet" else pyarrow.csv.CSVWriter
                writers.append(stack.enter_context(kind(path, table.schema)))
            for writer, table in zip(writers, tables, strict=True):
                writer.write_table(table)
    return paths


def _block(block: int, seed: int, every: float) -> Batch:
    """Return all rows of a block."""
    draw = np.random.default_rng([seed, block])
    ids = np.arange(block * BLOCK + 1, (block + 1) * BLOCK + 1)
    topics = draw.choice(len(TAGS), size=BLOCK, p=SHARES)
    topical = draw.beta(*TOPICAL, size=BLOCK)
    title_words = 2 + draw.binomial(6, 0.5, size=BLOCK)
    description_words = 8 + draw.poisson(14, size=BLOCK)
    title = _texts(draw, topics, topical, title_words, marks=False)
    description = _texts(draw, topics, topical, description_words, marks=True)
    wrong = draw.random(BLOCK) < NOISE
    tags = np.where(wrong, draw.integers(len(TAGS), size=BLOCK), topics)
    labeled = draw.random(BLOCK) >= UNLABELED
    created_on = pa.array(FIRST_SECOND + ((ids - 1) * every).astype(np.int64), pa.timestamp("s"))
    projects = {"id": ids, "created_on": created_on, "title": title, "description": description}
    named = pc.take(pa.array(TAGS), pa.array(tags[labeled]))
    return Batch(pa.table(projects), pa.table({"id": ids[labeled], "tag": named}))


def _texts(
    draw: np.random.Generator,
    topics: npt.NDArray[np.int64],
    topical: npt.NDArray[np.float64],
    words: npt.NDArray[np.int64],
    *,
    marks: bool,
) -> pa.Array:
    """A text of so many words for each row."""
    total = int(words.sum())
    stems = _zipf(draw, STEMS, total)
    of_topic = draw.random(total, dtype=np.float32) < np.repeat(topical.astype(np.float32), words)
    topic_of = np.repeat(topics, words)[of_topic]
    # each topic's words are a part of the common ones, at other ranks: a word alone proves nothing
    ranks = _zipf(draw, TOPIC_STEMS, len(topic_of))
    stems[of_topic] = _topic_stems()[topic_of, ranks]
    endings = draw.choice(len(ENDINGS), size=total, p=(0.5, 0.2, 0.12, 0.08, 0.06, 0.04)).astype(np.int32)
    kinds = draw.choice(len(MARKS), size=total, p=(0.88, 0.06, 0.05, 0.01)).astype(np.int32) if marks else 0
    places = (kinds * len(ENDINGS) + endings) * STEMS + stems
    offsets = np.concatenate(([0], np.cumsum(words))).astype(np.int32)
    return pc.binary_join(pa.ListArray.from_arrays(offsets, pc.take(_vocabulary(), pa.array(places))), " ")


def _zipf(draw: np.random.Generator, words: int, size: int) -> npt.NDArray[np.int32]:
    """Return ranks from 0, about as often as one over the rank: the inverse of the logarithm's distribution."""
    return (np.exp(draw.random(size) * np.log(words + 1)) - 1).astype(np.int32)


@cache
def _topic_stems() -> npt.NDArray[np.int32]:
    """Return the stems of each topic by their rank there, shape (topics, TOPIC_STEMS), without the very common ones."""
    draw = np.random.default_rng(2022)
    return np.stack([100 + draw.permutation(STEMS - 100)[:TOPIC_STEMS] for _ in TAGS]).astype(np.int32)


@cache
def _vocabulary() -> pa.Array:
    """Return every stem with every ending and mark; common stems are short, as in a language."""
    base = len(_SYLLABLES)
    draw = np.random.default_rng(2020)
    short, long = draw.permutation(base**2), draw.permutation(base**3)
    common = [_SYLLABLES[i // base] + _SYLLABLES[i % base] for i in short[:2_000]]
    rare = [
        _SYLLABLES[i // base**2] + _SYLLABLES[i // base % base] + _SYLLABLES[i % base]
        for i in long[: STEMS - len(common)]
    ]
    stems = [*common, *rare]
    return pa.array([stem + ending + mark for mark in MARKS for ending in ENDINGS for stem in stems])


def main() -> None:
    """Write the tables that the command line specifies."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generate", description=__doc__)
    parser.add_argument("rows", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--form", choices=("csv", "parquet"), default="csv")
    parser.add_argument("--start", type=int, default=0, help="number of the first row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-day", type=int, default=None, help="projects a day; by default 1,000 days in all")
    options = parser.parse_args()
    for path in write(
        options.folder, options.rows, form=options.form, start=options.start, seed=options.seed, per_day=options.per_day
    ):
        print(path)


if __name__ == "__main__":
    main()
