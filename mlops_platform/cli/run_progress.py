"""The progress of `mlops run` from the events of its run: a line per step, and the summary at the end."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform.cli.status import REJECTS, champion, figures, table_rows
from mlops_platform.errors import PlatformError
from mlops_platform.settings import PROJECT_ROOT, Settings

if TYPE_CHECKING:
    from rich.console import Console

_INTERRUPTED = dg.DagsterExecutionInterruptedError.__name__
# step to its name in the summary, and what the summary tells of its asset's metadata
_NOTES = {
    "tuned_params": ("tuning", "{choice}"),
    "drift_report": ("drift", "{detected} ({tests_run} tests on {window_rows} rows of {window})"),
    "retraining_decision": ("decision", "{decision}: {reason}"),
}


@dataclass
class Progress:
    """The state of a run, built from its events.

    Attributes:
        console: Where a line per step is printed.
        seconds: Duration of each step that succeeded.
        passed: Number of checks that passed.
        failed: The checks that failed, each with its severity and reason.
        errors: The error messages of failed steps.
        notes: The lines of the summary about tuning, drift and the decision.
        started: Steps that have started.
        interrupted: Whether Ctrl-C ended the run.
    """

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    interrupted: bool = False
    _checks: dict[str, list[bool]] = field(default_factory=dict)
    _materialized: set[str] = field(default_factory=set)

    @property
    def check_steps(self) -> set[str]:
        """Steps that only evaluate checks."""
        return self._checks.keys() - self._materialized

    @property
    def problems(self) -> list[str]:
        """Why the run failed: the errors of steps, and the blocking checks that failed."""
        return [*self.errors, *(check for check in self.failed if "(error)" in check)]

    def on_event(self, event: dg.DagsterEvent) -> None:
        """Handle an event of the run; steps may run in parallel."""
        step, kind = str(event.step_key), dg.DagsterEventType
        match event.event_type:
            case kind.STEP_START:
                self.started.add(step)
                if self.console.is_terminal:
                    self.console.print(f"  … {step}", end="\r", style="dim")
            case kind.ASSET_MATERIALIZATION:
                self._materialized.add(step)
                if step in _NOTES:
                    name, note = _NOTES[step]
                    metadata = event.step_materialization_data.materialization.metadata
                    self.notes[name] = note.format_map({key: value.value for key, value in metadata.items()})
            case kind.ASSET_CHECK_EVALUATION:
                self._on_check(step, event.asset_check_evaluation_data)
            case kind.STEP_SUCCESS:
                self._on_success(step, event.step_success_data.duration_ms / 1000)
            case kind.STEP_FAILURE:
                self._on_failure(step, event)
            case kind.RUN_FAILURE:
                # an interrupt between two steps, or one that killed the processes of the steps
                self.interrupted |= _is_interrupt(event.job_failure_data.error)

    def on_end(self, planned: Iterable[str]) -> None:
        """Print the planned steps that did not start after a failure upstream; Dagster has no event for them."""
        for step in planned:
            if step not in self.started:
                self.console.print(f"  [dim]- {step:<42} not run[/]")

    def _on_check(self, step: str, evaluation: dg.AssetCheckEvaluation) -> None:
        self._checks.setdefault(step, []).append(evaluation.passed)
        if evaluation.passed:
            self.passed += 1
            return
        name = f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}"
        reason = f" - {evaluation.description}" if evaluation.description else ""
        self.failed.append(f"{name} ({evaluation.severity.value.lower()}){reason}")

    def _on_success(self, step: str, seconds: float) -> None:
        self.seconds[step] = seconds
        checks, results = "", self._checks.get(step, [])
        if results:
            checks = f"{counted(results.count(True), 'check')} passed"
            if not all(results):
                checks += f", [yellow]{results.count(False)} failed[/]"
        self.console.print(f"  [green]✓[/] {step:<42} {seconds:6.1f} s  {checks}")

    def _on_failure(self, step: str, event: dg.DagsterEvent) -> None:
        self.started.add(step)  # its process may have died before it reported the start
        self.interrupted |= _is_interrupt(event.step_failure_data.error)
        message = failure_sentence(event)
        # blocking checks that failed the step are in `failed` already
        if "DagsterAssetCheckFailedError" not in message:
            self.errors.append(message)
        self.console.print(f"  [red]✗[/] {step:<42}")


def _is_interrupt(error: Any) -> bool:
    while error is not None:
        # Ctrl-C inside a query is an error of DuckDB's
        if error.cls_name == _INTERRUPTED or "Query interrupted" in error.message:
            return True
        error = error.cause
    return False


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 check`, `2 checks`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def failure_sentence(event: dg.DagsterEvent) -> str:
    """Return the step and error of a step failure in a sentence, without a traceback."""
    failure, error = event.step_failure_data.user_failure_data, event.step_failure_data.error
    if failure is not None and failure.description:
        return f"{event.step_key}: {failure.description}"
    if error is not None and error.cls_name == "ChildProcessCrashException":
        return f"{event.step_key}: its process died; the system may have killed it because memory ran out."
    while error is not None and error.cause is not None:
        error = error.cause
    message = (error.message if error is not None else "it failed without a message").strip()
    return f"{event.step_key}: {message.splitlines()[0]}"


def print_summary(console: Console, settings: Settings, progress: Progress, *, success: bool) -> None:
    """Print rows, rejects, checks, champion, durations, and the next command."""

    def line(name: str, text: str) -> None:
        console.print(f"  {name:<20} {text}", markup=False)

    console.print()
    try:
        for table, count in table_rows(settings).items():
            if table == REJECTS:
                line("rejected rows", f"{count or 0:,}")
            else:
                line(table, "-" if count is None else counted(count, "row"))
    except PlatformError as error:
        line("tables", str(error))
    line("checks", f"{progress.passed} passed, {len(progress.failed)} failed")
    for failed in progress.failed:
        console.print(f"    ✗ {failed}", markup=False)
    for name, note in progress.notes.items():
        line(name, note)
    try:
        current = champion(settings)
        line("champion", f"version {current['version']}: {figures(current['metrics'])}" if current else "none yet")
    except PlatformError as error:
        line("champion", str(error))
    steps = {"transform": "labeled and unlabeled_projects"}  # dbt builds both tables in one step
    assets = {name: seconds for name, seconds in progress.seconds.items() if name not in progress.check_steps}
    total = sum(progress.seconds.values())
    line("seconds", ", ".join(f"{steps.get(name, name)} {seconds:.1f}" for name, seconds in assets.items()) or "-")
    line("", f"checks {total - sum(assets.values()):.1f}, all {total:.1f}")
    console.print()
    if success:
        console.print("[green]Done.[/]", end=" ")
    else:
        console.print("[red]Failed.[/] Downstream assets keep their last good state; fix the cause and run again.")
    console.print(f"See it in the UI:  make -C {shlex.quote(str(PROJECT_ROOT))} ui", markup=False)
