"""`mlops serve`: the champion over HTTP, until Ctrl-C."""

from __future__ import annotations

import os
import shutil
import socket

from mlops_platform.errors import PlatformError
from mlops_platform.settings import Settings

APP = "mlops_platform.serving.app:create_app"
STOP_SECONDS = 10
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(settings: Settings) -> None:
    """Serve until interrupted.

    Args:
        settings: Address, workers, limits.

    Raises:
        PlatformError: The address can't be had, or it is open to others and there is no token.
    """
    host, port = settings.serve_host, settings.serve_port
    if host not in _LOOPBACK and settings.serve_token is None:
        raise PlatformError(
            f"The service would be open to all who reach {host}: set MLOPS_SERVE_TOKEN, or serve on 127.0.0.1."
        )
    _require_free(host, port)
    # the workers make their settings from the environment
    os.environ["MLOPS_SERVE_WORKERS"] = str(settings.serve_workers)
    if settings.serve_workers > 1:
        shared = settings.home / "serving" / f"metrics-{port}"
        shutil.rmtree(shared, ignore_errors=True)  # figures of processes that are gone
        shared.mkdir(parents=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared)
    import uvicorn

    print(f"Predictions  http://{host}:{port}/predict")
    print(f"Interface    http://{host}:{port}/docs")
    print("Ctrl-C stops it.", flush=True)
    uvicorn.run(
        APP,
        factory=True,
        host=host,
        port=port,
        workers=settings.serve_workers,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


def _require_free(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise PlatformError(
            f"Port {port} on {host} cannot be had ({error.strerror}): stop what listens there, or set "
            "MLOPS_SERVE_HOST or MLOPS_SERVE_PORT."
        ) from None
