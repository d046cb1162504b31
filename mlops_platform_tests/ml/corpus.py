"""Texts to learn from: a small made-up corpus with known difficulty, and the real data where present."""

from __future__ import annotations

import csv
import random

import pytest

from mlops_platform.ml.classifier.text import compose
from mlops_platform.settings import PROJECT_ROOT

MADE_WITH_ML = PROJECT_ROOT.parent / "shared" / "data" / "made_with_ml"

_TOPICS = {
    "animals": "otter heron badger lynx stork beetle falcon marmot",
    "kitchen": "ladle oven saucepan whisk kettle grater skillet spatula",
    "weather": "drizzle thunder sleet breeze frost humidity cyclone rainbow",
}
_COMMON = "we saw some things near an old house and then wrote a short note for our small club".split()  # noqa: SIM905


def made_up(rows: int, *, seed: int = 0, noise: float = 0.1) -> tuple[list[str], list[str]]:
    """Return `rows` texts and labels; a share `noise` of the texts has words of another topic."""
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    texts, labels = [], []
    for i in range(rows):
        label = list(_TOPICS)[i % 3 if i % 7 else 0]
        topic = draw.choice(list(_TOPICS)) if draw.random() < noise else label
        words = draw.choices(_TOPICS[topic].split(), k=2) + draw.choices(_COMMON, k=6)
        draw.shuffle(words)
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels


def real() -> tuple[list[int], list[str], list[str]]:
    """Return ids, texts and tags of the real data, or skip the test."""
    if not MADE_WITH_ML.is_dir():
        pytest.skip(f"the Made With ML data is not at {MADE_WITH_ML}")
    with (MADE_WITH_ML / "tags.csv").open(encoding="utf-8", newline="") as file:
        tags = {int(row["id"]): row["tag"] for row in csv.DictReader(file)}
    with (MADE_WITH_ML / "projects.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted((int(r["id"]), compose(r["title"], r["description"])) for r in csv.DictReader(file))
    return [i for i, _ in rows], [text for _, text in rows], [tags[i] for i, _ in rows]
