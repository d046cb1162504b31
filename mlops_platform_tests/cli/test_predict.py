"""Prediction from a CSV file: order, ids and odd fields are kept, and damage is named."""

from __future__ import annotations

import csv
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sklearn.pipeline import Pipeline

from mlops_platform.cli.predict import predict_file, read_rows
from mlops_platform.errors import PlatformError, SourceError
from mlops_platform.ml.classifier import text_classifier

TEXTS = [
    "segment images of cells",
    "detect objects in video",
    "translate a sentence",
    "answer questions on text",
]
TAGS = ["computer-vision", "computer-vision", "natural-language-processing", "natural-language-processing"]


@pytest.fixture(scope="module")
def model() -> Pipeline:
    texts = TEXTS * 5
    return text_classifier.fit(
        text_classifier.frame(texts, [""] * len(texts)), TAGS * 5, text_classifier.DEFAULT, seed=0
    )


def test_each_row_has_its_answer_in_order(model: Pipeline, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    with source.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Title", "extra", "id", "description"])
        writer.writerow(['a "quoted", title', "x", "007", "detect objects\nin two lines"])
        writer.writerow(["", "x", "b", ""])
        writer.writerows([f"row {i}", "x", i, TEXTS[i % 4]] for i in range(5000))
    assert predict_file(model, source, target) == 5002
    with target.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "tag", "probability"]
    assert [row["id"] for row in rows] == ["007", "b", *map(str, range(5000))]
    assert [row["tag"] for row in rows[2:6]] == TAGS
    assert all(0.5 <= float(row["probability"]) <= 1 for row in rows[2:])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no column id, title, description"),
        (b"id,title\n1,a\n", "has no column description"),
        (b"id,title,description\n1,a\n", "line 2: 2 fields"),
        (b'id,title,description\n1,a,"b\n', "line 2"),
        ("id,title,description\n1,a,é\n".encode("latin-1"), "not UTF-8"),
        (b'id,title,description\n1,"a"b,c\n', "line 2"),
    ],
)
def test_a_damaged_input_is_named_and_leaves_no_output(
    model: Pipeline, tmp_path: Path, content: bytes, says: str
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(content)
    with pytest.raises(SourceError, match=says):
        predict_file(model, source, target)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_header_alone_gives_a_header_alone(model: Pipeline, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("id,title,description\n")
    assert predict_file(model, source, target) == 0
    assert target.read_text() == "id,tag,probability\n"


def test_an_output_that_cannot_be_written_is_named(model: Pipeline, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,title,description\n1,a,b\n")
    with pytest.raises(PlatformError, match=r"nowhere.out\.csv cannot be written"):
        predict_file(model, source, tmp_path / "nowhere" / "out.csv")


def test_a_field_of_a_million_characters_is_read(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text(f"id,title,description\n1,a,{'word ' * 200_000}\n")
    assert len(next(read_rows(source))[2]) == 1_000_000


def test_a_pipe_is_written_to_and_stays_a_pipe(model: Pipeline, tmp_path: Path) -> None:
    source, pipe = tmp_path / "in.csv", tmp_path / "pipe"
    source.write_text("id,title,description\n1,detect objects,in video\n")
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        assert predict_file(model, source, pipe) == 1
        assert read.result(timeout=10).startswith("id,tag,probability\n1,computer-vision,")
    assert pipe.is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "pipe"]


def test_a_link_is_followed(model: Pipeline, tmp_path: Path) -> None:
    source, link, real = tmp_path / "in.csv", tmp_path / "link.csv", tmp_path / "out.csv"
    source.write_text("id,title,description\n1,detect objects,in video\n")
    link.symlink_to(real)
    assert predict_file(model, source, link) == 1
    assert link.is_symlink()
    assert real.read_text().startswith("id,tag,probability\n1,computer-vision,")
