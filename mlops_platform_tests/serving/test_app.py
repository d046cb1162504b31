"""What the service answers, and what it says of requests that it won't."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from mlops_platform.resources.event_log import EventLog
from mlops_platform.serving.app import build_app
from mlops_platform.serving.middleware import BodyLimit
from mlops_platform_tests.serving.conftest import TEXTS, Service, follower_of


def test_one_text_and_many(service: Service) -> None:
    title = TEXTS["mlops"]
    one = service.client.post("/predict", json={"title": title, "description": "number 2"})
    assert one.status_code == 200
    (first,) = one.json()["predictions"]
    assert first["tag"] == "mlops"
    assert first["probability"] == max(first["probabilities"].values())
    assert sum(first["probabilities"].values()) == pytest.approx(1)
    assert set(first["probabilities"]) == set(TEXTS)
    assert one.json()["model_version"] == "1"
    many = service.client.post("/predict", json={"texts": [{"title": text} for text in TEXTS.values()]}).json()
    assert [each["tag"] for each in many["predictions"]] == list(TEXTS)
    assert [each["id"] for each in many["predictions"]] == [f"{many['request_id']}.{n}" for n in range(3)]


def test_every_prediction_and_label_is_in_the_log(service: Service) -> None:
    answer = service.client.post("/predict", json={"title": "a", "description": "b ü"}).json()
    told = service.client.post("/feedback", json={"labels": [{"id": f"{answer['request_id']}.0", "tag": " mlops "}]})
    assert (told.status_code, told.json()) == (200, {"accepted": 1, "unknown_tags": []})
    prediction, label = service.logged()
    assert prediction.at < label.at
    assert prediction.body == {
        "title": "a",
        "description": "b ü",
        "model_version": "1",
        **answer["predictions"][0],
    }
    assert label.body == {"id": answer["predictions"][0]["id"], "tag": "mlops"}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("no json", 422, "The body is not JSON: Expecting value."),
        ("{}", 422, "give either `texts`, or `title` and `description`."),
        ('{"title": "a", "texts": [{"title": "b"}]}', 422, "give either `texts`, or `title` and `description`."),
        ('{"texts": []}', 422, "texts: List should have at least 1 item after validation, not 0."),
        ('{"texts": [{"title": "a"}, {"title": " "}]}', 422, "texts[1]: give a title or a description."),
        ('{"title": "", "description": "\\n"}', 422, "give a title or a description."),
        ('{"texts": [{"title": 7}]}', 422, "texts[0].title: Input should be a valid string."),
        ('{"text": "a"}', 422, "text: Extra inputs are not permitted."),
        ('{"title": "\\ud800"}', 422, "title: character 0 is half of a pair (a surrogate): send whole characters."),
        (json.dumps({"texts": [{"title": "a"}] * 6}), 422, "texts: 6 are too many; send at most 5."),
        (
            json.dumps({"texts": [{"title": "a"}, {"title": "a" * 150, "description": "b" * 51}]}),
            422,
            "texts[1]: title and description have 201 characters; send at most 200.",
        ),
        ("a" * 5_001, 413, "The body is larger than 5,000 bytes: send fewer texts in a request."),
    ],
)
def test_a_request_that_does_not_fit_is_told_what_to_change(
    service: Service, body: str, status: int, said: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = service.client.post("/predict", content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (status, {"detail": said})
    # a body whose length is not declared
    parts = (body[at : at + 1000].encode() for at in range(0, len(body), 1000))
    assert service.client.post("/predict", content=parts, headers=headers).status_code == status
    assert service.logged() == []


def test_a_tag_that_nobody_knows_is_kept_told_and_counted(service: Service) -> None:
    labels = [{"id": "0" * 32 + f".{number}", "tag": tag} for number, tag in enumerate(("mlops", "mlopz", "mlopz"))]
    answer = service.client.post("/feedback", json={"labels": labels})
    assert (answer.status_code, answer.json()) == (200, {"accepted": 3, "unknown_tags": ["mlopz"]})
    assert "mlops_feedback_unknown_tags_total 2.0" in service.client.get("/metrics").text
    assert [event.body["tag"] for event in service.logged()] == ["mlops", "mlopz", "mlopz"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"title": "a\u0000b"}', 200),
        (b'{"title": "' + b"\xff" + b'"}', 422),
        (b"\xff\xfe", 422),
        (b"[" * 4_900, 422),
        (b'{"texts":' * 500, 422),
        (b'{"title": ' + b"9" * 4_900 + b"}", 422),
        (b'{"title": NaN}', 422),
        (b"null", 422),
        (b"[]", 422),
        (b"", 422),
    ],
)
def test_no_body_makes_it_stumble(service: Service, body: bytes, status: int) -> None:
    for path in ("/predict", "/feedback"):
        answer = service.client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == (status if path == "/predict" else 422), answer.text
        assert "error parsing" not in answer.text
    assert service.client.get("/healthz").status_code == 200


def test_labels_that_do_not_fit(service: Service) -> None:
    good = {"id": "0" * 32 + ".0", "tag": "mlops"}
    for labels, said in (
        ([{**good, "id": "x"}], "labels[0].id: String should match pattern"),
        ([{**good, "tag": " "}], "labels[0].tag: String should have at least 1 character"),
        ([good] * 6, "labels: send at most 5 in a request."),
        ([], "labels: List should have at least 1 item"),
    ):
        answer = service.client.post("/feedback", json={"labels": labels})
        assert answer.status_code == 422, answer.text
        assert answer.json()["detail"].startswith(said)


def test_what_is_served_and_its_figures(service: Service) -> None:
    told = service.client.get("/model").json()
    assert {key: told[key] for key in ("version", "dagster_run_id", "data_version", "registry_problem")} == {
        "version": "1",
        "dagster_run_id": "r1",
        "data_version": "d1",
        "registry_problem": None,
    }
    assert told["classes"] == sorted(TEXTS)
    assert service.client.get("/healthz").json() == {"status": "ok"}
    assert service.client.get("/readyz").json() == {
        "status": "ready",
        "model_version": "1",
        "registry_problem": None,
    }
    service.client.post("/predict", json={"texts": [{"title": TEXTS["mlops"]}] * 3})
    service.client.get("/made/up")
    figures = service.client.get("/metrics").text
    assert 'mlops_predictions_total{model_version="1",tag="mlops"} 3.0' in figures
    assert 'mlops_requests_total{method="POST",path="/predict",status="200"} 1.0' in figures
    assert 'mlops_requests_total{method="GET",path="other",status="404"} 1.0' in figures
    assert "mlops_model_version 1.0" in figures
    assert "made/up" not in figures
    described = service.client.get("/openapi.json").json()
    assert {"/predict", "/feedback", "/healthz", "/readyz", "/model", "/metrics"} == set(described["paths"])


UNICODE: Any = {"Authorization": "Bearer sécret".encode()}


@pytest.mark.parametrize("service", [{"serve_token": "secret"}], indirect=True)
def test_with_a_token_who_has_none_is_refused(service: Service) -> None:
    asked: dict[str, Any] = {"json": {"title": "a"}}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic c2VjcmV0"}, UNICODE):
        answer = service.client.post("/predict", headers=headers, **asked)
        assert answer.status_code == 401
        assert answer.json() == {"detail": "Send the header `Authorization: Bearer TOKEN`."}
    for path in ("/model", "/metrics"):
        assert service.client.get(path).status_code == 401
    assert service.client.get("/readyz").status_code == 200
    good = {"Authorization": "Bearer secret"}
    assert service.client.post("/predict", headers=good, **asked).status_code == 200


def test_what_cannot_be_logged_is_not_answered(service: Service) -> None:
    path = service.settings.event_log_path
    path.mkdir(parents=True)
    answer = service.client.post("/predict", json={"title": "a"})
    assert answer.status_code == 503
    detail = "The event log cannot be written, so no prediction or label is accepted: try again later."
    assert answer.json() == {"detail": detail}
    ready = service.client.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"detail": detail})
    assert "cannot be written (unable to open database file)" in service.client.get("/model").json()["log_problem"]
    assert "mlops_log_errors_total 1.0" in service.client.get("/metrics").text
    path.rmdir()
    assert service.client.get("/readyz").status_code == 200  # without a prediction that would find out
    assert service.client.post("/predict", json={"title": "a"}).status_code == 200


def test_a_promotion_and_a_rollback_are_followed(service: Service) -> None:
    def version() -> Any:
        return service.client.post("/predict", json={"title": "a"}).json()["model_version"]

    tracking = service.registry.tracking
    try:
        tracking.set_alias("champion", "2", {})
        assert version() == "1"
        service.followed.poll()
        assert version() == "2"
        tracking.set_alias("champion", "1", {})
        service.followed.poll()
        assert version() == "1"
    finally:
        tracking.set_alias("champion", "1", {})
    assert service.registry.loaded == ["1", "2"]  # the last one was kept


def test_the_last_good_model_serves_on(service: Service) -> None:
    service.registry.down = True
    service.followed.poll()
    assert service.client.post("/predict", json={"title": "a"}).status_code == 200
    told = service.client.get("/model").json()
    assert (told["version"], told["registry_problem"]) == ("1", "The registry is down for the test.")
    assert service.client.get("/readyz").json()["registry_problem"] == "The registry is down for the test."
    assert "mlops_registry_ok 0.0" in service.client.get("/metrics").text
    service.registry.down, service.registry.broken = False, True
    try:
        service.registry.tracking.set_alias("champion", "2", {})
        service.followed.poll()
    finally:
        service.registry.tracking.set_alias("champion", "1", {})
    told = service.client.get("/model").json()
    assert (told["version"], told["registry_problem"]) == ("1", "The files are gone for the test.")
    service.followed.poll()
    assert service.client.get("/model").json()["registry_problem"] is None


def test_before_a_model_is_there_it_says_so(service: Service) -> None:
    service.registry.down = True
    log = EventLog(service.settings.home / "early.db")
    early = follower_of(service.registry)
    with TestClient(build_app(service.settings, early, log)) as client:
        for answer in (client.get("/readyz"), client.post("/predict", json={"title": "a"})):
            assert answer.status_code == 503
            assert answer.json()["detail"] == "No model can be served yet: The registry is down for the test."
        assert client.get("/healthz").status_code == 200


def test_a_body_that_does_not_arrive_is_not_waited_for() -> None:
    """At the level of ASGI: a test client sends bodies whole."""
    sent: list[Any] = []

    async def reads(_: Any, receive: Any, __: Any) -> None:
        while True:
            sent.append(await receive())

    async def asked(parts: list[Any]) -> None:
        async def receive(_: Any = None) -> Any:
            if not parts:
                await asyncio.Event().wait()  # for ever
            return parts.pop(0)

        limit = BodyLimit(reads, max_bytes=100, seconds=0.05)
        await asyncio.wait_for(limit({"type": "http", "headers": []}, receive, receive), 1)

    first = {"type": "http.request", "body": b'{"title":', "more_body": True}
    with pytest.raises(HTTPException) as late:
        asyncio.run(asked([first]))
    assert (late.value.status_code, late.value.headers) == (408, {"Connection": "close"})
    assert late.value.detail == "The body did not arrive within 0.05 s: send it at once."
    assert sent == [first]
    # once it is whole, an answer may take its time
    with pytest.raises(TimeoutError):
        asyncio.run(asked([first, {"type": "http.request", "body": b'"a"}'}]))
