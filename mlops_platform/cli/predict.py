"""`mlops predict`: predict the tag of a text, or of every row of a CSV file, with the champion."""

from __future__ import annotations

import csv
import errno
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from mlops_platform.atomic_write import atomic_write
from mlops_platform.errors import ModelError, PlatformError, SourceError
from mlops_platform.settings import RegistrySettings, Settings

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

BATCH_ROWS = 4096
COLUMNS = ("id", "title", "description")
FIELD_LIMIT = 64 * 1024 * 1024


def predict(
    text: Annotated[str | None, typer.Argument(help="A project's title and description.")] = None,
    source: Annotated[Path | None, typer.Option("--input", help="CSV with id, title, description.")] = None,
    target: Annotated[Path | None, typer.Option("--output", help="CSV to write: id, tag, probability.")] = None,
) -> None:
    """Predict the tag of one text, or of every row of a CSV file."""
    if (text is None) == (source is None) or (source is None) != (target is None):
        raise typer.BadParameter("give either a text, or --input FILE.csv and --output FILE.csv")
    if source is not None and target is not None:
        if source.is_dir() or not source.exists():
            raise PlatformError(f"{source} is not a file: give --input the path of a CSV.")
        rows = predict_file(load_champion(Settings()), source, target)
        # `--output /dev/stdout` prints the CSV and nothing else
        print(f"{rows} predictions in {target}", file=sys.stdout if target.is_file() else sys.stderr)
        return
    if text is None or not text.strip():
        raise PlatformError("The text is empty: give a title or a description.")
    from mlops_platform.ml.classifier import prediction

    (predicted,) = prediction.predict(load_champion(Settings()), [""], [text])
    print(f"{predicted.tag} {predicted.probability:.3f}")


def load_champion(settings: RegistrySettings) -> Pipeline:
    """Load the model with the alias `champion`; raise a `ModelError` if there is none or it cannot be loaded."""
    from mlops_platform.resources.factory import build_registry
    from mlops_platform.resources.registry.model_registry import CHAMPION

    tracking = build_registry(settings)
    champion = tracking.by_alias(CHAMPION) if tracking.exists() else None
    if champion is None:
        where = "on the MLflow server" if settings.mlflow_uri else f"in {settings.home}"
        raise ModelError(f"There is no champion model {where} yet: run `mlops run` first.")
    return tracking.load(champion.version)


def predict_file(model: Pipeline, source: Path, target: Path) -> int:
    """Predict every row of a CSV file in batches, replace the output file atomically, and return the number of rows.

    Args:
        model: A fitted pipeline.
        source: CSV with the columns id, title, description, in any order.
        target: CSV with the columns id, tag, probability; one row for each input row, in its order. A symbolic link
            is followed; a device or a pipe (`/dev/stdout`) is written to directly.

    Raises:
        SourceError: The input is missing or damaged.
        PlatformError: The output cannot be written.
    """
    try:
        if target.exists() and not target.is_file():
            # an atomic replacement would replace the device itself: /dev/null once became a regular file
            with target.open("w", encoding="utf-8", newline="") as file:
                return _write_predictions(model, source, file)
        target = target.resolve()
        if not target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "its folder does not exist")
        with atomic_write(target) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            return _write_predictions(model, source, file)
    except OSError as error:
        raise PlatformError(f"{target} cannot be written: {error.strerror}.") from error


def _write_predictions(model: Pipeline, source: Path, file: TextIO) -> int:
    from mlops_platform.ml.classifier import prediction

    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["id", "tag", "probability"])
    reader = read_rows(source)
    rows = 0
    while batch := list(islice(reader, BATCH_ROWS)):
        keys, titles, descriptions = zip(*batch, strict=True)
        for key, predicted in zip(keys, prediction.predict(model, titles, descriptions), strict=True):
            writer.writerow([key, predicted.tag, f"{predicted.probability:.6f}"])
        rows += len(batch)
    return rows


def read_rows(source: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the id, title and description of each row of a CSV file in UTF-8, as text.

    Raises:
        SourceError: The file is missing, is not such a CSV, or a row has too few or too many fields.
    """
    csv.field_size_limit(FIELD_LIMIT)
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            if missing := ", ".join(name for name in COLUMNS if name not in header):
                names = "id, title, description, separated by commas"
                raise SourceError(f"{source} has no column {missing}: the first line must name {names}.")
            key, title, description = (header.index(name) for name in COLUMNS)
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise SourceError(
                        f"{source}, line {reader.line_num}: {len(row)} fields where the header has {len(header)}; "
                        "correct the row or quote its commas."
                    )
                yield row[key], row[title], row[description]
    except UnicodeDecodeError:
        raise SourceError(f"{source} is not UTF-8 text: save it as UTF-8.") from None
    except csv.Error as error:
        raise SourceError(f"{source}, line {reader.line_num}: {error}; correct the quotes of this row.") from None
    except OSError as error:
        raise SourceError(f"{source} cannot be read: {error.strerror}.") from None
