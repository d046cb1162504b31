"""Steps on a Dask cluster.

dagster-dask makes the cluster; the order of the steps is kept here. Its own loop submits all steps at once and lets
a step run whose blocking check has failed, knows no pools, and fails on any run that has one (dagster-dask 0.29.27
with dask 2026.8: "Iteration is not allowed on `@record` RunOpConcurrency").
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.events import DagsterEvent
from dagster._core.execution.api import create_execution_plan, execute_plan
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.execution.retries import RetryMode
from dagster._core.instance.ref import InstanceRef
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster_dask.executor import DaskExecutor
from distributed import Client, Future, LocalCluster, wait

LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Task:
    """One step, as a worker needs it; a plain object, which Dask passes on without looking into it."""

    job: ReconstructableJob
    run: dg.DagsterRun
    run_config: Mapping[str, object]
    instance: InstanceRef
    step_key: str
    known_state: KnownExecutionState


def run_step(task: Task) -> Sequence[DagsterEvent]:
    """Run a step on a worker.

    Args:
        task: What to run.

    Returns:
        Its events, which the instance has stored already.
    """
    with dg.DagsterInstance.from_ref(task.instance) as instance:
        plan = create_execution_plan(
            task.job,
            run_config=task.run_config,
            step_keys_to_execute=[task.step_key],
            known_state=task.known_state,
        )
        return execute_plan(
            plan, task.job, instance, task.run, run_config=task.run_config, retry_mode=RetryMode.DEFERRED
        )


class OrderedDaskExecutor(DaskExecutor):
    """Submits a step when all it depends on has succeeded."""

    @property
    def retries(self) -> RetryMode:
        """Steps are tried again by their own policies."""
        return RetryMode.ENABLED

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        """Run the plan.

        Args:
            plan_context: The run.
            execution_plan: Its steps.

        Yields:
            The events of the steps.
        """
        with ExitStack() as stack:
            cluster: Any
            if self.cluster_type == "existing":
                cluster = self.cluster_configuration["address"]
            else:
                cluster = stack.enter_context(LocalCluster(**self.build_dict(plan_context.job_name)))
            client = stack.enter_context(Client(cluster))
            slots = stack.enter_context(InstanceConcurrencyContext(plan_context.instance, plan_context.dagster_run))
            active = stack.enter_context(
                ActiveExecution(execution_plan, retry_mode=self.retries, instance_concurrency_context=slots)
            )
            running: dict[Future, str] = {}
            try:
                while not active.is_complete or running:
                    if active.check_for_interrupts():
                        active.mark_interrupted()
                        raise dg.DagsterExecutionInterruptedError
                    for step in active.get_steps_to_execute():
                        running[self._submit(client, plan_context, active, step.key)] = step.key
                    yield from active.concurrency_event_iterator(plan_context)
                    for future in [each for each in running if each.done()]:
                        yield from self._taken(plan_context, active, future, running.pop(future))
                    yield from active.plan_events_iterator(plan_context)
                    if running:
                        _wait(list(running))
                    elif not active.is_complete:
                        active.sleep_til_ready()
            finally:
                client.cancel(list(running), force=True)

    def _submit(
        self, client: Client, plan_context: PlanOrchestrationContext, active: ActiveExecution, step_key: str
    ) -> Future:
        task = Task(
            job=plan_context.reconstructable_job,
            run=plan_context.dagster_run,
            run_config=plan_context.run_config,
            instance=plan_context.instance.get_ref(),
            step_key=step_key,
            known_state=active.get_known_state(),
        )
        return client.submit(run_step, task, pure=False)

    def _taken(
        self, plan_context: PlanOrchestrationContext, active: ActiveExecution, future: Future, step_key: str
    ) -> Iterator[DagsterEvent]:
        """Take in what became of a step; a worker that died is a failure of the step."""
        try:
            events = list(future.result())
        except Exception:  # the future raises whatever the worker raised, or what dask makes of its death
            error = serializable_error_info_from_exc_info(sys.exc_info())
            step = plan_context.for_step(active.get_step_by_key(step_key))
            events = [self.log_failure_or_retry_event_after_error(step, error, active.get_known_state())]
        for event in events:
            yield event
            active.handle_event(event)
        active.verify_complete(plan_context, step_key)


def _wait(futures: list[Future]) -> None:
    try:
        wait(futures, timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED")
    except TimeoutError:
        # a look at interrupts and at slots that have come free
        return


def dask_executor(local: Mapping[str, Any]) -> dg.ExecutorDefinition:
    """Make the executor.

    Args:
        local: Arguments of the `LocalCluster` that a run without an address gets.
    """

    @dg.executor(
        name="dask",
        requirements=multiple_process_executor_requirements(),
        config_schema={
            "address": dg.Field(
                dg.StringSource,
                is_required=False,
                description="Scheduler of a cluster that is there already; without it, one is made for the run.",
            )
        },
    )
    def dask(init_context: dg.InitExecutorContext) -> OrderedDaskExecutor:
        if "address" in init_context.executor_config:
            return OrderedDaskExecutor("existing", {"address": init_context.executor_config["address"]})
        return OrderedDaskExecutor("local", dict(local))

    return dask
