"""One sentence for each error of BigQuery: what happened, to which dataset, and which setting to change.

Importing this imports Google's libraries, which takes seconds: import it where an error may occur.
"""

from __future__ import annotations

import concurrent.futures
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import requests
from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions

from mlops_platform.errors import WarehouseError
from mlops_platform.resources.warehouse.bigquery.credentials import HOW_TO_LOG_IN

_UNREACHABLE = (
    exceptions.RetryError,
    exceptions.TooManyRequests,
    exceptions.BadGateway,
    exceptions.ServiceUnavailable,
    exceptions.GatewayTimeout,
    auth_exceptions.TransportError,
    requests.exceptions.RequestException,
    ConnectionError,
)
_QUOTA_REASONS = {"quotaExceeded", "rateLimitExceeded"}
# service.thing.verb; a role and an address of Google's have the same form
_PERMISSION = re.compile(r"(?<![/\w])(?:bigquery|resourcemanager|serviceusage)\.(?!googleapis)[A-Za-z]+\.[A-Za-z]+")
_DENIED_TABLE = re.compile(r"permission to query table (\S+?)(?:,|\s|$)")
_MISSING_TABLE = re.compile(r"Not found: Table [\w-]+[:.]\w+\.([\w$-]+)", re.I)


@dataclass(frozen=True)
class Dataset:
    """The dataset that an error is about.

    Attributes:
        project: The Google Cloud project.
        name: Name of the dataset.
        location: Where it is.
        timeout: Seconds that a job on it may take.
    """

    project: str
    name: str
    location: str
    timeout: float

    def __str__(self) -> str:
        return f"dataset {self.name} of project {self.project}"


@contextmanager
def as_warehouse_error(dataset: Dataset) -> Iterator[None]:
    """Turn what Google's libraries raise in the block into a `WarehouseError` with one sentence.

    Raises:
        WarehouseError: BigQuery refused something, or could not be reached.
    """
    try:
        yield
    except (
        exceptions.GoogleAPIError,
        auth_exceptions.GoogleAuthError,
        requests.exceptions.RequestException,
        concurrent.futures.TimeoutError,
        ConnectionError,
    ) as error:
        raise WarehouseError(_sentence(error, dataset)) from error


def refusal(message: str, dataset: Dataset) -> str | None:
    """Return the sentence for a message of BigQuery that came without its status.

    Args:
        message: The message, with what a tool put before it.
        dataset: Where the tool worked.

    Returns:
        None if the message is about the statement itself.
    """
    denied = re.search(r"Access Denied|User does not have", message, re.I)
    if denied:
        return _sentence(exceptions.Forbidden(message[denied.start() :]), dataset)
    return _sentence(exceptions.BadRequest(message), dataset) if "bytes billed" in message else None


def names_dataset(error: Exception) -> bool:
    """Return whether what was not found is the dataset, and not a table in it."""
    return re.match(r"not found: dataset\b", _first_line(error), re.I) is not None


def _sentence(error: Exception, dataset: Dataset) -> str:
    cause = error
    while isinstance(cause, exceptions.RetryError) and isinstance(cause.cause, Exception):
        cause = cause.cause  # a retry of a job wraps the retries of its requests
    message = _first_line(cause)
    reasons = {detail.get("reason") for detail in getattr(cause, "errors", None) or () if isinstance(detail, dict)}
    if isinstance(cause, concurrent.futures.TimeoutError) or re.search(r"timed? ?out", message, re.I):
        return (
            f"A BigQuery job on {dataset} took longer than {dataset.timeout:g} s and was stopped; "
            "raise MLOPS_BIGQUERY_TIMEOUT, or give the job less to do."
        )
    if "bytes billed" in message:
        return (
            f"A BigQuery query on {dataset} would read too much ({message}); "
            "raise MLOPS_BIGQUERY_MAX_BYTES if it is meant to."
        )
    if isinstance(error, _UNREACHABLE):
        retried = ", and not after several attempts either" if isinstance(error, exceptions.RetryError) else ""
        return f"BigQuery could not serve {dataset}{retried} ({message}); run again later."
    if reasons & _QUOTA_REASONS:
        return f"A quota of BigQuery for {dataset} is used up ({message}); run again later, or have it raised."
    if isinstance(cause, auth_exceptions.GoogleAuthError | exceptions.Unauthorized):
        return f"BigQuery's credentials for {dataset} are not accepted ({message}); {HOW_TO_LOG_IN}."
    if isinstance(cause, exceptions.Forbidden):
        return _denied(message, dataset)
    if isinstance(cause, exceptions.NotFound):
        return _not_found(cause, message, dataset)
    return f"BigQuery refused a statement on {dataset}: {message}"


def _denied(message: str, dataset: Dataset) -> str:
    permission, table = _PERMISSION.search(message), _DENIED_TABLE.search(message)
    if not permission and not table:
        return f"BigQuery refused access to {dataset} ({message}); check the service account's roles."
    missing = permission[0] if permission else f"bigquery.tables.getData on {table[1]}"  # type: ignore[index]
    return (
        f"BigQuery refused access to {dataset}: the permission {missing} is missing; grant the service account a "
        "role that holds it."
    )


def _not_found(error: Exception, message: str, dataset: Dataset) -> str:
    table = _MISSING_TABLE.search(message)
    if table:
        return (
            f"BigQuery's project {dataset.project} has no table {dataset.name}.{table[1]}; "
            "materialize the asset that writes it first."
        )
    if names_dataset(error):
        return (
            f"BigQuery has no {dataset} in {dataset.location}: create it there, or correct MLOPS_SCHEMA_NAME, "
            "MLOPS_BIGQUERY_PROJECT or MLOPS_BIGQUERY_LOCATION."
        )
    return f"BigQuery does not find something of {dataset} ({message}); check MLOPS_BIGQUERY_PROJECT."


def _first_line(error: Exception) -> str:
    """Return the first line of a message, without the request that led to it."""
    text = error.message if isinstance(error, exceptions.GoogleAPICallError) else str(error)
    lines = str(text or "").strip().splitlines() or [type(error).__name__]
    line = lines[0].split("; reason: ")[0]  # a job's error repeats itself after that
    return re.sub(r"^(GET|POST|PUT|PATCH|DELETE) \S+: ", "", line).rstrip(".")
