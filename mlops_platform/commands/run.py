"""`mlops run`: execute a job here and now, show progress, end with a summary."""

from __future__ import annotations

import gc
import os
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

# before Dagster and all else that is large: skops looks for each of its functions in all modules, oldest first
import scipy.special  # noqa: F401

from mlops_platform.celery_workers import celery_workers
from mlops_platform.commands.instance import RUN_TAG, close_killed_runs, exclusive, held_open, open_instance
from mlops_platform.errors import PlatformError
from mlops_platform.resources.dbt_preparation import prepare_dbt
from mlops_platform.resources.mlflow_store import database_made_meanwhile
from mlops_platform.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterEvent, DagsterInstance
    from dagster._core.events.log import EventLogEntry
    from rich.console import Console

INTERRUPTED = "DagsterExecutionInterruptedError"


@dataclass
class Progress:
    """What has happened in a run so far, as its events tell."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    check_steps: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    interrupted: bool = False
    _outcomes: dict[str, list[str]] = field(default_factory=dict)
    _made: set[str] = field(default_factory=set)

    def on_entry(self, entry: EventLogEntry, _cursor: str | None = None) -> None:
        """Take in one entry of the run's log, which may be no event."""
        if entry.dagster_event is not None:
            self.on_event(entry.dagster_event)

    def on_event(self, event: DagsterEvent) -> None:
        """Take in one event of the run; steps may run side by side."""
        import dagster as dg

        if event.event_type is dg.DagsterEventType.STEP_START:
            self.begun.add(str(event.step_key))
            if self.console.is_terminal:
                self.console.print(f"  … {event.step_key}", end="\r", style="dim")
        elif event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
            self._made.add(str(event.step_key))
            self._on_materialization(event)
        elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            self._on_check(event)
        elif event.event_type is dg.DagsterEventType.STEP_SUCCESS:
            self._on_success(event)
        elif event.event_type is dg.DagsterEventType.STEP_FAILURE:
            self.begun.add(str(event.step_key))  # its process may have died before it could say so
            error = event.step_failure_data.error
            self.interrupted |= error is not None and error.cls_name == INTERRUPTED
            said = sentence_of(event)
            # a step that its blocking checks failed has told them already
            if "DagsterAssetCheckFailedError" not in said:
                self.errors.append(said)
            self.console.print(f"  [red]✗[/] {event.step_key:<42}", highlight=False)
        elif event.event_type is dg.DagsterEventType.RUN_FAILURE:
            # between two steps, or with the steps in processes that were ended without a word
            error = event.job_failure_data.error
            self.interrupted |= error is not None and error.cls_name == INTERRUPTED

    def on_end(self, planned: Iterable[str]) -> None:
        """Name the planned steps that a failure upstream has held back; Dagster has no event for them.

        Args:
            planned: All steps of the run.
        """
        for step in planned:
            if step not in self.begun:
                self.console.print(f"  [dim]- {step:<42} not run[/]", highlight=False)

    @property
    def problems(self) -> list[str]:
        """Why the run failed: what steps say, and the blocking checks that did not pass."""
        return [*self.errors, *(check for check in self.failed if "(error)" in check)]

    def _on_materialization(self, event: DagsterEvent) -> None:
        """Keep what the summary says of an asset: what tuning chose, and drift and the decision on it."""
        made = {key: value.value for key, value in event.step_materialization_data.materialization.metadata.items()}
        name = str(event.step_key)
        if name == "tuned_params":
            self.told["tuning"] = str(made["choice"])
        elif name == "drift_report":
            rows = f"{made['window_rows']} rows of {made['window']}"
            self.told["drift"] = f"{made['detected']} ({made['tests_run']} tests on {rows})"
        elif name == "retraining_decision":
            self.told["decision"] = f"{made['decision']}: {made['reason']}"

    def _on_check(self, event: DagsterEvent) -> None:
        evaluation = event.asset_check_evaluation_data
        outcomes = self._outcomes.setdefault(str(event.step_key), [])
        if evaluation.passed:
            self.passed += 1
            outcomes.append("passed")
            return
        name = f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}"
        level = evaluation.severity.value.lower()
        why = f" - {evaluation.description}" if evaluation.description else ""
        self.failed.append(f"{name} ({level}){why}")
        outcomes.append("failed")

    def _on_success(self, event: DagsterEvent) -> None:
        seconds = event.step_success_data.duration_ms / 1000
        step = str(event.step_key)
        self.seconds[step] = seconds
        checks, outcomes = "", self._outcomes.get(step, [])
        if outcomes:
            bad = outcomes.count("failed")
            if step not in self._made:
                self.check_steps.add(step)
            checks = f"{counted(outcomes.count('passed'), 'check')} passed"
            checks += f", [yellow]{bad} failed[/]" if bad else ""
        self.console.print(f"  [green]✓[/] {step:<42} {seconds:6.1f} s  {checks}", highlight=False)


def counted(number: int, thing: str) -> str:
    """Say how many: `1 check`, `2 checks`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def sentence_of(event: DagsterEvent) -> str:
    """The sentence that a failed step has for its user.

    Args:
        event: A step failure.

    Returns:
        The step and what it says, without a traceback.
    """
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return f"{event.step_key}: {data.user_failure_data.description}"
    error = data.error
    if error is not None and error.cls_name == "ChildProcessCrashException":
        return f"{event.step_key}: its process died; the system may have killed it for want of memory."
    while error is not None and error.cause is not None:
        error = error.cause
    message = (error.message if error is not None else "it failed without a message").strip()
    return f"{event.step_key}: {message.splitlines()[0]}"


def run_job(
    settings: Settings, job: str, config: Mapping[str, Any], *, day: date | None = None, debug: bool = False
) -> None:
    """Execute a job of the graph, with its steps where the executor of the settings puts them.

    Args:
        settings: What to run on.
        job: Name of the job.
        config: Run config.
        day: Of a job that is about days (UTC); by default yesterday.
        debug: Leave what libraries print on the terminal; else it goes to `logs/run.log` in the home.

    Raises:
        PlatformError: The run failed, the job is unknown, the config or the day does not fit, another run is at work,
            the executor is Kubernetes, or no Celery worker answers.
    """
    if settings.executor == "k8s":
        raise PlatformError(
            "MLOPS_EXECUTOR=k8s is for runs that Dagster launches: use its UI or `dagster job launch`, or unset it."
        )
    if settings.executor == "celery":
        # without a worker the run would wait for ever
        celery_workers(settings)
    # not for all commands: a service that looks so seldom would stand still for .4 s when it does
    gc.set_threshold(1_000_000, 20, 100)  # .2 s of a run less than with the 50,000 of `end_with`
    log = None if debug else settings.home / "logs" / "run.log"
    with (
        exclusive(settings),
        # on a new home dbt parses for seconds, in a process of its own: meanwhile this one imports
        prepare_dbt(settings) as preparation,
        open_instance(settings) as instance,
        terminal_apart(log) as terminal,
    ):
        from rich.console import Console

        if log is not None:
            log.write_bytes(b"")
        console = Console(file=terminal, soft_wrap=True)
        killed = close_killed_runs(instance)
        if killed:
            console.print("An earlier run was killed; this one heals what it left.")
        console.print("Loading the graph ...", style="dim")
        from dagster._core.storage.tags import PARTITION_NAME_TAG

        from mlops_platform.graph import build_definitions

        if preparation.at_work and settings.executor == "in_process":
            # its steps will: there is time for it now
            import mlops_platform.resources.validation  # noqa: F401
        definition = _job(build_definitions(settings, preparation), job)
        progress, run_id = Progress(console), str(uuid.uuid4())
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, **config}
        partition = _partition(definition, job, day)
        tags = {RUN_TAG: "run", **({PARTITION_NAME_TAG: partition} if partition else {})}
        about = f" for {partition}" if partition else ""
        console.print(f"Running {job}{about} ({settings.home})", highlight=False)
        try:
            if settings.executor == "in_process":
                gc.freeze()  # what was imported stays: to look through it took .5 s of 15
                instance.add_event_listener(run_id, progress.on_entry)
                trains = any(node.name == "trained_model" for node in definition.nodes)
                ahead = database_made_meanwhile(settings.tracking_uri) if trains else nullcontext()
                with held_open(instance, run_id), ahead:
                    success = definition.execute_in_process(
                        run_config=quiet, instance=instance, run_id=run_id, raise_on_error=False, tags=tags
                    ).success
            else:
                from mlops_platform.commands.run_apart import execute_apart

                success = execute_apart(instance, job, run_id, quiet, tags, progress.on_event)
        except Exception as error:
            raise _as_sentence(error) from error
        progress.on_end(_planned(instance, run_id))
        from mlops_platform.commands.summary import print_summary

        print_summary(console, settings, progress, success=success)
    if progress.interrupted:
        raise KeyboardInterrupt
    if not success:
        raise PlatformError(f"The run failed: {'; '.join(progress.problems) or f'see {log}'}")


def _planned(instance: DagsterInstance, run_id: str) -> list[str]:
    run = instance.get_run_by_id(run_id)
    if run is None or run.execution_plan_snapshot_id is None:
        return []
    return list(instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id).step_keys_to_execute)


def _job(defs: Any, name: str) -> Any:
    from dagster import DagsterInvariantViolationError

    try:
        return defs.resolve_job_def(name)
    except DagsterInvariantViolationError:
        raise PlatformError(f"There is no job {name}: choose dataops, mlops, end_to_end or monitoring.") from None


def _partition(definition: Any, job: str, day: date | None) -> str | None:
    """The partition that a job runs for; None for a job without partitions."""
    if definition.partitions_def is None:
        if day is not None:
            raise PlatformError(f"The job {job} is about no day: leave out --day.")
        return None
    key = (day or datetime.now(UTC).date() - timedelta(days=1)).isoformat()
    if not definition.partitions_def.has_partition_key(key):
        first, last = (definition.partitions_def.get_partition_keys()[place] for place in (0, -1))
        raise PlatformError(f"{key} is no day of the job {job}: choose one from {first} (MLOPS_FIRST_DAY) to {last}.")
    return key


def _as_sentence(error: Exception) -> Exception:
    from dagster import DagsterInvalidConfigError

    if isinstance(error, DagsterInvalidConfigError):
        problems = "; ".join(each.message.strip() for each in error.errors)
        return PlatformError(f"The run config does not fit the job: {problems}")
    return error


@contextmanager
def terminal_apart(log: Path | None) -> Iterator[TextIO]:
    """Keep the terminal for our own lines: what libraries print to it goes to a file.

    Args:
        log: The file; None leaves their output where it is.

    Yields:
        The terminal.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    try:
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
        with os.fdopen(os.dup(saved[0]), "w", buffering=1, encoding="utf-8") as terminal:
            yield terminal
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
