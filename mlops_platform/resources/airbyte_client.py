"""dagster-airbyte's client, but for one thing: each request is sent once, and says what kind of failure it met.

Its own retries are blind: a POST is repeated although the first may have started a sync, and a GET gives up after
three. When to try again is decided by ``airbyte_sync``. Imported inside functions only: dagster-airbyte takes 2 s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from dagster_airbyte import AirbyteCloudWorkspace, AirbyteWorkspace
from dagster_airbyte.resources import AirbyteClient

from mlops_platform.resources.airbyte_jobs import GOING_ON, RefusedError, UnavailableError

_RETRIABLE = {408, 425, 429}  # and every 5xx
_PAGE = 100  # the most that Airbyte gives at once


class OnceClient(AirbyteClient):
    """Airbyte's public API: every answer that is no success raises `UnavailableError` or `RefusedError`."""

    @classmethod
    def of(cls, workspace: AirbyteWorkspace | AirbyteCloudWorkspace) -> OnceClient:
        """Make it with the addresses and the credentials of a workspace."""
        return cls(**workspace.get_client().model_dump())

    def jobs(self, connection_id: str) -> list[Mapping[str, Any]]:
        """List a connection's newest jobs, and all that are still going on, however old they are.

        Args:
            connection_id: The connection.
        """
        url = f"{self.rest_api_base_url}/jobs"
        parameters = {
            "workspaceIds": self.workspace_id,
            "connectionId": connection_id,
            "orderBy": "createdAt|DESC",
            "limit": _PAGE,
        }
        answer = self._single_request("GET", url, params=parameters)
        jobs = answer.get("data")
        if not isinstance(jobs, list):
            raise UnavailableError("the answer lists no jobs")
        if answer.get("next"):
            # no limit by time, which would trust in two clocks
            for status in GOING_ON:
                jobs += self._paginated_request("GET", url, {**parameters, "status": status})
        return [job for job in jobs if isinstance(job, dict)]

    def _paginated_request(self, *args: Any, **kwargs: Any) -> Sequence[Mapping[str, Any]]:
        try:
            return super()._paginated_request(*args, **kwargs)
        except TypeError as error:  # `data` is null, or no list
            raise UnavailableError("the answer lists no jobs") from error

    def _refresh_access_token(self) -> None:
        try:
            super()._refresh_access_token()
        except KeyError as error:
            raise UnavailableError("the answer holds no access token") from error

    def connection(self, connection_id: str) -> Mapping[str, Any]:
        """Look a connection up."""
        return self._single_request("GET", f"{self.rest_api_base_url}/connections/{connection_id}")

    def _single_request(
        self,
        method: str,
        url: str,
        data: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        include_additional_request_headers: bool = True,
    ) -> Mapping[str, Any]:
        answer = self._send(method, url, data, params, include_additional_request_headers)
        if answer.status_code == 401 and include_additional_request_headers:
            # the token ended early, or the server that gave it was restarted
            self._access_token_value = None
            answer = self._send(method, url, data, params, include_additional_request_headers)
        if answer.status_code >= 500 or answer.status_code in _RETRIABLE:
            raise UnavailableError(f"{method} {url} answered {answer.status_code}", _wait(answer))
        if not answer.ok:
            raise RefusedError(answer.status_code, f"{method} {url} answered {answer.status_code}{_detail(answer)}")
        if not answer.content:
            return {}
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise UnavailableError(f"{method} {url} answered something that is no JSON object")
        return content

    def _send(
        self, method: str, url: str, data: Mapping[str, Any] | None, params: Mapping[str, Any] | None, authorized: bool
    ) -> requests.Response:
        try:
            with self._get_session(include_additional_request_headers=authorized) as session:
                return session.request(method, url, json=data, params=params, timeout=self.request_timeout)
        except (
            requests.exceptions.MissingSchema,
            requests.exceptions.InvalidSchema,
            requests.exceptions.InvalidURL,
        ) as error:
            raise RefusedError(None, f"{url} is no address") from error
        except requests.RequestException as error:
            raise UnavailableError(f"{method} {url} got no answer: {_cause(error)}") from error


def _wait(answer: requests.Response) -> float | None:
    """The seconds after which the server wants to be asked again, if it says so."""
    said = answer.headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,9}", said):
        return float(said)
    until = _moment(said)
    if until is None:
        return None
    # from the server's own time, since its clock may not be ours
    now = _moment(answer.headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _detail(answer: requests.Response) -> str:
    try:
        content = answer.json()
    except ValueError:
        return ""
    if not isinstance(content, dict):
        return ""
    found = [content[key] for key in ("title", "detail", "message") if content.get(key)]
    return f" ({': '.join(str(text) for text in found)[:300]})" if found else ""


def _cause(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "timed out"
    return "cannot connect" if isinstance(error, requests.ConnectionError) else type(error).__name__
