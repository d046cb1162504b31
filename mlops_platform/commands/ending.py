"""How the `mlops` command ends: an exit code, and errors as one sentence.

Exit codes: 0 for success, 1 for a failure, 2 for a command line or setting that does not fit.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from pydantic import ValidationError

from mlops_platform.errors import PlatformError

INTERRUPTED = 130  # what typer makes of a KeyboardInterrupt


def end_with(app: Callable[[], object]) -> None:
    """Run the command and leave the process.

    Args:
        app: Parses the command line and does what it says.
    """
    # a run makes 800,000 objects that live until its end: looking through them again and again took 2.8 s of 26 s
    gc.set_threshold(50_000, 20, 100)
    exit_code = [1]
    # registered first, so the last of its kind: what is left is to free those objects one by one, for 2 s
    atexit.register(lambda: _leave(exit_code[0]))
    exit_code[0] = _exit_code(app)
    sys.exit(exit_code[0])


def _leave(exit_code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the reader of a pipe has gone
            stream.flush()
    os._exit(exit_code)


def _exit_code(app: Callable[[], object]) -> int:
    try:
        app()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            said = "mlops: interrupted; what was there before is kept, and the next run heals the rest."
            print(said, file=sys.stderr)
        return ended.code if isinstance(ended.code, int) else 0
    except Exception as error:
        if "--debug" in sys.argv[1:]:  # a traceback is for those who ask for it
            raise
        return _tell(error)
    return 0


def _tell(error: Exception) -> int:
    """Print an error as one sentence; returns the exit code."""
    if isinstance(error, ValidationError):
        for problem in error.errors():
            name = "MLOPS_" + "_".join(str(part) for part in problem["loc"]).upper()
            print(f"mlops: {name}={problem['input']!r} does not fit: {problem['msg']}.", file=sys.stderr)
        return 2
    if isinstance(error, PlatformError):
        print(f"mlops: {error}", file=sys.stderr)
        return 1
    first = (str(error).strip() or "no message").splitlines()[0]
    print(f"mlops: {type(error).__name__}: {first} (more with `mlops --debug ...`)", file=sys.stderr)
    return 1
