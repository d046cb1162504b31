"""`mlops run` from inside: sentences for failures, lines for events, and the output of libraries."""

import io
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from mlops_platform.cli.run import library_output_to, load_job
from mlops_platform.cli.run_progress import Progress, counted, failure_sentence
from mlops_platform.errors import PlatformError


@pytest.mark.parametrize(("number", "said"), [(0, "0 checks"), (1, "1 check"), (2, "2 checks")])
def test_counted(number: int, said: str) -> None:
    assert counted(number, "check") == said


def _watched(*assets: dg.AssetsDefinition | dg.AssetChecksDefinition) -> tuple[Progress, list[dg.DagsterEvent], str]:
    """Materialize, as `run_job` watches it: the progress, the events, and what was printed."""
    printed = io.StringIO()
    progress = Progress(Console(file=printed, width=200, force_terminal=False))
    defs = dg.Definitions(
        assets=[each for each in assets if not isinstance(each, dg.AssetChecksDefinition)],
        asset_checks=[each for each in assets if isinstance(each, dg.AssetChecksDefinition)],
        jobs=[dg.define_asset_job("all_of_it", selection="*")],
    )
    result = defs.resolve_job_def("all_of_it").execute_in_process(raise_on_error=False)
    for event in result.all_events:
        progress.on_event(event)
    return progress, list(result.all_events), printed.getvalue()


def _raise(error: Exception, cause: Exception | None) -> None:
    raise error from cause


@pytest.mark.parametrize(
    ("error", "cause", "said"),
    [
        (dg.Failure(description="The file is empty: fill it."), None, "The file is empty: fill it."),
        (dg.Failure(description="No table [raw]."), ValueError("inner"), "No table [raw]."),
        (PlatformError("Nothing there: run it again."), None, "Nothing there: run it again."),
        (RuntimeError("outer"), ValueError("the first line\nthe second"), "the first line"),
        (RuntimeError(""), None, "RuntimeError"),
    ],
)
def test_a_failure_is_one_line(error: Exception, cause: Exception | None, said: str) -> None:
    @dg.asset
    def broken() -> None:
        _raise(error, cause)

    progress, events, printed = _watched(broken)
    (failure,) = [event for event in events if event.event_type is dg.DagsterEventType.STEP_FAILURE]
    sentence = failure_sentence(failure)
    assert sentence.startswith("broken: ")
    assert said in sentence
    assert "\n" not in sentence
    assert "second" not in sentence
    assert progress.errors == [sentence]
    assert "✗ broken" in printed


def test_progress_counts_assets_and_checks_separately() -> None:
    @dg.asset
    def table() -> None:
        pass

    @dg.asset_check(asset=table)
    def fine() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    @dg.asset_check(asset=table)
    def odd() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description="3 of [9] rows")

    progress, _, printed = _watched(table, fine, odd)
    assert progress.passed == 1
    assert progress.failed == ["table: odd (warn) - 3 of [9] rows"]
    assert progress.errors == []
    assert set(progress.seconds) == {"table", "table_fine", "table_odd"}
    assert progress.check_steps == {"table_fine", "table_odd"}
    assert all(0 <= seconds < 60 for seconds in progress.seconds.values())
    lines = {line.split()[1]: line for line in printed.splitlines()}
    assert "passed" not in lines["table"]
    assert "1 check passed" in lines["table_fine"]
    assert "0 checks passed, 1 failed" in lines["table_odd"]


def test_a_step_that_creates_and_checks_its_table_counts_as_the_table() -> None:
    """As dbt's does."""

    @dg.asset(check_specs=[dg.AssetCheckSpec("fine", asset="table")])
    def table() -> dg.MaterializeResult:
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True)])

    progress, _, printed = _watched(table)
    assert set(progress.seconds) == {"table"}
    assert progress.check_steps == set()
    assert "1 check passed" in printed


def test_parallel_steps_keep_their_own_checks() -> None:
    @dg.asset
    def table() -> None:
        pass

    @dg.asset_check(asset=table)
    def fine() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    @dg.asset(deps=[table])
    def another() -> None:
        pass

    one_by_one, events, printed = _watched(table, another, fine)
    again = io.StringIO()
    at_once = Progress(Console(file=again, width=200, force_terminal=False))
    for event in sorted(events, key=lambda each: each.event_type is dg.DagsterEventType.STEP_SUCCESS):
        at_once.on_event(event)
    assert at_once.check_steps == one_by_one.check_steps == {"table_fine"}
    assert sorted(again.getvalue().splitlines()) == sorted(printed.splitlines())


def test_an_unknown_job_is_a_sentence() -> None:
    with pytest.raises(PlatformError, match="There is no job fly: choose dataops, mlops, end_to_end or monitoring"):
        load_job("fly")


def _next_descriptor() -> int:
    number = os.dup(0)
    os.close(number)
    return number


def test_library_output_goes_to_the_log_and_our_lines_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "logs" / "run.log"
    free = _next_descriptor()
    with library_output_to(log) as terminal:
        os.write(1, b"chatter\n")
        os.write(2, b"warning\n")
        subprocess.run([sys.executable, "-c", "print('of a child')"], check=True)
        print("our line ✓", file=terminal)
    os.write(1, b"afterwards\n")
    os.write(2, b"errors afterwards\n")
    seen = capfd.readouterr()
    assert seen.out == "our line ✓\nafterwards\n"
    assert seen.err == "errors afterwards\n"
    assert log.read_text() == "chatter\nwarning\nof a child\n"
    assert _next_descriptor() == free


def test_the_terminal_comes_back_after_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    free = _next_descriptor()
    with pytest.raises(KeyError), library_output_to(tmp_path / "run.log"):
        raise KeyError
    (tmp_path / "a file").write_text("")
    with pytest.raises(OSError, match="a file"), library_output_to(tmp_path / "a file" / "run.log"):
        pass
    os.write(1, b"here\n")
    os.write(2, b"there\n")
    assert capfd.readouterr() == ("here\n", "there\n")
    assert _next_descriptor() == free


def test_with_debug_all_stays_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with library_output_to(None) as terminal:
        os.write(2, b"chatter\n")
        print("our line", file=terminal)
    assert capfd.readouterr() == ("our line\n", "chatter\n")
