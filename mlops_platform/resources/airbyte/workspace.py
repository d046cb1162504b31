"""Airbyte as a resource: syncs a connection through dagster-airbyte, and turns its errors into one sentence.

The API calls belong in ``client``; what a sync writes to the warehouse belongs to the assets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
import requests
from pydantic import SecretStr

from mlops_platform.errors import AirbyteError
from mlops_platform.settings import AirbyteSettings

if TYPE_CHECKING:
    from mlops_platform.resources.airbyte.client import SyncClient

CLOUD_UI = "https://cloud.airbyte.com"
_BAD_ADDRESS = (requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL)
_TEMPORARY = {408, 425, 429}  # and every 5xx


@dataclass(frozen=True)
class SyncResult:
    """A sync that succeeded: its job, the job's page, what Airbyte reports, and whether it was already running."""

    job_id: int
    url: str
    rows: int | None
    bytes: int | None
    joined: bool


@dataclass(frozen=True)
class Airbyte:
    """An Airbyte workspace; sends no request before `sync` or `require`, so definitions load while Airbyte is down.

    A plain object and not a ConfigurableResource, whose values Dagster's UI shows: the secret too.

    All intervals are in seconds. The retries bridge three minutes: a restart of the server, and the 150 s after which
    dagster-airbyte renews a token that such a restart made invalid.
    """

    url: str
    cloud: bool
    workspace_id: str
    client_id: str
    client_secret: SecretStr
    poll_interval: float = 3.0
    poll_timeout: float = 3600.0
    request_timeout: int = 15
    request_max_retries: int = 36
    request_retry_delay: float = 5.0

    @classmethod
    def of(cls, settings: AirbyteSettings) -> Airbyte:
        """Build the workspace from the settings, even if some are missing."""
        return cls(
            url=settings.airbyte_url.rstrip("/"),
            cloud=settings.airbyte_cloud,
            workspace_id=settings.airbyte_workspace_id,
            client_id=settings.airbyte_client_id,
            client_secret=settings.airbyte_client_secret,
            poll_interval=settings.airbyte_poll_interval,
            poll_timeout=settings.airbyte_poll_timeout,
        )

    def sync(self, connection_id: str) -> SyncResult:
        """Sync a connection: poll the sync that is running, or start one.

        If the run ends before the sync (time-out, error, termination), the sync is cancelled if this call started it.

        Raises:
            AirbyteError: A setting is missing, Airbyte refuses the request or stays unavailable, or the sync does not
                succeed in time.
        """
        client = self.client()
        try:
            client.verify(connection_id)  # the client would retry a refused request for minutes
        except requests.RequestException as error:
            if _is_final(error):
                raise AirbyteError(self._sentence(connection_id, error)) from error
        try:
            details = client.sync_and_poll(connection_id).job_details
        except dg.Failure as failure:
            reason = failure.description or "no reason given"
            remedy = ", or raise MLOPS_AIRBYTE_POLL_TIMEOUT" if reason.startswith("Timeout") else ""
            raise AirbyteError(
                f"{self.name} did not sync connection {connection_id} ({reason.rstrip('.')}): see "
                f"{self.timeline_url(connection_id)}{remedy}."
            ) from failure
        job_id: int = details["jobId"]
        return SyncResult(
            job_id=job_id,
            url=f"{self.timeline_url(connection_id)}?openLogs=true&jobId={job_id}",
            rows=details.get("rowsSynced"),
            bytes=details.get("bytesSynced"),
            joined=not client.has_started(job_id),
        )

    def client(self) -> SyncClient:
        """Build the API client; a missing setting is an AirbyteError."""
        required = {
            "MLOPS_AIRBYTE_URL": self.url or self.cloud,
            "MLOPS_AIRBYTE_WORKSPACE_ID": self.workspace_id,
            "MLOPS_AIRBYTE_CLIENT_ID": self.client_id,
            "MLOPS_AIRBYTE_CLIENT_SECRET": self.client_secret.get_secret_value(),
        }
        missing = [name for name, value in required.items() if not value]
        if missing:
            raise AirbyteError(f"Airbyte is not set up: set {', '.join(missing)}.")
        from mlops_platform.resources.airbyte.client import SyncClient

        addresses: dict[str, Any] = {
            "rest_api_base_url": f"{self.url}/api/public/v1",
            "configuration_api_base_url": f"{self.url}/api/v1",
        }
        return SyncClient(
            **({} if self.cloud else addresses),  # the client's defaults are Airbyte Cloud's
            workspace_id=self.workspace_id,
            client_id=self.client_id,
            client_secret=self.client_secret.get_secret_value(),
            request_max_retries=self.request_max_retries,
            request_retry_delay=self.request_retry_delay,
            request_timeout=self.request_timeout,
            poll_interval=self.poll_interval,
            poll_timeout=self.poll_timeout,
            cancel_on_termination=True,
            poll_previous_running_sync=True,
        )

    def require(self, connection_ids: Sequence[str]) -> None:
        """Raise an AirbyteError unless Airbyte is reachable, accepts the credentials and knows the connections."""
        client = self.client()
        for connection_id in connection_ids:
            try:
                client.verify(connection_id)
            except requests.RequestException as error:
                raise AirbyteError(self._sentence(connection_id, error)) from error

    @property
    def name(self) -> str:
        """Its name in messages."""
        return "Airbyte Cloud" if self.cloud else f"Airbyte at {self.url}"

    def timeline_url(self, connection_id: str) -> str:
        """Return the page of a connection's jobs in Airbyte's UI."""
        base = CLOUD_UI if self.cloud else self.url
        return f"{base}/workspaces/{self.workspace_id}/connections/{connection_id}/timeline"

    def _sentence(self, connection_id: str, error: requests.RequestException) -> str:
        if isinstance(error, _BAD_ADDRESS):
            return f"{self.url} is not an address: set MLOPS_AIRBYTE_URL to one such as http://airbyte:8000."
        reason = type(error).__name__ if error.response is None else f"HTTP {error.response.status_code}"
        if not _is_final(error):
            return f"{self.name} is unavailable ({reason}): check its health and MLOPS_AIRBYTE_URL."
        if reason in ("HTTP 401", "HTTP 403"):
            return (
                f"{self.name} refused the credentials ({reason}): check MLOPS_AIRBYTE_CLIENT_ID, "
                "MLOPS_AIRBYTE_CLIENT_SECRET and MLOPS_AIRBYTE_WORKSPACE_ID."
            )
        return (
            f"{self.name} refused connection {connection_id} ({reason}): check MLOPS_AIRBYTE_PROJECTS_CONNECTION "
            "and MLOPS_AIRBYTE_TAGS_CONNECTION."
        )


def _is_final(error: requests.RequestException) -> bool:
    """Return whether the same request would fail again."""
    if isinstance(error, _BAD_ADDRESS):
        return True
    status = 0 if error.response is None else error.response.status_code
    return 400 <= status < 500 and status not in _TEMPORARY
