"""Airbyte as the graph knows it: a workspace whose connections are synced, on dagster-airbyte's workspaces.

The course of a sync is in ``airbyte_sync``. What it leaves in the warehouse belongs to the assets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from mlops_platform.errors import AirbyteError
from mlops_platform.resources.airbyte_jobs import RefusedError, UnavailableError, whole_number
from mlops_platform.resources.airbyte_sync import Sync
from mlops_platform.settings import Settings

if TYPE_CHECKING:
    from mlops_platform.resources.airbyte_client import OnceClient

CLOUD_UI = "https://cloud.airbyte.com"


@dataclass(frozen=True)
class SyncResult:
    """A sync that succeeded.

    Attributes:
        job_id: Its number at Airbyte.
        url: Its page.
        rows: Rows that it moved, as Airbyte counts them; None where Airbyte doesn't say.
        bytes: Bytes that it moved; None where Airbyte doesn't say.
        joined: Whether somebody else had started it.
    """

    job_id: int
    url: str
    rows: int | None
    bytes: int | None
    joined: bool


@dataclass(frozen=True)
class Airbyte:
    """The workspace of an Airbyte; opens no connection before `sync`.

    A plain object and not a ConfigurableResource, because Dagster's UI shows the values of those: the secret too.

    Attributes:
        url: Address of a self-managed Airbyte.
        cloud: Whether it is Airbyte Cloud instead.
        workspace_id: Id of the workspace.
        client_id: Id of an application of Airbyte.
        client_secret: Its secret.
        poll_interval: Seconds between two looks at a running sync.
        poll_timeout: Seconds after which a sync is given up.
        request_timeout: Seconds to wait for an answer.
    """

    url: str
    cloud: bool
    workspace_id: str
    client_id: str
    client_secret: SecretStr
    poll_interval: float = 3.0
    poll_timeout: float = 3600.0
    request_timeout: int = 15

    @classmethod
    def of(cls, settings: Settings) -> Airbyte:
        """Make it from the settings, whether or not they are complete."""
        return cls(
            url=settings.airbyte_url,
            cloud=settings.airbyte_cloud,
            workspace_id=settings.airbyte_workspace_id,
            client_id=settings.airbyte_client_id,
            client_secret=settings.airbyte_client_secret,
            poll_interval=settings.airbyte_poll_interval,
            poll_timeout=settings.airbyte_poll_timeout,
        )

    def sync(self, connection_id: str) -> SyncResult:
        """Brings a connection's data to the warehouse: joins the sync that is under way, or starts one.

        Whatever ends this call before the sync is over (the time limit, an error, the end of the run) cancels it, if
        this run has started it; one that somebody else started is left running.

        Args:
            connection_id: The connection.

        Raises:
            AirbyteError: If a setting is missing, Airbyte refuses or stays away, or the sync doesn't succeed in time.
        """
        sync = Sync(self, self.client(), connection_id)
        details = sync.carry_out()
        job_id: int = details["jobId"]
        return SyncResult(
            job_id=job_id,
            url=self.job_url(connection_id, job_id),
            rows=whole_number(details.get("rowsSynced")),
            bytes=whole_number(details.get("bytesSynced")),
            joined=sync.joined,
        )

    def client(self) -> OnceClient:
        """Makes a client of the workspace.

        Raises:
            AirbyteError: If a setting is missing.
        """
        needed = {
            "MLOPS_AIRBYTE_URL": self.url or self.cloud,
            "MLOPS_AIRBYTE_WORKSPACE_ID": self.workspace_id,
            "MLOPS_AIRBYTE_CLIENT_ID": self.client_id,
            "MLOPS_AIRBYTE_CLIENT_SECRET": self.client_secret.get_secret_value(),
        }
        missing = [name for name, value in needed.items() if not value]
        if missing:
            raise AirbyteError(f"Airbyte is not set up: set {', '.join(missing)}.")
        from dagster_airbyte import AirbyteCloudWorkspace, AirbyteWorkspace

        from mlops_platform.resources.airbyte_client import OnceClient

        common: dict[str, Any] = {
            "workspace_id": self.workspace_id,
            "client_id": self.client_id,
            "client_secret": self.client_secret.get_secret_value(),
            "request_timeout": self.request_timeout,
        }
        if self.cloud:
            return OnceClient.of(AirbyteCloudWorkspace(**common))
        base = self.url.rstrip("/")
        return OnceClient.of(
            AirbyteWorkspace(
                rest_api_base_url=f"{base}/api/public/v1", configuration_api_base_url=f"{base}/api/v1", **common
            )
        )

    def require(self, connection_ids: Sequence[str]) -> None:
        """Sees that Airbyte answers, takes the credentials and knows the connections; asks once.

        Args:
            connection_ids: The connections.

        Raises:
            AirbyteError: If a setting is missing, or it doesn't.
        """
        client = self.client()
        for connection_id in connection_ids:
            try:
                client.connection(connection_id)
            except RefusedError as error:
                raise AirbyteError(self.refusal(connection_id, error)) from error
            except UnavailableError as error:
                raise AirbyteError(f"{self.name} is away ({error}).") from error

    def refusal(self, connection_id: str, error: RefusedError) -> str:
        """The sentence for a request that Airbyte refused.

        Args:
            connection_id: The connection that it was about.
            error: What Airbyte said.
        """
        if error.status in (401, 403):
            return (
                f"{self.name} refused the credentials ({error}); check MLOPS_AIRBYTE_CLIENT_ID, "
                "MLOPS_AIRBYTE_CLIENT_SECRET and MLOPS_AIRBYTE_WORKSPACE_ID."
            )
        if error.status is None:
            return f"{error}; set MLOPS_AIRBYTE_URL to one such as http://airbyte:8000."
        return (
            f"{self.name} refused connection {connection_id} ({error}); check "
            "MLOPS_AIRBYTE_PROJECTS_CONNECTION and MLOPS_AIRBYTE_TAGS_CONNECTION, and that the connection is active."
        )

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        return "Airbyte Cloud" if self.cloud else f"Airbyte at {self.url}"

    def job_url(self, connection_id: str, job_id: int) -> str:
        """The page of a job in Airbyte's UI: the connection's timeline, which opens the job's log."""
        base = CLOUD_UI if self.cloud else self.url.rstrip("/")
        return (
            f"{base}/workspaces/{self.workspace_id}/connections/{connection_id}/timeline?openLogs=true&jobId={job_id}"
        )
