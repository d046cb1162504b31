"""The sample that the package ships: as large, as mixed and as hard as the real data it stands for."""

from __future__ import annotations

import csv
import re
from collections import Counter
from datetime import datetime
from itertools import combinations

import pytest

from mlops_platform.ml.classifier import text_classifier
from mlops_platform.ml.tuning.cross_validation import cross_validate
from mlops_platform.settings import SAMPLE_DIR

# shares of the 764 Made With ML projects
REAL_SHARES = {"natural-language-processing": 0.41, "computer-vision": 0.37, "other": 0.14, "mlops": 0.08}


def _read(name: str) -> list[dict[str, str]]:
    with (SAMPLE_DIR / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def projects() -> list[dict[str, str]]:
    return _read("projects.csv")


@pytest.fixture(scope="module")
def tags() -> dict[str, str]:
    return {row["id"]: row["tag"] for row in _read("tags.csv")}


def test_size_time_and_classes(projects: list[dict[str, str]], tags: dict[str, str]) -> None:
    assert len(projects) >= 500
    assert len({row["id"] for row in projects}) == len(projects)
    times = [datetime.fromisoformat(row["created_on"]) for row in projects]
    assert (max(times) - min(times)).days >= 2 * 365
    assert set(tags) < {row["id"] for row in projects}, "some projects are untagged, and no tag lacks its project"
    shares = {tag: count / len(tags) for tag, count in Counter(tags.values()).items()}
    assert shares == pytest.approx(REAL_SHARES, abs=0.03)


def test_texts_are_all_there_and_differ(projects: list[dict[str, str]]) -> None:
    assert all(row["title"].strip() and row["description"].strip() for row in projects)
    assert len({row["title"].lower() for row in projects}) == len(projects)


def test_no_two_descriptions_share_half_their_trigrams(projects: list[dict[str, str]]) -> None:
    grams = []
    for row in projects:
        words = re.findall(r"\w+", row["description"].lower())
        grams.append((row["id"], {tuple(words[i : i + 3]) for i in range(len(words) - 2)}))
    alike = [
        (first, second)
        for (first, a), (second, b) in combinations(grams, 2)
        if a and b and 2 * len(a & b) >= min(len(a), len(b))
    ]
    assert alike == []


def test_few_texts_name_their_own_tag(projects: list[dict[str, str]], tags: dict[str, str]) -> None:
    naming = 0
    for row in projects:
        text = f"{row['title']} {row['description']}".lower().replace("-", " ")
        tag = tags.get(row["id"])
        naming += tag is not None and tag != "other" and tag.replace("-", " ") in text
    assert naming <= 0.02 * len(projects)


def test_a_linear_model_finds_it_neither_trivial_nor_hopeless(
    projects: list[dict[str, str]], tags: dict[str, str]
) -> None:
    labeled = [row for row in projects if row["id"] in tags]
    frame = text_classifier.frame([row["title"] for row in labeled], [row["description"] for row in labeled])
    scores = cross_validate(frame[text_classifier.TEXT].tolist(), [tags[row["id"]] for row in labeled])
    assert 0.80 <= scores.score <= 0.95
