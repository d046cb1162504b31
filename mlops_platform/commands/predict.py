"""`mlops predict`: the champion's tag for a text, or for every row of a CSV file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mlops_platform.errors import ModelError, PlatformError, SourceError
from mlops_platform.settings import Settings

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

BATCH_ROWS = 4096
COLUMNS = ("id", "title", "description")
FIELD_LIMIT = 64 * 1024 * 1024


def load_champion(settings: Settings) -> Pipeline:
    """Load the model that the alias `champion` points to.

    Args:
        settings: Where the registry is.

    Raises:
        ModelError: There is no champion, or it can't be loaded.
    """
    from mlops_platform.resources.assembly import build_resources
    from mlops_platform.resources.tracking import CHAMPION

    tracking = build_resources(settings)["tracking"]
    found = tracking.by_alias(CHAMPION) if tracking.exists() else None
    if found is None:
        where = "on the MLflow server" if settings.mlflow_uri else f"in {settings.home}"
        raise ModelError(f"There is no champion model {where} yet: run `mlops run` first.")
    return tracking.load(found.version)


def predict_texts(model: Pipeline, texts: list[tuple[str, str]]) -> list[tuple[str, float]]:
    """Predict tags.

    Args:
        model: A fitted pipeline.
        texts: Title and description of each project.

    Returns:
        Tag and its probability, in the order of the texts.
    """
    from mlops_platform.ml.prediction import predict

    titles, descriptions = zip(*texts, strict=True) if texts else ((), ())
    return [(each.tag, each.probability) for each in predict(model, titles, descriptions)]


def predict_file(model: Pipeline, source: Path, target: Path) -> int:
    """Predict every row of a CSV file, in batches; an output file appears whole or not at all.

    Args:
        model: A fitted pipeline.
        source: CSV with the columns id, title, description, in any order.
        target: CSV with the columns id, tag, probability; one row for each input row, in its order. A symbolic link
            is followed; a device or a pipe (`/dev/stdout`) is written to as it is.

    Returns:
        Rows written.

    Raises:
        SourceError: The input is missing or damaged.
        PlatformError: The output can't be written.
    """
    try:
        if target.exists() and not target.is_file():
            # renaming a file over it, as below, would replace the device itself: /dev/null once became a regular file
            with target.open("w", encoding="utf-8", newline="") as file:
                return _write_predictions(model, source, file)
        target = target.resolve()
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                rows = _write_predictions(model, source, file)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return rows
    except OSError as error:
        raise PlatformError(f"{target} cannot be written: {error.strerror}.") from error


def _write_predictions(model: Pipeline, source: Path, file: TextIO) -> int:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["id", "tag", "probability"])
    reader = read_rows(source)
    rows = 0
    while batch := list(islice(reader, BATCH_ROWS)):
        predicted = predict_texts(model, [(title, description) for _, title, description in batch])
        for (key, _, _), (tag, probability) in zip(batch, predicted, strict=True):
            writer.writerow([key, tag, f"{probability:.6f}"])
        rows += len(batch)
    return rows


def read_rows(source: Path) -> Iterator[tuple[str, str, str]]:
    """Read id, title and description of each row.

    Args:
        source: A CSV file in UTF-8 with these columns.

    Yields:
        The three fields as text.

    Raises:
        SourceError: The file is missing, is not such a CSV, or a row has too few or too many fields.
    """
    csv.field_size_limit(FIELD_LIMIT)
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                raise SourceError(
                    f"{source} has no column {', '.join(missing)}: the first line must name id, title, description, "
                    "separated by commas."
                )
            places = [header.index(name) for name in COLUMNS]
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise SourceError(
                        f"{source}, line {reader.line_num}: {len(row)} fields where the header has {len(header)}; "
                        "mend the row or quote its commas."
                    )
                yield row[places[0]], row[places[1]], row[places[2]]
    except UnicodeDecodeError:
        raise SourceError(f"{source} is not UTF-8 text: save it as UTF-8.") from None
    except csv.Error as error:
        raise SourceError(f"{source}, line {reader.line_num}: {error}; mend the quotes of this row.") from None
    except OSError as error:
        raise SourceError(f"{source} cannot be read: {error.strerror}.") from None
