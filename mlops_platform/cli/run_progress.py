"""Progress of a run from its events: print a line per step, and collect what the summary needs.

The summary itself belongs in `run_summary`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = dg.DagsterExecutionInterruptedError.__name__


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
        check_steps: Steps that only evaluate checks.
        started: Steps that have started.
        interrupted: Whether Ctrl-C ended the run.
    """

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    check_steps: set[str] = field(default_factory=set)
    started: set[str] = field(default_factory=set)
    interrupted: bool = False
    _checks: dict[str, list[bool]] = field(default_factory=dict)
    _materialized: set[str] = field(default_factory=set)

    def on_entry(self, entry: dg.EventLogEntry, _cursor: str | None = None) -> None:
        """Handle an entry of the run's log, which may have no event."""
        if entry.dagster_event is not None:
            self.on_event(entry.dagster_event)

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
                self._on_materialization(step, event)
            case kind.ASSET_CHECK_EVALUATION:
                self._on_check(step, event)
            case kind.STEP_SUCCESS:
                self._on_success(step, event.step_success_data.duration_ms / 1000)
            case kind.STEP_FAILURE:
                self._on_failure(step, event)
            case kind.RUN_FAILURE:
                # an interrupt between two steps, or one that killed the processes of the steps
                error = event.job_failure_data.error
                self.interrupted |= error is not None and error.cls_name == INTERRUPTED

    def on_end(self, planned: Iterable[str]) -> None:
        """Print the planned steps that did not start after a failure upstream; Dagster has no event for them."""
        for step in planned:
            if step not in self.started:
                self.console.print(f"  [dim]- {step:<42} not run[/]", highlight=False)

    @property
    def problems(self) -> list[str]:
        """Why the run failed: the errors of steps, and the blocking checks that failed."""
        return [*self.errors, *(check for check in self.failed if "(error)" in check)]

    def _on_materialization(self, step: str, event: dg.DagsterEvent) -> None:
        metadata = {key: value.value for key, value in event.step_materialization_data.materialization.metadata.items()}
        if step == "tuned_params":
            self.notes["tuning"] = str(metadata["choice"])
        elif step == "drift_report":
            rows = f"{metadata['window_rows']} rows of {metadata['window']}"
            self.notes["drift"] = f"{metadata['detected']} ({metadata['tests_run']} tests on {rows})"
        elif step == "retraining_decision":
            self.notes["decision"] = f"{metadata['decision']}: {metadata['reason']}"

    def _on_check(self, step: str, event: dg.DagsterEvent) -> None:
        evaluation = event.asset_check_evaluation_data
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
            if step not in self._materialized:
                self.check_steps.add(step)
            checks = f"{counted(results.count(True), 'check')} passed"
            if not all(results):
                checks += f", [yellow]{results.count(False)} failed[/]"
        self.console.print(f"  [green]✓[/] {step:<42} {seconds:6.1f} s  {checks}", highlight=False)

    def _on_failure(self, step: str, event: dg.DagsterEvent) -> None:
        self.started.add(step)  # its process may have died before it reported the start
        error = event.step_failure_data.error
        self.interrupted |= error is not None and error.cls_name == INTERRUPTED
        message = failure_sentence(event)
        # blocking checks that failed the step are in `failed` already
        if "DagsterAssetCheckFailedError" not in message:
            self.errors.append(message)
        self.console.print(f"  [red]✗[/] {step:<42}", highlight=False)


def counted(number: int, thing: str) -> str:
    """Return a number with its noun: `1 check`, `2 checks`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def failure_sentence(event: dg.DagsterEvent) -> str:
    """Return the step and error of a step failure in a sentence, without a traceback."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return f"{event.step_key}: {data.user_failure_data.description}"
    error = data.error
    if error is not None and error.cls_name == "ChildProcessCrashException":
        return f"{event.step_key}: its process died; the system may have killed it because memory ran out."
    while error is not None and error.cause is not None:
        error = error.cause
    message = (error.message if error is not None else "it failed without a message").strip()
    return f"{event.step_key}: {message.splitlines()[0]}"
