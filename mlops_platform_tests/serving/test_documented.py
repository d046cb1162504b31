"""The service takes what its OpenAPI document says, refuses the rest, and answers as it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mlops_platform_tests.serving.conftest import Service

WORDS = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["", " ", "\n\t", "\u3000", "a"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)
FIELDS = {"title": WORDS | JSON, "description": WORDS | JSON}
TEXTS = st.fixed_dictionaries({}, optional={"title": WORDS, "description": WORDS}) | JSON
ASKED = st.fixed_dictionaries(
    {}, optional={**FIELDS, "texts": st.none() | st.lists(TEXTS, max_size=3) | JSON, "text": WORDS}
)
IDS = st.from_regex(r"[0-9a-f]{32}\.[0-9]{1,6}", fullmatch=True) | WORDS
LABELS = st.fixed_dictionaries({"id": IDS, "tag": WORDS}, optional={"note": JSON}) | JSON
TOLD = st.fixed_dictionaries({}, optional={"labels": st.lists(LABELS, max_size=3) | JSON})


def _fits(document: dict[str, Any], schema: dict[str, Any], value: Any) -> bool:
    return Draft202012Validator({**schema, "components": document["components"]}).is_valid(value)


def _agrees(service: Service, path: str, body: Any) -> None:
    document = service.client.get("/openapi.json").json()
    operation = document["paths"][path]["post"]
    asked = operation["requestBody"]["content"]["application/json"]["schema"]
    answer = service.client.post(path, json=body)
    assert answer.status_code == (200 if _fits(document, asked, body) else 422), answer.text
    documented = operation["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
    assert _fits(document, documented, answer.json()), answer.text


@pytest.mark.parametrize("path", ["/predict", "/feedback"])
def test_bodies_are_taken_and_refused_as_documented(service: Service, path: str) -> None:
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given((ASKED if path == "/predict" else TOLD) | JSON)
    def tried(body: Any) -> None:
        _agrees(service, path, body)

    tried()


@pytest.mark.parametrize("service", [{"serve_token": "secret"}], indirect=True)
def test_every_refusal_is_documented_and_a_sentence(service: Service) -> None:
    document = service.client.get("/openapi.json").json()
    token = {"Authorization": "Bearer secret"}
    service.followed.current = None
    small, large = {"title": "a"}, {"title": "a" * 6_000}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answers = [
                service.client.request(method, path, headers=headers, json=body if method == "post" else None)
                for headers, body in (({}, small), (token, large), (token, small))
            ]
            for answer in answers:
                documented = operation["responses"][str(answer.status_code)]["content"]
                (kind,) = documented
                assert answer.headers["content-type"].partition(";")[0] == kind
                if kind == "application/json":
                    assert _fits(document, documented[kind]["schema"], answer.json()), answer.text
            if method == "post":
                # no model, and for feedback no labels
                assert [each.status_code for each in answers] == [401, 413, 503 if path == "/predict" else 422]
