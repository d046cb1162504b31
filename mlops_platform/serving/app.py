"""The service's HTTP interface: predictions, feedback, and the endpoints for monitoring it.

What a request may contain belongs in ``schemas``, which model answers it in ``champion``.
"""

import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel, SecretStr

from mlops_platform.errors import EventLogError
from mlops_platform.optional_dependencies import require_production_packages
from mlops_platform.resources.event_log import Event, EventLog
from mlops_platform.resources.factory import build_registry
from mlops_platform.resources.prediction_log import FEEDBACK, PREDICTION, BigQueryLog, log_store
from mlops_platform.serving.champion import Champion, ChampionFollower
from mlops_platform.serving.log_uploader import LogUploader
from mlops_platform.serving.middleware import BodyLimit, RequestMetrics
from mlops_platform.serving.model_cache import ModelCopies
from mlops_platform.serving.prometheus_metrics import Metrics
from mlops_platform.serving.schemas import FeedbackRequest, PredictRequest
from mlops_platform.settings import ServingSettings, Settings, WarehouseSettings

_METRICS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
NOT_LOGGED = "The event log cannot be written, so no prediction or label is accepted: try again later."


class Prediction(BaseModel):
    """The prediction for one text; feedback refers to it by `id`."""

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
    """How many labels were accepted, and which of their tags the served model does not know: new topics, or typos."""

    accepted: int
    unknown_tags: list[str]


class Problem(BaseModel):
    """What is wrong and what to change, in a sentence."""

    detail: str


class Ready(BaseModel):
    """Predictions are served: by which model, and why a newer one may be missed."""

    status: Literal["ready"] = "ready"
    model_version: str
    registry_problem: str | None


class ModelResponse(BaseModel):
    """The served model, where it comes from, and the state of the registry and the event log."""

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
    """Build the service from the environment; uvicorn's workers call this."""
    settings = Settings()
    return build_app(settings, follower(settings), EventLog(settings.event_log_path), destination(settings))


def follower(settings: ServingSettings) -> ChampionFollower:
    """Return the follower of the registry; models of an MLflow server are copied to this disk."""
    tracking = build_registry(settings)
    copies = None if settings.mlflow_uri is None else ModelCopies(settings.model_copies_dir, tracking)
    return ChampionFollower(tracking, settings.serve_follow_seconds, copies)


def destination(settings: WarehouseSettings) -> BigQueryLog | None:
    """Return the target of uploads; None if the graph reads the event log on this disk."""
    store = log_store(settings)
    if not isinstance(store, BigQueryLog):
        return None
    require_production_packages(settings)
    # Google's libraries take seconds to import, which would slow the first requests down
    import mlops_platform.resources.warehouse.bigquery.connection  # noqa: F401

    return store


def build_app(
    settings: Settings, champions: ChampionFollower, log: EventLog, uploads_to: BigQueryLog | None = None
) -> FastAPI:
    """Build the service, which starts and stops the follower and closes the log.

    Args:
        settings: Limits, the token, the pause between uploads.
        champions: Provides the model.
        log: Records each prediction before it is returned.
        uploads_to: The target of the log's predictions and feedback; without it they stay on this disk.
    """
    metrics = Metrics(several_workers=settings.serve_workers > 1)
    uploader = None
    if uploads_to is not None:
        uploader = LogUploader(log, uploads_to, settings.serve_log_seconds, metrics.count_upload)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # a worker accepts connections after this, so the first request has a model
        await run_in_threadpool(champions.start)
        if uploader is not None:
            uploader.start()
        try:
            yield
        finally:
            champions.stop()
            if uploader is not None:
                # in case this machine is not started again
                await run_in_threadpool(uploader.stop)
            log.close()

    app = FastAPI(
        title="Project tagger",
        version="1",
        description="Tags of machine-learning projects, predicted by the model that has the alias `champion`.",
        lifespan=lifespan,
        exception_handlers={400: _refuse_unreadable, RequestValidationError: _refuse_invalid},
    )
    # the one added last is the outermost
    app.add_middleware(BodyLimit, max_bytes=settings.serve_max_bytes)
    app.add_middleware(RequestMetrics, metrics=metrics)
    allowed = [Depends(_token_check(settings.serve_token))]

    async def serving() -> Champion:
        champion = champions.current
        if champion is None:
            raise HTTPException(503, f"No model can be served yet: {str(champions.problem).removesuffix('.')}.")
        return champion

    def save(kind: str, at: datetime, bodies: Sequence[dict[str, Any]]) -> None:
        try:
            log.append([Event(kind, at, body) for body in bodies])
        except EventLogError:
            # a prediction that cannot be monitored or corrected later is not returned
            metrics.log_errors.inc()
            raise HTTPException(503, NOT_LOGGED) from None

    @app.post("/predict", dependencies=allowed, responses=_problems(401, 408, 413, 422, 503))
    def predict(request: PredictRequest, champion: Annotated[Champion, Depends(serving)]) -> PredictResponse:
        """Predict the tag of one text, or of many."""
        texts = request.pairs()
        _check_texts(texts, settings)
        request_id, at = uuid.uuid4().hex, datetime.now(UTC)
        version = champion.registered.version
        predictions = [
            Prediction(id=f"{request_id}.{number}", **vars(prediction))
            for number, prediction in enumerate(champion.predict(texts))
        ]
        bodies = [
            {"title": title, "description": description, "model_version": version, **prediction.model_dump()}
            for (title, description), prediction in zip(texts, predictions, strict=True)
        ]
        save(PREDICTION, at, bodies)
        for prediction in predictions:
            metrics.predictions.labels(prediction.tag, version).inc()
        return PredictResponse(request_id=request_id, model_version=version, predictions=predictions)

    @app.post("/feedback", dependencies=allowed, responses=_problems(401, 408, 413, 422, 503))
    def feedback(request: FeedbackRequest) -> FeedbackResponse:
        """Record the true tags of predicted texts; they are matched by `id` when the log is ingested."""
        labels = request.labels
        if len(labels) > settings.serve_max_texts:
            raise HTTPException(422, f"labels: send at most {settings.serve_max_texts} in a request.")
        save(FEEDBACK, datetime.now(UTC), [label.model_dump() for label in labels])
        metrics.feedback.inc(len(labels))
        champion = champions.current
        unknown = [] if champion is None else [label.tag for label in labels if label.tag not in champion.classes]
        metrics.unknown_tags.inc(len(unknown))
        return FeedbackResponse(accepted=len(labels), unknown_tags=sorted(set(unknown)))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Report that the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", responses=_problems(503))
    async def readyz(champion: Annotated[Champion, Depends(serving)]) -> Ready:
        """Report whether predictions are served: a model is loaded, and the event log can be written."""
        await run_in_threadpool(log.probe)
        if log.problem is not None:
            raise HTTPException(503, NOT_LOGGED)
        return Ready(model_version=champion.registered.version, registry_problem=champions.problem)

    @app.get("/model", dependencies=allowed, responses=_problems(401, 503))
    def model(champion: Annotated[Champion, Depends(serving)]) -> ModelResponse:
        """Describe the served model."""
        registered = champion.registered
        return ModelResponse(
            version=registered.version,
            mlflow_run_id=registered.run_id,
            dagster_run_id=registered.tags.get("dagster_run_id"),
            data_version=registered.tags.get("data_version"),
            classes=list(champion.classes),
            loaded_at=champion.loaded_at,
            registry_looked_at=champions.polled_at,
            registry_problem=champions.problem,
            log_problem=log.problem or (None if uploader is None else uploader.problem),
        )

    @app.get("/metrics", dependencies=allowed, response_class=Response, responses=_problems(401) | _METRICS)
    def prometheus() -> Response:
        """Return the metrics for Prometheus."""
        champion = champions.current
        metrics.model_version.set(int(champion.registered.version) if champion else 0)
        metrics.registry_ok.set(champions.problem is None)
        with suppress(EventLogError):  # the other metrics matter most now
            metrics.waiting.set(0 if uploader is None else uploader.waiting())
        return Response(metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return app


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of an operation for the OpenAPI document."""
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

    async def check(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)]) -> None:
        if token is None:
            return
        secret = token.get_secret_value().encode()
        if credentials is None or not secrets.compare_digest(credentials.credentials.encode(), secret):
            raise HTTPException(
                401, "Send the header `Authorization: Bearer TOKEN`.", headers={"WWW-Authenticate": "Bearer"}
            )

    return check


async def _refuse_unreadable(_: Request, __: Exception) -> JSONResponse:
    # FastAPI's only 400: bytes that are not UTF-8, nesting and numbers beyond what Python's parser accepts
    return JSONResponse({"detail": "The body cannot be read: send JSON in UTF-8 as /docs shows it."}, 422)


async def _refuse_invalid(_: Request, error: Any) -> JSONResponse:
    problems = error.errors()
    if problems[0]["type"] == "json_invalid":
        return JSONResponse({"detail": f"The body is not JSON: {problems[0]['ctx']['error']}."}, 422)
    sentences = [f"{_place(item['loc'])}{item['msg'].removeprefix('Value error, ')}" for item in problems[:5]]
    return JSONResponse({"detail": f"{'; '.join(sentences)}."}, 422)


def _place(location: Sequence[Any]) -> str:
    """Write ("body", "texts", 3, "title") as `texts[3].title: `."""
    names = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location[1:])
    return f"{names.removeprefix('.')}: " if names else ""
