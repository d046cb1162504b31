"""The service's HTTP interface: predictions, feedback, and what those who watch it ask for."""

import logging
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, SecretStr

from mlops_platform.packages import require_packages
from mlops_platform.resources.assembly import build_resources
from mlops_platform.serving.champion import Champion, ChampionFollower
from mlops_platform.serving.limits import BodyLimit, FeedbackRequest, PredictRequest
from mlops_platform.serving.log_store import BigQueryLog, log_store
from mlops_platform.serving.metrics import Measured, Metrics
from mlops_platform.serving.model_copies import ModelCopies
from mlops_platform.serving.prediction_log import LogError, PredictionLog, seal_abandoned
from mlops_platform.serving.shipping import Destination, Shipper
from mlops_platform.settings import Settings

# written out: for a route that answers in plain text, FastAPI would say that its errors are that, too
_REFUSED: dict[int | str, dict[str, Any]] = {
    401: {
        "description": HTTPStatus.UNAUTHORIZED.phrase,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}
NOT_LOGGED = "Nothing can be logged now, so no prediction or label is taken: try again later."
_log = logging.getLogger(__name__)


class Prediction(BaseModel):
    """What the model says of one text; `id` is what feedback about it names."""

    id: str
    tag: str
    probability: float
    probabilities: dict[str, float]


class PredictResponse(BaseModel):
    """The predictions, in the order of the texts."""

    request_id: str
    model_version: str
    predictions: list[Prediction]


class FeedbackResponse(BaseModel):
    """How many labels were taken, and which of their tags the served model doesn't know: new topics, or typos."""

    accepted: int
    unknown_tags: list[str]


class Problem(BaseModel):
    """What is wrong, in a sentence that says what to change."""

    detail: str


class Alive(BaseModel):
    """That the process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """That predictions are given, by which model, and why a newer one may be missed."""

    status: Literal["ready"] = "ready"
    model_version: str
    registry_problem: str | None


class ModelResponse(BaseModel):
    """What is served, where it comes from, and how the registry is."""

    version: str
    mlflow_run_id: str
    dagster_run_id: str | None
    data_version: str | None
    classes: list[str]
    loaded_at: datetime
    registry_looked_at: datetime | None
    registry_problem: str | None
    log_problem: str | None


def create_app() -> FastAPI:
    """Make the service from the environment; uvicorn's workers call this."""
    settings = Settings()
    return build_app(
        settings,
        follower(settings),
        PredictionLog(
            settings.prediction_log_dir, seconds=settings.serve_log_seconds, max_bytes=settings.serve_log_bytes
        ),
        destination(settings),
    )


def follower(settings: Settings) -> ChampionFollower:
    """What follows the registry; where that is not on this disk, models are copied here.

    Args:
        settings: Where it is.
    """
    tracking = build_resources(settings)["tracking"]
    copies = None if settings.mlflow_uri is None else ModelCopies(settings.model_copies_dir, tracking)
    return ChampionFollower(tracking, settings.serve_follow_seconds, copies)


def destination(settings: Settings) -> Destination | None:
    """Where the log's segments go to: nowhere, where the graph reads them from this disk.

    Args:
        settings: Which environment it is.
    """
    store = log_store(settings)
    if not isinstance(store, BigQueryLog):
        return None
    require_packages(settings, trains=False)
    # Google's libraries take seconds to import, which a request would feel
    import mlops_platform.resources.bigquery_client  # noqa: F401

    return store


def build_app(
    settings: Settings, champions: ChampionFollower, log: PredictionLog, ships_to: Destination | None = None
) -> FastAPI:
    """Make the service.

    Args:
        settings: Limits and the token.
        champions: What it serves; the service starts and stops it.
        log: Takes each prediction before it is answered; the service closes it.
        ships_to: Takes the log's sealed segments; without it they stay on this disk.
    """
    metrics = Metrics(several_workers=settings.serve_workers > 1)
    folder = settings.prediction_log_dir
    shipper = None if ships_to is None else Shipper(folder, ships_to, tell=metrics.count_shipping)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            seal_abandoned(folder)
        except OSError as error:  # on a full disk; a worker that does not start would end the whole service
            _log.warning("What a killed worker has left of the prediction log waits: %s", error)
        # a worker takes connections after this: with the first look behind it, no request meets it without a model
        await run_in_threadpool(champions.start)
        if shipper is not None:
            shipper.start()
        try:
            yield
        finally:
            champions.stop()
            log.close()
            if shipper is not None:
                # what is sealed now has gone too, if this machine does not come back
                await run_in_threadpool(shipper.stop)

    app = FastAPI(
        title="Project tagger",
        version="1",
        description="Tags of machine-learning projects, by the model that the alias `champion` points to.",
        lifespan=lifespan,
    )
    # the last one added is the outermost
    app.add_middleware(BodyLimit, max_bytes=settings.serve_max_bytes)
    app.add_middleware(Measured, metrics=metrics)
    _answer_errors(app)
    allowed = [Depends(_token_check(settings.serve_token))]

    async def serving() -> Champion:
        champion = champions.current
        if champion is None:
            raise HTTPException(503, f"No model can be served yet: {str(champions.problem).removesuffix('.')}.")
        return champion

    def keep(records: Sequence[dict[str, Any]]) -> None:
        try:
            log.append(records)
        except LogError:
            # an answer that nobody could watch or correct later is not given
            metrics.log_errors.inc()
            raise HTTPException(503, NOT_LOGGED) from None

    @app.post("/predict", dependencies=allowed, responses=_problems(401, 408, 413, 422, 503))
    def predict(asked: PredictRequest, champion: Annotated[Champion, Depends(serving)]) -> PredictResponse:
        """Predict the tag of one text, or of many."""
        texts = asked.pairs()
        _check_texts(texts, settings)
        request_id, at = uuid.uuid4().hex, datetime.now(UTC)
        version = champion.registered.version
        found = [
            Prediction(id=f"{request_id}.{number}", **vars(each)) for number, each in enumerate(champion.predict(texts))
        ]
        keep(
            [
                {
                    "kind": "prediction",
                    "at": at.isoformat(timespec="microseconds"),
                    "title": title,
                    "description": description,
                    "model_version": version,
                    **prediction.model_dump(),
                }
                for (title, description), prediction in zip(texts, found, strict=True)
            ]
        )
        for prediction in found:
            metrics.predictions.labels(prediction.tag, version).inc()
        return PredictResponse(request_id=request_id, model_version=version, predictions=found)

    @app.post("/feedback", dependencies=allowed, responses=_problems(401, 408, 413, 422, 503))
    def feedback(asked: FeedbackRequest) -> FeedbackResponse:
        """Take the true tags of texts that were predicted; they are matched by `id` when the log is taken in."""
        if len(asked.labels) > settings.serve_max_texts:
            raise HTTPException(422, f"labels: send at most {settings.serve_max_texts} in a request.")
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        keep([{"kind": "feedback", "at": at, **label.model_dump()} for label in asked.labels])
        metrics.feedback.inc(len(asked.labels))
        champion = champions.current
        known = {label.tag for label in asked.labels} if champion is None else set(champion.classes)
        unknown = [label.tag for label in asked.labels if label.tag not in known]
        metrics.unknown_tags.inc(len(unknown))
        return FeedbackResponse(accepted=len(asked.labels), unknown_tags=sorted(set(unknown)))

    @app.get("/healthz")
    async def healthz() -> Alive:
        """Whether the process answers."""
        return Alive()

    @app.get("/readyz", responses=_problems(503))
    async def readyz(champion: Annotated[Champion, Depends(serving)]) -> Ready:
        """Whether predictions are given: a model is loaded, and the log can be written."""
        if log.problem is not None:
            raise HTTPException(503, NOT_LOGGED)
        return Ready(model_version=champion.registered.version, registry_problem=champions.problem)

    @app.get("/model", dependencies=allowed, responses=_problems(401, 503))
    def model(champion: Annotated[Champion, Depends(serving)]) -> ModelResponse:
        """What is served."""
        registered = champion.registered
        return ModelResponse(
            version=registered.version,
            mlflow_run_id=registered.run_id,
            dagster_run_id=registered.tags.get("dagster_run_id"),
            data_version=registered.tags.get("data_version"),
            classes=list(champion.classes),
            loaded_at=champion.loaded_at,
            registry_looked_at=champions.looked_at,
            registry_problem=champions.problem,
            log_problem=log.problem or (None if shipper is None else shipper.problem),
        )

    @app.get("/metrics", dependencies=allowed, response_class=PlainTextResponse, responses=_REFUSED)
    def prometheus() -> Response:
        """Figures for Prometheus."""
        champion = champions.current
        metrics.model_version.set(int(champion.registered.version) if champion else 0)
        metrics.registry_ok.set(champions.problem is None)
        metrics.waiting.set(0 if shipper is None else shipper.waiting())
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers of an operation that are a `Problem`, for the documentation."""
    return {status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in statuses}


def _check_texts(texts: Sequence[tuple[str, str]], settings: Settings) -> None:
    if len(texts) > settings.serve_max_texts:
        raise HTTPException(422, f"texts: {len(texts)} are too many; send at most {settings.serve_max_texts}.")
    for number, text in enumerate(texts):
        length = sum(map(len, text))
        if length > settings.serve_max_chars:
            raise HTTPException(
                422,
                f"texts[{number}]: title and description have {length} characters; send at most "
                f"{settings.serve_max_chars}.",
            )


def _token_check(token: SecretStr | None) -> Callable[..., Awaitable[None]]:
    scheme = HTTPBearer(auto_error=False, description="The value of MLOPS_SERVE_TOKEN, if it is set.")

    async def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)]) -> None:
        if token is None:
            return
        secret = token.get_secret_value().encode()
        if given is None or not secrets.compare_digest(given.credentials.encode(), secret):
            raise HTTPException(
                401, "Send the header `Authorization: Bearer TOKEN`.", headers={"WWW-Authenticate": "Bearer"}
            )

    return check


def _answer_errors(app: FastAPI) -> None:
    """Every error is `{"detail": "a sentence"}`."""

    @app.exception_handler(400)
    async def unreadable(_: Request, __: Exception) -> JSONResponse:
        # FastAPI's only 400: bytes that are no UTF-8, nesting and numbers beyond what Python's parser takes
        return JSONResponse({"detail": "The body cannot be read: send JSON in UTF-8 as /docs shows it."}, 422)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = error.errors()
        if problems[0]["type"] == "json_invalid":
            return JSONResponse({"detail": f"The body is no JSON: {problems[0]['ctx']['error']}."}, 422)
        told = [f"{_place(each['loc'])}{each['msg'].removeprefix('Value error, ')}" for each in problems[:5]]
        return JSONResponse({"detail": f"{'; '.join(told)}."}, 422)


def _place(location: Sequence[Any]) -> str:
    """Write ("body", "texts", 3, "title") as `texts[3].title: `."""
    names = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in location[1:])
    return f"{names.removeprefix('.')}: " if names else ""
