"""What Airbyte's answers say of jobs, and the two kinds of answer that say nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlops_platform.errors import AirbyteError

GOING_ON = {
    "pending": "waits to begin",
    "queued": "waits for another job of the connection",
    "running": "runs",
    "incomplete": "lost an attempt, and Airbyte tries again",
}
OVER = {"succeeded", "failed", "error", "cancelled"}


class UnavailableError(AirbyteError):
    """A request that may succeed later; whether it was carried out is not known.

    Attributes:
        wait: Seconds after which Airbyte wants to be asked again; None where it doesn't say.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class RefusedError(AirbyteError):
    """A request that Airbyte understood and will not carry out.

    Attributes:
        status: The HTTP status; None where there was no server to ask.
    """

    def __init__(self, status: int | None, message: str) -> None:
        super().__init__(message)
        self.status = status


def whole_number(value: Any) -> int | None:
    """Reads a count or a job's number out of an answer, which may hold it as a text; None for anything else."""
    text = str(value).strip()
    return int(text) if not isinstance(value, bool) and re.fullmatch("[0-9]{1,18}", text) else None


@dataclass(frozen=True)
class Job:
    """A job of the connection, as the list of jobs tells it."""

    number: int
    kind: str
    going_on: bool


def read_jobs(listed: Iterable[Mapping[str, Any]], connection_id: str) -> list[Job]:
    """Reads a list of jobs; what has no number, or is another connection's, is left out.

    Args:
        listed: The jobs as Airbyte lists them.
        connection_id: The connection.
    """
    return [
        Job(number, str(job.get("jobType", "sync")), job.get("status") not in OVER)
        for job in listed
        if (number := whole_number(job.get("jobId"))) and job.get("connectionId", connection_id) == connection_id
    ]
