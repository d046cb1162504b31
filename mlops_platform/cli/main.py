"""The `mlops` command: register the verbs, one module each, and report errors in a sentence.

Exit codes: 0 for success, 1 for a failure, 2 for an invalid command line or setting, 130 after Ctrl-C. What a verb does
belongs in its module, which imports heavy packages (Dagster, MLflow, scikit-learn) inside functions only.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated

import typer
from pydantic import ValidationError

from mlops_platform.cli.decide import decide
from mlops_platform.cli.deployments import history, promote, rollback
from mlops_platform.cli.doctor import doctor
from mlops_platform.cli.label import label
from mlops_platform.cli.predict import predict
from mlops_platform.cli.replay import replay
from mlops_platform.cli.run import run
from mlops_platform.cli.serve import serve
from mlops_platform.cli.status import status
from mlops_platform.cli.ui import ui
from mlops_platform.errors import PlatformError, first_line

INTERRUPTED = 130  # the exit code of typer after Ctrl-C

app = typer.Typer(
    name="mlops",
    help="Run, inspect and use the platform; every setting is an environment variable MLOPS_*.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (run, status, predict, doctor, ui, serve, promote, rollback, decide, history, replay, label):
    app.command()(verb)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and warnings.")] = False,
) -> None:
    if not debug:
        warnings.simplefilter("ignore")
        logging.captureWarnings(capture=True)


def main() -> None:
    """Run the command; the entry point of the console script."""
    try:
        app()
    except SystemExit as exit_:
        if exit_.code == INTERRUPTED:
            _report("interrupted; earlier results are intact, and the next run repairs the rest.")
        _flush()
        raise
    except Exception as error:
        if "--debug" in sys.argv[1:]:
            raise
        _flush()
        sys.exit(_report_error(error))


def _report(message: str) -> None:
    print(f"mlops: {message}", file=sys.stderr)


def _report_error(error: Exception) -> int:
    """Print an error in one sentence, and return the exit code."""
    if isinstance(error, ValidationError):
        for problem in error.errors():
            name = "MLOPS_" + "".join(str(part) for part in problem["loc"][:1]).upper()
            _report(f"{name}={problem['input']!r} does not fit: {problem['msg']}.")
        return 2
    if isinstance(error, PlatformError):
        _report(str(error))
    else:
        _report(f"{type(error).__name__}: {first_line(error)} (more with `mlops --debug ...`)")
    return 1


def _flush() -> None:
    """Flush stdout; the reader of a pipe (`mlops status | head -1`) may have closed it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit: https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
