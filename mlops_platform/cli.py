"""The `mlops` command: parses, and calls one verb of ``commands``; how it ends is in ``commands.ending``."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mlops_platform.commands.ending import end_with
from mlops_platform.errors import PlatformError
from mlops_platform.settings import Settings

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
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day (UTC) of monitoring; by default yesterday.")
    ] = None,
) -> None:
    """Run a job of the graph here and now, with progress and a summary."""
    from mlops_platform.commands.run import run_job
    from mlops_platform.commands.run_config import read_config

    chosen = day.date() if day is not None else None
    run_job(Settings(), job, read_config(config), day=chosen, debug="--debug" in sys.argv[1:])


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show each asset's last materialization, data version and checks, and the champion."""
    from mlops_platform.commands.status import collect, print_status

    state = collect(Settings())
    if as_json:
        print(json.dumps(state, indent=2, ensure_ascii=False))
    else:
        print_status(state)


@app.command()
def predict(
    text: Annotated[str | None, typer.Argument(help="A project's title and description.")] = None,
    source: Annotated[Path | None, typer.Option("--input", help="CSV with id, title, description.")] = None,
    target: Annotated[Path | None, typer.Option("--output", help="CSV that gets id, tag, probability.")] = None,
) -> None:
    """Predict the tag of one text, or of every row of a CSV file."""
    from mlops_platform.commands.predict import load_champion, predict_file, predict_texts

    if (text is None) == (source is None) or (source is None) != (target is None):
        raise typer.BadParameter("give either a text, or --input FILE.csv and --output FILE.csv")
    if source is not None and target is not None:
        if source.is_dir() or not source.exists():
            raise PlatformError(f"{source} is not a file: give --input the path of a CSV.")
        rows = predict_file(load_champion(Settings()), source, target)
        # a device may be this very output: `--output /dev/stdout` prints the CSV and nothing else
        print(f"{rows} predictions in {target}", file=sys.stdout if target.is_file() else sys.stderr)
        return
    if not (text or "").strip():
        raise PlatformError("The text is empty: give a title or a description.")
    tag, probability = predict_texts(load_champion(Settings()), [("", text or "")])[0]
    print(f"{tag} {probability:.3f}")


@app.command()
def doctor(
    smoke: Annotated[bool, typer.Option("--smoke", help="Also make, load, query and drop a scratch table.")] = False,
) -> None:
    """Say what is configured, reachable and missing."""
    from mlops_platform.commands.doctor import examine
    from mlops_platform.commands.doctor_production import smoke as try_warehouse

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
    from mlops_platform.commands.ui import serve

    raise typer.Exit(serve(Settings()))


@app.command("serve")
def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on (MLOPS_SERVE_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port (MLOPS_SERVE_PORT).")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes (MLOPS_SERVE_WORKERS).")] = None,
) -> None:
    """Serve the champion's predictions over HTTP."""
    from mlops_platform.commands.serve import serve

    given: dict[str, Any] = {"serve_host": host, "serve_port": port, "serve_workers": workers}
    serve(Settings(**{name: value for name, value in given.items() if value is not None}))


@app.command("promote")
def promote_command(
    version: Annotated[str, typer.Argument(help="Version of the registered model.")],
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    force: Annotated[str, typer.Option(metavar="REASON", help="Promote what the gates refuse, and say why.")] = "",
) -> None:
    """Make a version the champion, if the gates let it pass."""
    from mlops_platform.commands.deployments import promote

    print(promote(Settings(), version, reason=reason, force=force))


@app.command("rollback")
def rollback_command(reason: Annotated[str, typer.Option(help="Why, for the history.")] = "") -> None:
    """Return to the champion before the present one."""
    from mlops_platform.commands.deployments import rollback

    print(rollback(Settings(), reason=reason))


@app.command("decide")
def decide_command(
    answer: Annotated[str | None, typer.Argument(help="continue, improve or rollback.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
) -> None:
    """Answer the inspection that holds automatic promotion; without an answer, show it and the last decisions."""
    from mlops_platform.commands.decide import decide, show

    if answer is None:
        show(Settings())
    else:
        decide(Settings(), answer, reason=reason)


@app.command("history")
def history_command(
    of: Annotated[
        str | None, typer.Argument(help="A version, or the beginning of a data version or Dagster run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show the versions of the model with their data and runs, and each move of the champion."""
    from mlops_platform.commands.deployments import collect_history, print_history

    found = collect_history(Settings(), of)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print_history(found)


@app.command("replay")
def replay_command(
    scenario: Annotated[str, typer.Option(help="quiet, faults, or a YAML file.")] = "faults",
    projects: Annotated[str | None, typer.Option(help="Projects CSV (by default MLOPS_PROJECTS_URI).")] = None,
    tags: Annotated[str | None, typer.Option(help="Tags CSV (by default MLOPS_TAGS_URI).")] = None,
    seed: Annotated[int, typer.Option(help="Of the first history.")] = 0,
    repeats: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Histories, each with a seed of its own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    output: Annotated[Path | None, typer.Option(help="File that gets the result.")] = None,
) -> None:
    """Play a labelled history through the loop in simulated time, beside what should have happened."""
    from mlops_platform.commands.replay import replay

    told = {"projects": projects, "tags": tags, "seed": seed, "repeats": repeats}
    if not replay(Settings(), scenario, **told, as_json=as_json, output=output):  # type: ignore[arg-type]
        raise typer.Exit(1)


@app.command("label")
def label_command(
    port: Annotated[int | None, typer.Option(help="Port of the page (MLOPS_LABEL_PORT).")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the page's address.")] = False,
    person: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Who labels; by default you.")] = None,
    export: Annotated[Path | None, typer.Option("--export", help="Write the queue as a CSV to fill in.")] = None,
    source: Annotated[Path | None, typer.Option("--import", help="Take the labels of a CSV with id and tag.")] = None,
) -> None:
    """Label the projects that are worth it most, in the browser or by CSV."""
    from mlops_platform.commands import label

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
    """Entry point of the console script."""
    end_with(app)


if __name__ == "__main__":
    main()
