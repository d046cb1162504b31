"""ASGI middleware: the limits of a request's body, and the metrics of requests.

The limits of its content belong in ``app``.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mlops_platform.serving.prometheus_metrics import Metrics

__all__ = ["BodyLimit", "RequestMetrics"]

BODY_SECONDS = 30.0


class BodyLimit:
    """Refuse a body that has too many bytes, whatever its headers declare, or takes too long to arrive."""

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float = BODY_SECONDS) -> None:
        self._app, self._max_bytes, self._seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; reading too much of it raises status 413, and waiting too long for it 408."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # the rest of the body is not read, so the connection cannot be used again
        detail = f"The body is larger than {self._max_bytes:,} bytes: send fewer texts in a request."
        too_large = HTTPException(413, detail, headers={"Connection": "close"})
        detail = f"The body did not arrive within {self._seconds:g} s: send it at once."
        too_late = HTTPException(408, detail, headers={"Connection": "close"})
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        received, complete = 0, False
        deadline = asyncio.get_running_loop().time() + self._seconds

        async def receive_limited() -> Message:
            nonlocal received, complete
            if declared.isdigit() and int(declared) > self._max_bytes:
                raise too_large
            try:
                # after the body comes the client's disconnect, which has no time limit
                async with asyncio.timeout_at(None if complete else deadline):
                    message = await receive()
            except TimeoutError:
                raise too_late from None
            complete = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise too_large
            return message

        await self._app(scope, receive_limited, send)


class RequestMetrics:
    """Count requests and their seconds by route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note_status)
        finally:
            # by route only: each unknown path would be a new time series
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(scope["method"], path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - started)
