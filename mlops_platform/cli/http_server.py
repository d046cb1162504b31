"""The local ports and HTTP servers of the commands: whether a port is free, and how a server runs until Ctrl-C."""

from __future__ import annotations

import socket
from typing import Any

from mlops_platform.errors import PlatformError

HOST = "127.0.0.1"


def require_free(setting: str, port: int, host: str = HOST) -> None:
    """Raise a `PlatformError` that names the setting if a port is taken or the address is not available."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        problem = f"Port {port} on {host} is not available ({error.strerror})"
        raise PlatformError(f"{problem}: stop what listens there, or set {setting} to another port.") from None


def run_server(app: Any, host: str, port: int, *, stop_seconds: int, **options: Any) -> None:
    """Run an ASGI app (or, with options of uvicorn's, its factory) until Ctrl-C, without a log of requests.

    Requests in progress have `stop_seconds` to end.
    """
    import uvicorn

    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=stop_seconds,
        **options,
    )
