"""`mlops replay`: play a labeled history through the loop in simulated time."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import typer

from mlops_platform.errors import PlatformError
from mlops_platform.settings import Settings


def replay(
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
    from rich.console import Console

    from mlops_platform.replay.history import read_history
    from mlops_platform.replay.report import print_played, summary_lines
    from mlops_platform.replay.scenario import read_scenario
    from mlops_platform.replay.scoring import play_all, summarize

    if (projects is None) != (tags is None):
        raise PlatformError("Projects and tags belong together: give both --projects and --tags, or neither.")
    settings = Settings()
    plan = read_scenario(scenario)
    history = read_history(projects or settings.projects_uri, tags or settings.tags_uri, timeout=settings.fetch_timeout)
    played = play_all(history.rows, plan, range(seed, seed + (repeats or plan.repeats)))
    summary = summarize(played, plan)
    text = StringIO()
    if as_json:
        result: dict[str, Any] = {
            "scenario": plan.model_dump(),
            "rows": len(history.rows),
            "unlabelled": history.unlabeled,
            "rejected": history.rejected,
            "played": [asdict(simulation) for simulation in played],
            "summary": {**vars(summary), "false_alarm_share": summary.share},
        }
        text.write(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    else:
        unlabeled = f"; {history.unlabeled} rows without a tag are ignored" if history.unlabeled else ""
        rejected = f"; {history.rejected} lines could not be read" if history.rejected else ""
        text.write(f"{Path(scenario).name}: {len(history.rows)} labeled rows{unlabeled}{rejected}.\n\n")
        # of many histories, print the first and those with an unmet expectation
        shown = [simulation for simulation in played if simulation.seed == seed or (plan.faults and not simulation.met)]
        with redirect_stdout(text):
            print_played(shown, Console(file=text, width=120, no_color=output is not None))
        text.write("\n".join(summary_lines(summary, plan)) + "\n")
    if output is None:
        print(text.getvalue(), end="")
    else:
        try:
            output.write_text(text.getvalue(), encoding="utf-8")
        except OSError as error:
            raise PlatformError(f"{output} cannot be written: {error.strerror}.") from error
    if not summary.met:
        raise typer.Exit(1)
