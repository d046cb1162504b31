"""`mlops serve`: serve the champion over HTTP until Ctrl-C; the service itself is `mlops_platform.serving`."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from mlops_platform.cli.http_server import require_free, run_server
from mlops_platform.errors import PlatformError
from mlops_platform.settings import Settings

APP = "mlops_platform.serving.app:create_app"
STOP_SECONDS = 10
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it, which nobody else may enter
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (MLOPS_SERVE_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port (MLOPS_SERVE_PORT).")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes (MLOPS_SERVE_WORKERS).")] = None,
) -> None:
    """Serve the champion's predictions over HTTP."""
    options: dict[str, Any] = {"serve_host": host, "serve_port": port, "serve_workers": workers}
    settings = Settings(**{name: value for name, value in options.items() if value is not None})
    host, port = settings.serve_host, settings.serve_port
    if host not in _LOOPBACK and settings.serve_token is None:
        raise PlatformError(
            f"The service would be open to everyone who can reach {host}: set MLOPS_SERVE_TOKEN, or serve on 127.0.0.1."
        )
    require_free("MLOPS_SERVE_PORT", port, host)
    # the workers read their settings from the environment
    os.environ["MLOPS_SERVE_WORKERS"] = str(settings.serve_workers)
    with ExitStack() as at_the_end:
        if settings.serve_workers > 1:
            shared = _metrics_folder(settings.home, port)
            at_the_end.callback(shutil.rmtree, shared, ignore_errors=True)
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared)
        print(f"Predictions  http://{host}:{port}/predict")
        print(f"Interface    http://{host}:{port}/docs")
        print("Ctrl-C stops it.", flush=True)
        run_server(APP, host, port, stop_seconds=STOP_SECONDS, factory=True, workers=settings.serve_workers)


def _metrics_folder(home: Path, port: int) -> Path:
    """Create the empty folder in which the workers share their metrics."""
    # The workers map its files into memory. On a full disk, touching a new page kills the process (SIGBUS), and each
    # process that replaces it; in shared memory it does not.
    places = [_MEMORY / f"mlops-metrics-{os.getuid()}-{port}", home / "serving" / f"metrics-{port}"]
    for place in places if _MEMORY.is_dir() else places[1:]:
        shutil.rmtree(place, ignore_errors=True)  # metrics of an earlier service
        try:
            place.mkdir(mode=0o700, parents=True)
        except OSError:  # it belongs to another user
            continue
        return place
    raise PlatformError(f"{places[-1]} cannot be created: free some space, or check the permissions of MLOPS_HOME.")
