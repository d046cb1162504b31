"""Runs of dbt in dbt Cloud, with the same results as runs in this process.

The Cloud environment has its own connection to the warehouse and its own commit of `dbt_transforms/`.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster_dbt.cloud_v2.resources import DbtCloudCredentials, DbtCloudWorkspace, get_dagster_adhoc_job_name
from dagster_dbt.cloud_v2.run_handler import DbtCloudJobRunHandler
from dagster_dbt.cloud_v2.types import DbtCloudJobRunStatusType, DbtCloudRun
from pydantic import Field

from mlops_platform.errors import TransformError
from mlops_platform.resources.dbt.manifest import first_lines
from mlops_platform.resources.dbt.runner import BuildResult, Dbt, NodeResult
from mlops_platform.settings import DbtSettings

_SETTINGS = "MLOPS_DBT_CLOUD_URL, MLOPS_DBT_CLOUD_ACCOUNT_ID and MLOPS_DBT_CLOUD_TOKEN"


class DbtCloudRunner(Dbt):
    """Runs dbt in dbt Cloud, in the job that dagster-dbt keeps there for a project and environment.

    The first call to dbt Cloud is that of the first run, so the code location loads without it.
    """

    workspace: dg.ResourceDependency[DbtCloudWorkspace]
    timeout: float = Field(default=3600.0, gt=0, description="Seconds after which a run is cancelled.")

    def __repr_args__(self) -> list[tuple[str, object]]:
        return [("timeout", self.timeout)]  # dagster-dbt's workspace would print its token

    def build(self, select: Sequence[str], *, full_refresh: bool = False) -> BuildResult:
        """Run `dbt build` in dbt Cloud; see `Dbt.build`."""
        arguments = ["build", "--indirect-selection", "empty", "--select", *select]
        if full_refresh:
            arguments.append("--full-refresh")
        with self._sentences():
            handler = DbtCloudJobRunHandler.run(self._job_id(), arguments, self.workspace.get_client())
        run = self._wait(handler)
        where = run.url or f"run {run.id}"
        if run.status == DbtCloudJobRunStatusType.CANCELLED:
            raise TransformError(f"Somebody cancelled the dbt Cloud run {where}; run the assets again.")
        try:
            results = handler.get_run_results()
        except dg.Failure:
            # the run never started dbt, such as one that could not clone the project
            reason = first_lines(handler.get_run_logs() or "")
            raise TransformError(f"The dbt Cloud run {where} gave no results: {reason}; read its log there.") from None
        nodes = [_node_result(result) for result in results["results"]]
        missing = {name.rpartition(".")[2] for name in select} - {node.unique_id.split(".")[2] for node in nodes}
        if missing:
            raise TransformError(
                f"The dbt Cloud run {where} has no result for {min(missing)}: let its environment run the commit of "
                "dbt_transforms that this code location has."
            )
        return BuildResult(nodes, f"dbt Cloud ran {' '.join(arguments)}: {where}", url=run.url)

    def _job_id(self) -> int:
        """Return the id of the job for runs from Dagster; create it if it is missing."""
        workspace, client = self.workspace, self.workspace.get_client()
        ids = {"project_id": workspace.project_id, "environment_id": workspace.environment_id}
        name = get_dagster_adhoc_job_name(**ids)
        job = next((job for job in client.list_jobs(**ids) if job.get("name") == name), None)
        job = job or client.create_job(**ids, job_name=name, description="Runs of the asset graph's transform stage.")
        return int(job["id"])

    def _wait(self, handler: DbtCloudJobRunHandler) -> DbtCloudRun:
        """Wait for the end; dagster-dbt cancels the run when the step is interrupted."""
        end = time.monotonic() + self.timeout
        with self._sentences():
            try:
                return handler.wait(timeout=self.timeout)
            except dg.Failure:
                raise
            except Exception as error:
                if time.monotonic() < end:
                    raise
                handler.cancel()
                raise TransformError(
                    f"The dbt Cloud run {handler.run_id} took over {self.timeout:g} s and was cancelled; "
                    "see there what it waited for."
                ) from error

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except dg.Failure as error:
            address = self.workspace.credentials.access_url
            raise TransformError(
                f"dbt Cloud at {address} did not answer or refused ({first_lines(error.description or '')}); see the "
                f"log of the run, and check {_SETTINGS}."
            ) from error


def _node_result(result: Mapping[str, Any]) -> NodeResult:
    return NodeResult(
        unique_id=result["unique_id"],
        status=result["status"],
        message=result.get("message") or "",
        failures=result.get("failures") or 0,
        seconds=round(result["execution_time"], 3),
        sql=(result.get("compiled_code") or "").strip(),
    )


def dbt_cloud_runner(settings: DbtSettings) -> DbtCloudRunner:
    """Return the runner for the account in the settings, without a call to dbt Cloud."""
    credentials = DbtCloudCredentials(
        account_id=settings.dbt_cloud_account_id,
        token=settings.dbt_cloud_token.get_secret_value(),
        access_url=settings.dbt_cloud_url,
    )
    workspace = DbtCloudWorkspace(
        credentials=credentials,
        project_id=settings.dbt_cloud_project_id,
        environment_id=settings.dbt_cloud_environment_id,
    )
    return DbtCloudRunner(workspace=workspace, timeout=settings.dbt_cloud_timeout)
