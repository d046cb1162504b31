"""`mlops replay`: play a labeled history through the loop in simulated time."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from mlops_platform.errors import PlatformError
from mlops_platform.settings import Settings


def replay(
    settings: Settings,
    scenario: str,
    *,
    projects: str | None = None,
    tags: str | None = None,
    seed: int = 0,
    repeats: int | None = None,
    as_json: bool = False,
    output: Path | None = None,
) -> bool:
    """Play a scenario and print the result.

    Args:
        settings: The default history.
        scenario: Name of a shipped scenario, or the path of one.
        projects: Path or URL of another projects CSV, along with `tags`.
        tags: Path or URL of another tags CSV, along with `projects`.
        seed: Seed of the first history; the next histories use the next numbers.
        repeats: Number of histories; by default that of the scenario.
        as_json: Print JSON instead of tables.
        output: File to write the result to instead of printing it.

    Returns:
        Whether all expectations were met.

    Raises:
        PlatformError: The scenario or the history does not fit, or the file cannot be written.
    """
    from rich.console import Console

    from mlops_platform.replay.history import read_history
    from mlops_platform.replay.report import print_played, summary_lines
    from mlops_platform.replay.scenario import read_scenario
    from mlops_platform.replay.scoring import play_all, summarize

    if (projects is None) != (tags is None):
        raise PlatformError("Projects and tags belong together: give both --projects and --tags, or neither.")
    plan = read_scenario(scenario)
    history = read_history(projects or settings.projects_uri, tags or settings.tags_uri, timeout=settings.fetch_timeout)
    times = repeats or plan.repeats
    played = play_all(history.rows, plan, range(seed, seed + times))
    summary = summarize(played, plan)
    text = StringIO()
    if as_json:
        result: dict[str, Any] = {
            "scenario": plan.model_dump(),
            "rows": len(history.rows),
            "unlabelled": history.unlabelled,
            "rejected": history.rejected,
            "played": [history_played.to_dict() for history_played in played],
            "summary": {**vars(summary), "false_alarm_share": summary.share},
        }
        text.write(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    else:
        left_out = f"; {history.unlabelled} rows without a tag are ignored" if history.unlabelled else ""
        unread = f"; {history.rejected} lines could not be read" if history.rejected else ""
        text.write(f"{Path(scenario).name}: {len(history.rows)} labeled rows{left_out}{unread}.\n\n")
        # of many histories, print the first and those that went wrong
        shown = [one for one in played if one.seed == seed or (plan.faults and not one.met)]
        with redirect_stdout(text):
            print_played(shown, Console(file=text, width=120, no_color=output is not None))
        text.write("\n".join(summary_lines(summary, plan)) + "\n")
    if output is None:
        print(text.getvalue(), end="")
        return summary.met
    try:
        output.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise PlatformError(f"{output} cannot be written: {error.strerror}.") from error
    return summary.met
