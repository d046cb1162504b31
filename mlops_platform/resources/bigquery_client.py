"""How BigQuery is reached: credentials, clients, retries, and its errors as one sentence.

Importing this imports Google's libraries and dagster-gcp, which takes seconds: import it where a client is needed.
"""

from __future__ import annotations

import base64
import concurrent.futures
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import google.auth
import requests
from dagster_gcp import BigQueryResource
from google.api_core import exceptions
from google.api_core.retry import Retry
from google.auth import exceptions as auth_exceptions
from google.cloud import bigquery
from google.oauth2 import service_account

from mlops_platform.errors import WarehouseError

if TYPE_CHECKING:
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient

    from mlops_platform.resources.bigquery import BigQueryKey

_TRANSIENT_REASONS = {
    "rateLimitExceeded",
    "quotaExceeded",
    "backendError",
    "internalError",
    "badGateway",
    "jobBackendError",
    "jobInternalError",
    "jobRateLimitExceeded",
}
# service.thing.verb; a role and an address of Google's look alike
_PERMISSION = r"(?<![/\w])(?:bigquery|resourcemanager|serviceusage)\.(?!googleapis)[A-Za-z]+\.[A-Za-z]+"
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 30.0
_HOW_TO_LOG_IN = "set MLOPS_BIGQUERY_KEYFILE or MLOPS_BIGQUERY_CREDENTIALS, or provide Application Default Credentials"


class PlatformBigQuery(BigQueryResource):
    """dagster-gcp's resource, with credentials and address given to the client.

    dagster-gcp hands a key over through a file and a variable of the process, which two threads share, and knows
    no other address than Google's.
    """

    endpoint: str | None = None

    @contextmanager
    def client(self, key: BigQueryKey, **defaults: Any) -> Iterator[bigquery.Client]:
        """A client with the job settings that hold for each of its jobs.

        Args:
            key: What opens the project.
            **defaults: Job configurations, as `bigquery.Client` names them.
        """
        client = bigquery.Client(
            project=self.project,
            location=self.location,
            credentials=credentials(key),
            client_options={"api_endpoint": self.endpoint} if self.endpoint else None,
            **defaults,
        )
        try:
            yield client
        finally:
            client.close()


def credentials(key: BigQueryKey) -> Any:
    """Google's credentials of a key; Application Default Credentials where there is none.

    Raises:
        WarehouseError: The key can't be read, or there are no credentials at all.
    """
    try:
        if key.encoded is not None:
            setting = "MLOPS_BIGQUERY_CREDENTIALS"
            info = json.loads(base64.b64decode(key.encoded.get_secret_value(), validate=True))
        elif key.file is not None:
            setting = f"MLOPS_BIGQUERY_KEYFILE ({key.file})"
            info = json.loads(key.file.read_text(encoding="utf-8"))
        else:
            return google.auth.default(scopes=bigquery.Client.SCOPE)[0]
        return service_account.Credentials.from_service_account_info(info, scopes=bigquery.Client.SCOPE)
    except OSError as error:
        raise WarehouseError(f"{setting} cannot be read ({error.strerror}): check the path.") from None
    except (ValueError, AttributeError, TypeError):  # without the cause, which may quote the key
        raise WarehouseError(
            f"{setting} is no service-account key: make a new one (as base64 in the variable)."
        ) from None
    except auth_exceptions.DefaultCredentialsError:  # after ValueError: a malformed key is both
        raise WarehouseError(f"There are no credentials for BigQuery: {_HOW_TO_LOG_IN}.") from None


def storage_reader(key: BigQueryKey, endpoint: str | None) -> BigQueryReadClient:
    """A client of the Storage API, through which rows come as Arrow."""
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient

    if endpoint is None:
        return BigQueryReadClient(credentials=credentials(key))
    import grpc  # type: ignore[import-untyped]
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    channel = grpc.insecure_channel(endpoint, options=[("grpc.max_receive_message_length", -1)])
    return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))


def transient(error: BaseException) -> bool:
    """Whether the same call may succeed a little later: 429, 5xx, a quota, a broken connection."""
    if isinstance(error, exceptions.GoogleAPICallError):
        reasons = {str(each.get("reason")) for each in error.errors or () if isinstance(each, dict)}
        if reasons & _TRANSIENT_REASONS:
            return True
        if reasons and error.response is None:
            return False  # a job's own error: Google's client makes a 500 of each reason that it doesn't know
        return isinstance(error, exceptions.TooManyRequests | exceptions.ServerError)
    if isinstance(error, requests.exceptions.SSLError):
        return False
    return isinstance(
        error,
        ConnectionError
        | requests.exceptions.ChunkedEncodingError
        | requests.exceptions.ConnectionError
        | requests.exceptions.Timeout
        | auth_exceptions.TransportError,
    )


def retrying(seconds: float) -> Retry:
    """Tries what failed for a transient reason again, after growing pauses, for some seconds in all."""
    return Retry(
        predicate=transient,
        initial=_FIRST_WAIT_SECONDS,
        maximum=_LONGEST_WAIT_SECONDS,
        multiplier=2.0,
        timeout=seconds,
    )


@dataclass(frozen=True)
class Place:
    """What a sentence about an error names."""

    project: str
    dataset: str
    location: str
    endpoint: str | None
    timeout: float

    def __str__(self) -> str:
        return f"dataset {self.dataset} of project {self.project}"


@contextmanager
def one_sentence(place: Place) -> Iterator[None]:
    """Turns what Google's libraries raise in the block into a `WarehouseError`.

    Raises:
        WarehouseError: Something failed, and will again or has for too long.
    """
    try:
        yield
    except exceptions.RetryError as error:
        cause = error.cause if isinstance(error.cause, Exception) else error
        raise WarehouseError(_sentence(cause, place, tried=True)) from error
    except (
        exceptions.GoogleAPICallError,
        auth_exceptions.GoogleAuthError,
        requests.exceptions.RequestException,
        concurrent.futures.TimeoutError,
        ConnectionError,
    ) as error:
        raise WarehouseError(_sentence(error, place, tried=transient(error))) from error


def _sentence(error: Exception, place: Place, *, tried: bool) -> str:
    said = _said(error)
    if isinstance(error, concurrent.futures.TimeoutError) or re.search(r"timed? ?out", said, re.I):
        return (
            f"A BigQuery job on {place} took longer than {place.timeout:g} s and was stopped; "
            f"raise MLOPS_BIGQUERY_TIMEOUT, or give the job less to do."
        )
    if tried:
        return f"BigQuery could not serve {place}, and not after several tries either ({said}); run again later."
    if isinstance(error, auth_exceptions.GoogleAuthError | exceptions.Unauthorized):
        return f"BigQuery's credentials for {place} are not accepted ({said}); {_HOW_TO_LOG_IN}."
    if isinstance(error, exceptions.Forbidden):
        permission = re.search(_PERMISSION, said)
        table = re.search(r"permission to query table (\S+?),? ", f"{said} ")
        if permission or table:
            missing = permission[0] if permission else f"bigquery.tables.getData on {table[1]}"  # type: ignore[index]
            return (
                f"BigQuery refused access to {place}: the permission {missing} is missing; grant the service "
                "account a role that holds it."
            )
        return f"BigQuery refused access to {place} ({said}); check the service account's roles."
    if isinstance(error, exceptions.NotFound):
        table = re.search(r"Not found: Table [\w-]+[:.]\w+\.([\w$-]+)", said, re.I)
        if table:
            return missing_table(place, table[1])
        if names_dataset(error):
            return (
                f"BigQuery has no {place} in {place.location}: make it there, or mend MLOPS_SCHEMA_NAME, "
                "MLOPS_BIGQUERY_PROJECT or MLOPS_BIGQUERY_LOCATION."
            )
        return f"BigQuery does not find something of {place} ({said}); check MLOPS_BIGQUERY_PROJECT."
    if "bytes billed" in said:
        return (
            f"A BigQuery query on {place} would read too much ({said}); "
            "raise MLOPS_BIGQUERY_MAX_BYTES if it is meant to."
        )
    return f"BigQuery refused a statement on {place}: {said}"


def refusal(said: str, place: Place) -> str | None:
    """The sentence for a message of BigQuery's that came without its status; None if it is about the statement itself.

    Args:
        said: The message, with what a tool put before it.
        place: Where the tool worked.
    """
    denied = re.search(r"Access Denied|User does not have", said, re.I)
    if denied:
        return _sentence(exceptions.Forbidden(said[denied.start() :]), place, tried=False)
    if "bytes billed" in said:
        return _sentence(exceptions.BadRequest(said), place, tried=False)
    return None


def names_dataset(error: Exception) -> bool:
    """Whether what was not found is the dataset, and no table in it."""
    return re.match(r"not found: dataset\b", _said(error), re.I) is not None


def missing_table(place: Place, table: str) -> str:
    """The sentence about a table that isn't there."""
    return (
        f"BigQuery's project {place.project} has no table {place.dataset}.{table}; "
        "materialize the asset that writes it first."
    )


def _said(error: Exception) -> str:
    """The first line of a message, without the request that led to it."""
    text = error.message if isinstance(error, exceptions.GoogleAPICallError) else str(error)
    lines = str(text or "").strip().splitlines() or [type(error).__name__]
    told = lines[0].split("; reason: ")[0]  # a job's error repeats itself after that
    return re.sub(r"^(GET|POST|PUT|PATCH|DELETE) \S+: ", "", told).rstrip(".")
