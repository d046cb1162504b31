"""How an error of the platform reaches the user of a run: as a sentence, not as a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from mlops_platform.errors import PlatformError


@contextmanager
def sentences(*also: type[Exception]) -> Iterator[None]:
    """Turns a PlatformError into the `dg.Failure` that shows its sentence in the run.

    Retries are off: what the sentence asks for is the user's to do.

    Args:
        also: Other errors whose message is a sentence for the user; `ml` raises ValueError so.

    Raises:
        dagster.Failure: With the sentence as description, where the body raises one of these errors.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, (PlatformError, *also)):
            raise
        raise dg.Failure(description=str(error), allow_retries=False) from None
