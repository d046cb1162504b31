"""One sync of an Airbyte connection: joined or started, seen through, and cancelled if it is ours and nobody waits.

Written for a server that fails in between: it may be away while a sync runs, and an error after the request to
start one does not say whether one was started.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from mlops_platform.errors import AirbyteError
from mlops_platform.resources import airbyte_runs
from mlops_platform.resources.airbyte_jobs import (
    GOING_ON,
    OVER,
    Job,
    RefusedError,
    UnavailableError,
    read_jobs,
    whole_number,
)

if TYPE_CHECKING:
    from mlops_platform.resources.airbyte import Airbyte
    from mlops_platform.resources.airbyte_client import OnceClient

T = TypeVar("T")

_START_SECONDS = 60.0  # how long Airbyte may be away before a sync has begun
_LOOKS = 3  # a job whose start was not answered may show up late
_LONGEST_PAUSE = 30.0
_CANCEL_TRIES = 3
_LONGEST_CANCEL_PAUSE = 5.0  # what terminates a run does not wait for long


class Sync:
    """One sync, from the look for a running one to its end.

    Attributes:
        joined: Whether somebody else has started it.
    """

    def __init__(self, airbyte: Airbyte, client: OnceClient, connection_id: str) -> None:
        self.joined = False
        self._airbyte, self._client, self._connection = airbyte, client, connection_id
        self._log = dg.get_dagster_logger()
        self._begun = time.monotonic()
        self._deadline = self._begun + airbyte.poll_timeout
        self._job: int | None = None
        self._before = 0  # the newest job before the request to start one
        self._unclear = False  # whether such a request may have made a job that we do not know
        self._waits_for = ""  # the job of another kind that the log has named
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
        jobs = self._patiently(self._jobs, self._start_deadline)
        running = [job.number for job in jobs if job.kind == "sync" and job.going_on]
        if not running:
            self._before = max((job.number for job in jobs), default=0)
            return None
        return self._join(max(running))

    def _start(self) -> int:
        while True:
            unclear, self._unclear = self._unclear, True
            try:
                job = self._request_start()
            except UnavailableError as error:
                self._log.warning(f"It is not clear whether the sync has started ({error}): looking at Airbyte's jobs.")
                self._pause(error.wait or 0.0, self._deadline)
                found = self._new_job()
                if found is not None:
                    return self._join(found)
                if time.monotonic() >= (self._deadline if error.wait else self._start_deadline):
                    raise AirbyteError(
                        f"{self._airbyte.name} did not start a sync of connection {self._connection} ({error}); "
                        "look at its health."
                    ) from error
            except RefusedError as error:
                self._unclear = unclear
                if error.status != 409:
                    raise
                found = self._in_the_way(error)
                if found is not None:
                    return self._join(found)
            else:
                self._log.info(f"Started the Airbyte sync {job}: {self._url(job)}")
                self._job = job
                airbyte_runs.note_start(self._connection, job)
                return job

    def _request_start(self) -> int:
        job = whole_number(self._client.start_sync_job(self._connection).get("jobId"))
        if not job:
            raise UnavailableError("the answer names no job")
        return job

    def _new_job(self) -> int | None:
        """Finds the job of a request that was not answered."""
        for _ in range(_LOOKS):
            time.sleep(self._airbyte.poll_interval)
            found = self._newest(self._patiently(self._jobs, self._deadline))
            if found is not None:
                return found
        return None

    def _newest(self, jobs: list[Job]) -> int | None:
        """The newest sync that was made since the request to start one."""
        return max((job.number for job in jobs if job.kind == "sync" and job.number > self._before), default=None)

    def _in_the_way(self, error: RefusedError) -> int | None:
        """Finds the sync that kept another one from starting, or waits a little for a job of another kind."""
        jobs = self._patiently(self._jobs, self._deadline)
        syncs = [job.number for job in jobs if job.kind == "sync" and job.going_on]
        found = max(syncs) if syncs else self._newest(jobs)
        if found is not None:
            return found
        name = next((f"the {job.kind} {job.number}" for job in jobs if job.going_on), None)
        if time.monotonic() >= (self._deadline if name else self._start_deadline):
            raise AirbyteError(
                f"{self._airbyte.name} started no sync of connection {self._connection}: {name or 'another job'} of it "
                f"still runs after {time.monotonic() - self._begun:.3g} s ({error}); run again when that is over"
                f"{', or raise MLOPS_AIRBYTE_POLL_TIMEOUT' if name else ''}."
            ) from error
        if name and name != self._waits_for:
            self._waits_for = name
            self._log.info(f"The sync waits for {name} of the connection to end.")
        self._pause(self._airbyte.poll_interval, self._deadline)
        return None

    def _join(self, job: int) -> int:
        # a new job after a request that was not answered is the one that was asked for
        ours = self._unclear and job > self._before
        if ours:
            airbyte_runs.note_start(self._connection, job)
        self.joined = not (ours or airbyte_runs.started_by_this_run(self._connection, job))
        whose = "which somebody else started" if self.joined else "which this run started"
        self._log.info(f"Joined the Airbyte sync {job}, {whose}: {self._url(job)}")
        return job

    def _see_through(self, job: int) -> Mapping[str, Any]:
        said = None
        while True:
            details = self._patiently(lambda: self._details(job), self._deadline)
            status = details["status"]
            self._over = status in OVER
            if status == "succeeded":
                return details
            if status == "cancelled":
                raise AirbyteError(f"The Airbyte sync {job} was cancelled in Airbyte; see {self._url(job)}.")
            if self._over:
                raise AirbyteError(f"The Airbyte sync {job} failed; its log says why: {self._url(job)}.")
            if status != said and status in GOING_ON:
                self._log.info(f"The Airbyte sync {job} {GOING_ON[status]}.")
            elif status != said:
                self._log.warning(f"The Airbyte sync {job} has the unknown status {status!r}; it is taken as running.")
            said = status
            if time.monotonic() >= self._deadline:
                if self.joined:
                    ending = "goes on, since somebody else started it"
                else:
                    ending = "was cancelled" if self._cancel() else "could not be cancelled"
                raise AirbyteError(
                    f"The Airbyte sync {job} was not over after {self._airbyte.poll_timeout:g} s and {ending}; see "
                    f"{self._url(job)}, or raise MLOPS_AIRBYTE_POLL_TIMEOUT."
                )
            self._pause(self._airbyte.poll_interval, self._deadline)

    def _cancel(self) -> bool:
        """Cancels the sync, even where only the request to start it is known; says whether Airbyte agreed."""
        self._over = True
        if self.joined:
            self._log.warning(f"The Airbyte sync {self._job} is left running, since somebody else started it.")
            return False
        for _ in range(_CANCEL_TRIES):
            try:
                if self._job is None and self._unclear:
                    self._job = self._newest(self._jobs())
                if self._job is None:
                    return False
                self._client.cancel_job(self._job)
            except RefusedError as error:
                self._log.warning(f"Airbyte did not cancel the sync {self._job} ({error}).")
                return False
            except UnavailableError as error:
                self._log.warning(f"The Airbyte sync is not cancelled yet ({error}).")
                time.sleep(min(error.wait or min(1.0, self._airbyte.poll_interval), _LONGEST_CANCEL_PAUSE))
            else:
                self._log.info(f"Cancelled the Airbyte sync {self._job}.")
                return True
        return False

    def _jobs(self) -> list[Job]:
        """The connection's newest jobs, and those that are going on."""
        return read_jobs(self._client.jobs(self._connection), self._connection)

    def _details(self, job: int) -> Mapping[str, Any]:
        details = self._client.get_job_details(job)
        if not isinstance(details.get("status"), str):
            raise UnavailableError("the answer holds no status")
        return {**details, "jobId": job}

    def _patiently(self, request: Callable[[], T], until: float) -> T:
        """Sends a request that changes nothing, again and again while Airbyte is away."""
        pause = self._airbyte.poll_interval
        longest = max(pause, min(5 * pause, _LONGEST_PAUSE))
        while True:
            try:
                return request()
            except UnavailableError as error:
                # a server that says when to come back is not away
                last = until if error.wait is None else self._deadline
                if time.monotonic() >= last:
                    left = f"; the sync {self._job} may still run" if self._job is not None else ""
                    raise AirbyteError(
                        f"{self._airbyte.name} was away for too long ({error}){left}: check its health"
                        f"{'' if self._airbyte.cloud else ' and MLOPS_AIRBYTE_URL'}."
                    ) from error
                wait = pause if error.wait is None else max(error.wait, self._airbyte.poll_interval)
                self._log.warning(f"Airbyte is away ({error}); trying again in {wait:g} s.")
            self._pause(wait, last)
            pause = min(2 * pause, longest)

    def _pause(self, seconds: float, until: float) -> None:
        time.sleep(max(0.0, min(seconds, until - time.monotonic())))

    @property
    def _start_deadline(self) -> float:
        return min(self._deadline, self._begun + _START_SECONDS)

    def _url(self, job: int) -> str:
        return self._airbyte.job_url(self._connection, job)
