"""The error tree, and how an error becomes the failure of a Dagster step.

The message of each error is for the user: one sentence or two that name the thing and the remedy, and need no
traceback. An error that a user cannot act on is not one of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from pydantic import ValidationError


class PlatformError(Exception):
    """Base of all errors that are meant for the user."""


class SourceError(PlatformError):
    """A source file or URL is missing, unreachable or not the CSV that was promised."""


class AirbyteError(PlatformError):
    """Airbyte is not set up, cannot be reached, or its sync did not succeed."""


class WarehouseError(PlatformError):
    """The warehouse is locked, or a table or column that is needed is missing."""


class TransformError(PlatformError):
    """dbt cannot read its project, or a model or test of it cannot run."""


class ModelError(PlatformError):
    """A model cannot be trained, found or loaded."""


class EventLogError(PlatformError):
    """The event log cannot be read or written: the disk is full, or the file is damaged."""


class LabelError(PlatformError):
    """A label, or the log of labels, cannot be used."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def validation_sentence(error: ValidationError) -> str:
    """Return the fields that pydantic refused, each with its value and the reason, in one line."""
    problems = (f"{'.'.join(map(str, item['loc']))}={item['input']!r} ({item['msg']})" for item in error.errors())
    return f"Invalid {error.title}: {'; '.join(problems)}."


@contextmanager
def platform_errors_as_failures(*also: type[Exception]) -> Iterator[None]:
    """Turn a `PlatformError` of the block, or an error of the types `also`, into a `dg.Failure` with its sentence.

    Retries are off: what the sentence asks for is the user's to do.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, (PlatformError, *also)):
            raise
        description = validation_sentence(error) if isinstance(error, ValidationError) else str(error)
        raise dg.Failure(description=description, allow_retries=False) from None
