"""The `mlops` command: parses the command line, calls one verb of ``commands``, and reports errors in a sentence.

Exit codes: 0 for success, 1 for a failure, 2 for a command line or setting that is invalid, 130 after Ctrl-C.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from mlops_platform.errors import PlatformError
from mlops_platform.settings import Settings

INTERRUPTED = 130  # the exit code of typer after Ctrl-C

app = typer.Typer(
    name="mlops",
    help="Run, inspect and use the platform; every setting is an environment variable MLOPS_*.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and warnings.")] = False,
) -> None:
    if not debug:
        warnings.simplefilter("ignore")
        logging.captureWarnings(capture=True)


@app.command()
def run(
    job: Annotated[str, typer.Argument(help="dataops, mlops, end_to_end or monitoring.")] = "end_to_end",
    config: Annotated[Path | None, typer.Option(help="YAML file with run config.")] = None,
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day (UTC) of monitoring; yesterday by default.")
    ] = None,
) -> None:
    """Run a job of the graph here and now, with progress and a summary."""
    from mlops_platform.cli.run import run_job
    from mlops_platform.cli.run_config import read_config

    run_job(Settings(), job, read_config(config), day=day.date() if day else None, debug=_debug())


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show each asset's latest materialization, data version and checks, and the champion."""
    from mlops_platform.cli.status import collect, print_status

    state = collect(Settings())
    if as_json:
        print(json.dumps(state, indent=2, ensure_ascii=False))
    else:
        print_status(state)


@app.command()
def predict(
    text: Annotated[str | None, typer.Argument(help="A project's title and description.")] = None,
    source: Annotated[Path | None, typer.Option("--input", help="CSV with id, title, description.")] = None,
    target: Annotated[Path | None, typer.Option("--output", help="CSV to write: id, tag, probability.")] = None,
) -> None:
    """Predict the tag of one text, or of every row of a CSV file."""
    from mlops_platform.cli.predict import load_champion, predict_file, predict_texts

    if (text is None) == (source is None) or (source is None) != (target is None):
        raise typer.BadParameter("give either a text, or --input FILE.csv and --output FILE.csv")
    if source is not None and target is not None:
        if source.is_dir() or not source.exists():
            raise PlatformError(f"{source} is not a file: give --input the path of a CSV.")
        rows = predict_file(load_champion(Settings()), source, target)
        # `--output /dev/stdout` prints the CSV and nothing else
        print(f"{rows} predictions in {target}", file=sys.stdout if target.is_file() else sys.stderr)
        return
    if not (text or "").strip():
        raise PlatformError("The text is empty: give a title or a description.")
    tag, probability = predict_texts(load_champion(Settings()), [("", text or "")])[0]
    print(f"{tag} {probability:.3f}")


@app.command()
def doctor(
    smoke: Annotated[bool, typer.Option("--smoke", help="Also create, load, query and drop a scratch table.")] = False,
) -> None:
    """Report what is configured, reachable and missing."""
    from mlops_platform.cli.doctor import examine
    from mlops_platform.cli.doctor_production import try_warehouse

    marks = {"ok": "✓", "note": "·", "missing": "✗"}
    settings = Settings()
    findings = examine(settings)
    if smoke:
        findings.append(try_warehouse(settings))
    for finding in findings:
        print(f"{marks[finding.state]} {finding.name:<20} {finding.detail}")
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


@app.command()
def ui() -> None:
    """Start Dagster's UI and daemon, the MLflow UI and the Data Docs on 127.0.0.1."""
    from mlops_platform.cli.ui import serve

    raise typer.Exit(serve(Settings()))


@app.command("serve")
def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on (MLOPS_SERVE_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port (MLOPS_SERVE_PORT).")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes (MLOPS_SERVE_WORKERS).")] = None,
) -> None:
    """Serve the champion's predictions over HTTP."""
    from mlops_platform.cli.serve import serve

    options: dict[str, Any] = {"serve_host": host, "serve_port": port, "serve_workers": workers}
    serve(Settings(**{name: value for name, value in options.items() if value is not None}))


@app.command("promote")
def promote_command(
    version: Annotated[str, typer.Argument(help="Version of the registered model.")],
    reason: Annotated[str, typer.Option(help="Reason, for the history.")] = "",
    force: Annotated[str, typer.Option(metavar="REASON", help="Promote against the gates, with the reason.")] = "",
) -> None:
    """Make a version the champion if it passes the gates."""
    from mlops_platform.cli.deployments import promote

    print(promote(Settings(), version, reason=reason, force=force))


@app.command("rollback")
def rollback_command(reason: Annotated[str, typer.Option(help="Reason, for the history.")] = "") -> None:
    """Return to the previous champion."""
    from mlops_platform.cli.deployments import rollback

    print(rollback(Settings(), reason=reason))


@app.command("decide")
def decide_command(
    answer: Annotated[str | None, typer.Argument(help="continue, improve or rollback.")] = None,
    reason: Annotated[str, typer.Option(help="Reason, for the history.")] = "",
) -> None:
    """Answer the open inspection, which holds automatic promotion; without an answer, show it and recent decisions."""
    from mlops_platform.cli.decide import decide, show

    if answer is None:
        show(Settings())
    else:
        decide(Settings(), answer, reason=reason)


@app.command("history")
def history_command(
    of: Annotated[str | None, typer.Argument(help="A version, or the prefix of a data version or Dagster run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the versions of the model with their data and runs, and each move of the champion."""
    from mlops_platform.cli.deployments import collect_history, print_history

    history = collect_history(Settings(), of)
    if as_json:
        print(json.dumps(history, indent=2, ensure_ascii=False))
    else:
        print_history(history)


@app.command("replay")
def replay_command(
    scenario: Annotated[str, typer.Option(help="quiet, faults, or a YAML file.")] = "faults",
    projects: Annotated[str | None, typer.Option(help="Projects CSV (by default MLOPS_PROJECTS_URI).")] = None,
    tags: Annotated[str | None, typer.Option(help="Tags CSV (by default MLOPS_TAGS_URI).")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first history.")] = 0,
    repeats: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Number of histories, each with its own seed.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[Path | None, typer.Option(help="File to write the result to.")] = None,
) -> None:
    """Play a labeled history through the loop in simulated time, and compare it with what should have happened."""
    from mlops_platform.cli.replay import replay

    met = replay(
        Settings(),
        scenario,
        projects=projects,
        tags=tags,
        seed=seed,
        repeats=repeats,
        as_json=as_json,
        output=output,
    )
    if not met:
        raise typer.Exit(1)


@app.command("label")
def label_command(
    port: Annotated[int | None, typer.Option(help="Port of the page (MLOPS_LABEL_PORT).")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address of the page.")] = False,
    person: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Who labels; you by default.")] = None,
    export: Annotated[Path | None, typer.Option("--export", help="Write the queue as a CSV to fill in.")] = None,
    source: Annotated[Path | None, typer.Option("--import", help="Import labels from a CSV with id and tag.")] = None,
) -> None:
    """Label the projects that the model would learn most from, in the browser or by CSV."""
    from mlops_platform.cli import label

    if export is not None and source is not None:
        raise typer.BadParameter("give either --export or --import")
    settings = Settings(**({} if port is None else {"label_port": port}))  # type: ignore[arg-type]
    if export is not None:
        print(label.export_queue(settings, export))
    elif source is not None:
        print(label.import_labels(settings, source, person))
    else:
        label.serve(settings, person, browser=not no_browser)


def main() -> None:
    """Run the command; the entry point of the console script."""
    try:
        app()
    except SystemExit as exit_:
        if exit_.code == INTERRUPTED:
            _report("interrupted; what was there before is kept, and the next run heals the rest.")
        _flush()
        raise
    except Exception as error:
        if _debug():
            raise
        _flush()
        sys.exit(_report_error(error))


def _debug() -> bool:
    return "--debug" in sys.argv[1:]


def _report(message: str) -> None:
    print(f"mlops: {message}", file=sys.stderr)


def _report_error(error: Exception) -> int:
    """Print an error in one sentence, and return the exit code."""
    if isinstance(error, ValidationError):
        for problem in error.errors():
            name = "MLOPS_" + "_".join(str(part) for part in problem["loc"]).upper()
            _report(f"{name}={problem['input']!r} does not fit: {problem['msg']}.")
        return 2
    if isinstance(error, PlatformError):
        _report(str(error))
        return 1
    first_line = (str(error).strip() or "no message").splitlines()[0]
    _report(f"{type(error).__name__}: {first_line} (more with `mlops --debug ...`)")
    return 1


def _flush() -> None:
    """Write what is left to print; the reader of a pipe (`mlops status | head -1`) may have closed it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit: https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
