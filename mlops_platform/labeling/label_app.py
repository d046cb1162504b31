"""The labeling page's server for one person on this machine: it sends the queue and appends the labels."""

import secrets
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict
from starlette.middleware.base import RequestResponseEndpoint
from starlette.middleware.trustedhost import TrustedHostMiddleware

from mlops_platform.errors import PlatformError
from mlops_platform.labeling.queue import Queue, history
from mlops_platform.resources.labels import label_log
from mlops_platform.resources.labels.label_log import PAGE, RANDOM, UNDO, Label
from mlops_platform.serving.middleware import BodyLimit

FOLDER = Path(__file__).parent / "page"
HOSTS = ["127.0.0.1", "localhost"]
_MAX_BYTES = 10_000
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class LabelRequest(BaseModel):
    """A label that the person gives a project; an empty tag withdraws the label."""

    model_config = ConfigDict(extra="forbid")

    id: int
    tag: str
    source: Literal["page", "page-undo"] = "page"


def build_app(queue: Queue, log: Path, person: str, token: str) -> FastAPI:
    """Build the server.

    Args:
        queue: The projects to label.
        log: The event log.
        person: Who labels.
        token: Secret of this page, required with each request: other sites and users of the machine do not know it.
    """
    ids, tags = {row["id"] for row in queue.rows}, queue.tags
    drawn = {row["id"] for row in queue.rows if row["reason"] == "random"}
    app = FastAPI(title="Labeling", docs_url=None, redoc_url=None, openapi_url=None)
    # the one added last is the outermost
    app.add_middleware(BodyLimit, max_bytes=_MAX_BYTES)

    @app.middleware("http")
    async def add_headers(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers.update(_HEADERS)
        return response

    # against DNS rebinding: another site's name may resolve to this machine
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False)

    def check_token(x_label_token: Annotated[str, Header()] = "") -> None:
        if not secrets.compare_digest(x_label_token.encode(), token.encode()):
            raise HTTPException(403, "This page belongs to another `mlops label`: open the address of the running one.")

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, __: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": "Send JSON with the id of a project and a tag."}, 422)

    @app.exception_handler(PlatformError)
    def not_saved(_: Request, error: PlatformError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503)

    @app.get("/api/queue", dependencies=[Depends(check_token)])
    def state() -> dict[str, Any]:
        labels = label_log.read(log).labels
        mine = {key: tag for (key, who), tag in label_log.standing(labels).items() if who == person and key in ids}
        return {
            "person": person,
            "classes": [{"tag": tag, "count": count} for tag, count in queue.classes],
            # as text: JavaScript's integers are exact up to 2^53
            "rows": [
                {
                    **row,
                    "id": str(row["id"]),
                    "neighbours": [
                        {key: str(other.get(key) or "") for key in ("title", "tag")} for other in row["neighbours"]
                    ],
                }
                for row in queue.rows
            ],
            "labels": {str(key): tag for key, tag in mine.items()},
            "history": [{**step, "id": str(step["id"])} for step in history(labels, person, queue)],
        }

    @app.post("/api/labels", dependencies=[Depends(check_token)])
    def add_label(request: LabelRequest) -> dict[str, str]:
        if request.id not in ids:
            raise HTTPException(404, f"Project {request.id} is not in the queue: load the page again.")
        if request.tag not in tags and not (request.source == UNDO and request.tag == ""):
            raise HTTPException(422, f"{request.tag!r} is not a tag; it must be one of {', '.join(tags)}.")
        source = PAGE + RANDOM if request.source == PAGE and request.id in drawn else request.source
        label_log.append(log, [Label(request.id, request.tag, label_log.now(), person, source)])
        return {"id": str(request.id), "tag": request.tag}

    app.mount("/", StaticFiles(directory=FOLDER, html=True))
    return app
