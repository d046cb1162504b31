"""The errors a user sees: each message is one sentence that names the thing and the remedy."""

from __future__ import annotations


class PlatformError(Exception):
    """Base of all errors that are meant for the user; the message stands alone, without a traceback."""


class SourceError(PlatformError):
    """A source file or URL is missing, unreachable or not the CSV that was promised."""


class WarehouseError(PlatformError):
    """The warehouse is locked, or a table or column that is needed is not there."""


class ModelError(PlatformError):
    """A model cannot be trained, found or loaded."""


class AirbyteError(PlatformError):
    """Airbyte is not set up, cannot be reached, or its sync did not succeed."""
