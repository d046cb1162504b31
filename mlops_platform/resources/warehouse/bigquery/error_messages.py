"""One sentence for each error of BigQuery: what happened, to which dataset, and which setting to change.

Importing this imports Google's libraries, which takes seconds: import it where an error may occur.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests
from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions

from mlops_platform.errors import PlatformError, WarehouseError
from mlops_platform.resources.warehouse.bigquery.credentials import HOW_TO_LOG_IN

if TYPE_CHECKING:
    from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse

_CLIENT_ERRORS = (
    auth_exceptions.GoogleAuthError,
    requests.exceptions.RequestException,
    TimeoutError,
    ConnectionError,
)
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
# service.thing.verb; a role and an address of Google's have the same form
_PERMISSION = re.compile(r"(?<![/\w])(?:bigquery|resourcemanager|serviceusage)\.(?!googleapis)[A-Za-z]+\.[A-Za-z]+")
_DENIED_TABLE = re.compile(r"permission to query table (\S+?)(?:,|\s|$)")
_MISSING_TABLE = re.compile(r"Not found: Table [\w-]+[:.]\w+\.([\w$-]+)", re.I)


@contextmanager
def as_warehouse_error(warehouse: BigQueryWarehouse) -> Iterator[None]:
    """Turn an error of Google's libraries, or one of another library that wraps it, into a sentence.

    Raises:
        WarehouseError: BigQuery refused something, or could not be reached.
    """
    try:
        yield
    except PlatformError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, exceptions.GoogleAPIError):
            cause = cause.__cause__ or cause.__context__
        if cause is None and not isinstance(error, _CLIENT_ERRORS):
            raise
        raise WarehouseError(_sentence(cause or error, warehouse)) from error


def refusal(message: str, warehouse: BigQueryWarehouse) -> str | None:
    """Return the sentence for a message of BigQuery that came without its status; see `Warehouse.refusal`."""
    denied = re.search(r"Access Denied|User does not have", message, re.I)
    if denied:
        return _sentence(exceptions.Forbidden(message[denied.start() :]), warehouse)
    return _sentence(exceptions.BadRequest(message), warehouse) if "bytes billed" in message else None


def names_dataset(error: BaseException) -> bool:
    """Return whether what was not found is the dataset, and not a table in it."""
    return re.match(r"not found: dataset\b", _first_line(error), re.I) is not None


def _sentence(error: BaseException, warehouse: BigQueryWarehouse) -> str:
    cause = error
    while isinstance(cause, exceptions.RetryError) and isinstance(cause.cause, Exception):
        cause = cause.cause  # a retry of a job wraps the retries of its requests
    message = _first_line(cause)
    reasons = {detail.get("reason") for detail in getattr(cause, "errors", None) or () if isinstance(detail, dict)}
    dataset = f"dataset {warehouse.schema_name} of project {warehouse.project}"
    if isinstance(cause, TimeoutError) or re.search(r"timed? ?out", message, re.I):
        return (
            f"A BigQuery job on {dataset} took longer than {warehouse.timeout:g} s and was stopped; "
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
    if reasons & {"quotaExceeded", "rateLimitExceeded"}:
        return f"A quota of BigQuery for {dataset} is used up ({message}); run again later, or have it raised."
    if isinstance(cause, auth_exceptions.GoogleAuthError | exceptions.Unauthorized):
        return f"BigQuery's credentials for {dataset} are not accepted ({message}); {HOW_TO_LOG_IN}."
    if isinstance(cause, exceptions.Forbidden):
        permission, table = _PERMISSION.search(message), _DENIED_TABLE.search(message)
        if not permission and not table:
            return f"BigQuery refused access to {dataset} ({message}); check the service account's roles."
        missing = permission[0] if permission else f"bigquery.tables.getData on {table[1]}"  # type: ignore[index]
        return (
            f"BigQuery refused access to {dataset}: the permission {missing} is missing; grant the service account a "
            "role that holds it."
        )
    if not isinstance(cause, exceptions.NotFound):
        return f"BigQuery refused a statement on {dataset}: {message}"
    if table := _MISSING_TABLE.search(message):
        return (
            f"BigQuery's project {warehouse.project} has no table {warehouse.schema_name}.{table[1]}; "
            "materialize the asset that writes it first."
        )
    if names_dataset(cause):
        return (
            f"BigQuery has no {dataset} in {warehouse.location}: create it there, or correct MLOPS_SCHEMA_NAME, "
            "MLOPS_BIGQUERY_PROJECT or MLOPS_BIGQUERY_LOCATION."
        )
    return f"BigQuery does not find something of {dataset} ({message}); check MLOPS_BIGQUERY_PROJECT."


def _first_line(error: BaseException) -> str:
    """Return the first line of a message, without the request that led to it."""
    text = error.message if isinstance(error, exceptions.GoogleAPICallError) else str(error)
    lines = str(text or "").strip().splitlines() or [type(error).__name__]
    line = lines[0].split("; reason: ")[0]  # a job's error repeats itself after that
    return re.sub(r"^(GET|POST|PUT|PATCH|DELETE) \S+: ", "", line).rstrip(".")
