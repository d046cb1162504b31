"""`make bench`: measure section by section, store the results and write benchmarks/results.md.

`make bench` is the full pass; `make bench ARGS="--quick"` takes about a minute a section, and
`ARGS="--only tuning"` measures one.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks import report
from benchmarks.harness import Section, Unavailable
from mlops_platform.cli.doctor import PACKAGES

# in the order of the page
SECTIONS = ["quality", "sentence", "tuning", "orchestration", "beside_airflow", "training_scale", "elt", "validation"]


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds; prints, and stores nothing")
    parser.add_argument("--only", default="", metavar="NAMES", help=f"some of {','.join(SECTIONS)}")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else SECTIONS
    if unknown := sorted(set(chosen) - set(SECTIONS)):
        parser.error(f"there is no section {', '.join(unknown)}; choose from {', '.join(SECTIONS)}")
    size = "quick" if options.quick else "full"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if options.quick else report.FOLDER
        page = folder / "results.md" if options.quick else report.PAGE
        for name in chosen:
            print(f"{name} ...", flush=True)
            try:
                section: Section = importlib.import_module(f"benchmarks.{name}").run(size)
            except Unavailable as why:
                print(f"{name} keeps its earlier results. {why}", flush=True)
                continue
            report.store(name, section, size, {package: version(package) for package in PACKAGES}, folder)
        print(report.write(chosen if options.quick else SECTIONS, folder, page))


if __name__ == "__main__":
    main()
