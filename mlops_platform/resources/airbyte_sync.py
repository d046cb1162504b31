"""One sync of an Airbyte connection: joined or started, seen through, and cancelled when nobody waits for it any more.

Written for a server that fails in between: it may be away while a sync runs, and an error after the request to
start one does not say whether one was started.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from mlops_platform.errors import AirbyteError

if TYPE_CHECKING:
    from mlops_platform.resources.airbyte import Airbyte
    from mlops_platform.resources.airbyte_client import OnceClient

T = TypeVar("T")

_GOING_ON = {
    "pending": "waits to begin",
    "queued": "waits for another job of the connection",
    "running": "runs",
    "incomplete": "lost an attempt, and Airbyte tries again",
}
_OVER = {"succeeded", "failed", "error", "cancelled"}
_START_SECONDS = 60.0  # how long Airbyte may be away before a sync has begun
_LOOKS = 3  # a job whose start was not answered may show up late
_LONGEST_PAUSE = 30.0
_CANCEL_TRIES = 3
_JOBS_WITHIN = timedelta(days=2)


class UnavailableError(AirbyteError):
    """A request that may succeed later; whether it was carried out is not known."""


class RefusedError(AirbyteError):
    """A request that Airbyte understood and will not carry out.

    Attributes:
        status: The HTTP status; None where there was no server to ask.
    """

    def __init__(self, status: int | None, message: str) -> None:
        super().__init__(message)
        self.status = status


class Sync:
    """One sync, from the look for a running one to its end.

    Attributes:
        joined: Whether it was running already.
    """

    def __init__(self, airbyte: Airbyte, client: OnceClient, connection_id: str) -> None:
        self.joined = False
        self._airbyte, self._client, self._connection = airbyte, client, connection_id
        self._log = dg.get_dagster_logger()
        self._begun = time.monotonic()
        self._deadline = self._begun + airbyte.poll_timeout
        self._job: int | None = None
        self._known: set[int] | None = None  # jobs from before the request to start one; None until it is sent
        self._over = False

    def carry_out(self) -> Mapping[str, Any]:
        """Returns Airbyte's details of the job that succeeded.

        Raises:
            AirbyteError: If Airbyte refuses or stays away, or the sync doesn't succeed in time.
        """
        try:
            self._job = self._running_job() or self._start()
            return self._see_through(self._job)
        except RefusedError as error:
            if error.status == 404 and self._job is not None:
                raise AirbyteError(
                    f"{self._airbyte.name} does not know the sync {self._job} any more ({error}); run it again."
                ) from error
            raise AirbyteError(self._airbyte.refusal(self._connection, error)) from error
        finally:
            if not self._over:
                self._cancel()

    def _running_job(self) -> int | None:
        jobs = self._patiently(self._syncs, self._start_deadline)
        running = [job for job, status in jobs.items() if status not in _OVER]
        if not running:
            self._known = set(jobs)
            return None
        return self._join(max(running))

    def _start(self) -> int:
        assert self._known is not None  # noqa: S101
        while True:
            try:
                job = int(self._client.start_sync_job(self._connection).get("jobId") or 0)
                if not job:
                    raise UnavailableError("the answer names no job")
            except (UnavailableError, RefusedError) as error:
                # 409: a sync began in between, or another kind of job is under way
                if isinstance(error, RefusedError) and error.status != 409:
                    self._known = None
                    raise
                self._log.warning(f"It is not clear whether the sync has started ({error}): looking at Airbyte's jobs.")
                found = self._new_job()
                if found is not None:
                    return self._join(found)
                if time.monotonic() >= self._start_deadline:
                    raise AirbyteError(
                        f"{self._airbyte.name} did not start a sync of connection {self._connection} ({error}); "
                        "look at its health."
                    ) from error
            else:
                self._log.info(f"Started the Airbyte sync {job}: {self._url(job)}")
                return job

    def _new_job(self) -> int | None:
        """Finds the job of a request that was not answered."""
        for _ in range(_LOOKS):
            time.sleep(self._airbyte.poll_interval)
            new = set(self._patiently(self._syncs, self._deadline)) - (self._known or set())
            if new:
                return max(new)
        return None

    def _join(self, job: int) -> int:
        self.joined = True
        self._log.info(f"Joined the Airbyte sync {job}, which is under way: {self._url(job)}")
        return job

    def _see_through(self, job: int) -> Mapping[str, Any]:
        said = None
        while True:
            details = self._patiently(lambda: self._details(job), self._deadline)
            status = details["status"]
            self._over = status in _OVER
            if status == "succeeded":
                return details
            if status == "cancelled":
                raise AirbyteError(f"The Airbyte sync {job} was cancelled in Airbyte; see {self._url(job)}.")
            if self._over:
                raise AirbyteError(f"The Airbyte sync {job} failed; its log says why: {self._url(job)}.")
            if status != said and status in _GOING_ON:
                self._log.info(f"The Airbyte sync {job} {_GOING_ON[status]}.")
            elif status != said:
                self._log.warning(f"The Airbyte sync {job} has the unknown status {status!r}; it is taken as running.")
            said = status
            if time.monotonic() >= self._deadline:
                ending = "was cancelled" if self._cancel() else "could not be cancelled"
                raise AirbyteError(
                    f"The Airbyte sync {job} was not over after {self._airbyte.poll_timeout:g} s and {ending}; see "
                    f"{self._url(job)}, or raise MLOPS_AIRBYTE_POLL_TIMEOUT."
                )
            self._pause(self._airbyte.poll_interval, self._deadline)

    def _cancel(self) -> bool:
        """Cancels the sync, even where only the request to start it is known; says whether Airbyte agreed."""
        self._over = True
        for _ in range(_CANCEL_TRIES):
            try:
                if self._job is None and self._known is not None:
                    self._job = max(set(self._syncs()) - self._known, default=None)
                if self._job is None:
                    return False
                self._client.cancel_job(self._job)
            except RefusedError as error:
                self._log.warning(f"Airbyte did not cancel the sync {self._job} ({error}).")
                return False
            except UnavailableError as error:
                self._log.warning(f"The Airbyte sync is not cancelled yet ({error}).")
                time.sleep(min(1.0, self._airbyte.poll_interval))
            else:
                self._log.info(f"Cancelled the Airbyte sync {self._job}.")
                return True
        return False

    def _syncs(self) -> dict[int, str]:
        """The connection's sync jobs of late: number to status."""
        after = (datetime.now(UTC) - _JOBS_WITHIN).strftime("%Y-%m-%dT%H:%M:%SZ")
        jobs = self._client.jobs(self._connection, after)
        return {
            int(job["jobId"]): str(job.get("status"))
            for job in jobs
            if "jobId" in job
            and job.get("jobType", "sync") == "sync"
            and job.get("connectionId", self._connection) == self._connection
        }

    def _details(self, job: int) -> Mapping[str, Any]:
        details = self._client.get_job_details(job)
        if not isinstance(details.get("status"), str):
            raise UnavailableError("the answer holds no status")
        return {"jobId": job, **details}

    def _patiently(self, request: Callable[[], T], until: float) -> T:
        """Sends a request that changes nothing, again and again while Airbyte is away."""
        pause = self._airbyte.poll_interval
        longest = max(pause, min(5 * pause, _LONGEST_PAUSE))
        while True:
            try:
                return request()
            except UnavailableError as error:
                if time.monotonic() >= until:
                    left = f"; the sync {self._job} may still run" if self._job is not None else ""
                    raise AirbyteError(
                        f"{self._airbyte.name} was away for too long ({error}){left}: check its health"
                        f"{'' if self._airbyte.cloud else ' and MLOPS_AIRBYTE_URL'}."
                    ) from error
                self._log.warning(f"Airbyte is away ({error}); trying again in {pause:g} s.")
            self._pause(pause, until)
            pause = min(2 * pause, longest)

    def _pause(self, seconds: float, until: float) -> None:
        time.sleep(max(0.0, min(seconds, until - time.monotonic())))

    @property
    def _start_deadline(self) -> float:
        return min(self._deadline, self._begun + _START_SECONDS)

    def _url(self, job: int) -> str:
        return self._airbyte.job_url(self._connection, job)
