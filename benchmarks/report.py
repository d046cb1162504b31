"""Store the results of the sections, and write them as one page with its pictures.

Each section is a JSON file in `results/`, so that it can be measured on its own.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyperf

from benchmarks.harness import Curve, Goal, Row, Section
from mlops_platform.settings import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "benchmarks" / "results"
PAGE = PROJECT_ROOT / "benchmarks" / "results.md"
MACHINE = ("cpu_model_name", "cpu_count", "python_version")


@dataclass(frozen=True)
class Measured:
    """A section, and when and on what it was measured."""

    section: Section
    size: str
    day: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]


def store(name: str, section: Section, size: str, versions: Mapping[str, str], folder: Path = FOLDER) -> None:
    """Store a section.

    Args:
        name: Of its module.
        section: The results.
        size: "quick" or "full".
        versions: Of the packages that count, by name.
        folder: Where the sections are.
    """
    metadata = pyperf.Run(
        [1.0], collect_metadata=True
    ).get_metadata()  # a run must have a value; only the machine counts
    machine = {key: metadata[key] for key in MACHINE if key in metadata}
    measured = Measured(section, size, f"{datetime.now(tz=UTC):%Y-%m-%d}", machine, dict(versions))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(asdict(measured), indent=1) + "\n", encoding="utf-8")


def load(name: str, folder: Path = FOLDER) -> Measured | None:
    """Read a section; None where it was never measured."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    section = values.pop("section")
    section["rows"] = [Row(**{**row, "goal": Goal(**row["goal"]) if row["goal"] else None}) for row in section["rows"]]
    section["curves"] = [
        Curve(
            curve["title"],
            curve["unit"],
            {name: {int(rows): cost for rows, cost in line.items()} for name, line in curve["lines"].items()},
        )
        for curve in section["curves"]
    ]
    return Measured(Section(**section), **values)


def write(names: list[str], folder: Path = FOLDER, page: Path = PAGE) -> str:
    """Write the page and its pictures from the stored sections.

    Args:
        names: Sections in the order of the page; one that was never measured is left out.
        folder: Where the sections are; the pictures go there too.
        page: The Markdown file.

    Returns:
        The page's text.
    """
    lines = ["# Results", "", "Written by `make bench`. Ratios are ours / theirs, of the medians of runs in turns;"]
    lines += ["in brackets the lowest and the highest pair. Seconds and MB are of the machine named.", ""]
    for name in names:
        if measured := load(name, folder):
            pictures = [
                draw(curve, folder / f"{name}-{number}.svg") for number, curve in enumerate(measured.section.curves, 1)
            ]
            lines += _lines(measured, [picture.relative_to(page.parent) for picture in pictures])
    text = "\n".join(lines).rstrip() + "\n"
    page.write_text(text, encoding="utf-8")
    return text


def _lines(measured: Measured, pictures: list[Path]) -> Iterator[str]:
    section = measured.section
    yield from (f"## {section.title}", "", section.about, "")
    machine = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in measured.machine.items())
    versions = ", ".join(f"{name} {number}" for name, number in measured.versions.items())
    yield from (f"Measured on {measured.day}, size {measured.size}: {machine}. {versions}.", "")
    yield from ("| what | ours | theirs | ratio | goal | met |", "|---|---|---|---|---|---|")
    yield from (_line(row) for row in section.rows)
    yield ""
    for picture, curve in zip(pictures, section.curves, strict=True):
        yield from (f"![{curve.title}]({picture.as_posix()})", "")
    if section.notes:
        yield from (section.notes, "")


def _line(row: Row) -> str:
    ours, theirs = _value(row.ours, row.unit), _value(row.theirs, row.unit) if row.theirs else ""
    ratio, goal = "", ""
    if row.ratio is not None:
        pairs = [a / b for a, b in zip(row.ours, row.theirs, strict=False)]
        ratio = f"**{row.ratio:.3g}** ({min(pairs):.3g} to {max(pairs):.3g})"
    if row.goal is not None:
        goal = f"{'≤' if row.goal.at == 'most' else '≥'} {row.goal.limit:g}"
        goal += f" {row.unit}".rstrip() if row.goal.of == "ours" else ""
    met = {None: "", True: "yes", False: "**no**"}[row.met]
    return f"| {row.what} | {ours} | {theirs} | {ratio} | {goal} | {met} |"


def _value(values: Any, unit: str) -> str:
    middle = statistics.median(values)
    shown = f"{middle:,.0f}" if abs(middle) >= 1000 else f"{middle:.3g}" if unit else f"{middle:.4f}"
    return f"{shown} {unit}".strip()


def draw(curve: Curve, path: Path) -> Path:
    """Draw a curve, log-log, as SVG: the same points give the same file.

    Args:
        curve: What to draw.
        path: Where to.

    Returns:
        The path.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "mlops", "font.size": 10}):
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        for number, (name, points) in enumerate(curve.lines.items()):
            x = sorted(points)
            style = {"linewidth": 2.2, "marker": "o"} if number == 0 else {"linewidth": 1.2, "marker": "s", "ls": "--"}
            axes.loglog(x, [points[rows] for rows in x], label=name, **style)
        axes.set(title=curve.title, xlabel="rows", ylabel=curve.unit)
        axes.grid(which="both", alpha=0.25)
        axes.legend()
        figure.savefig(path, format="svg", metadata={"Date": None})
    return path
