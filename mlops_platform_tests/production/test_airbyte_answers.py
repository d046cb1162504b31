"""Answers of Airbyte that are JSON but not what its API promises, as from a gateway before it, end in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from mlops_platform.errors import AirbyteError
from mlops_platform_tests.production.airbyte_double import (
    CONNECTIONS,
    AirbyteDouble,
    Answer,
    airbyte,
)

PROJECTS = CONNECTIONS["projects"]


class OddDouble(AirbyteDouble):
    """An Airbyte that gives some requests an answer of its own.

    Attributes:
        odd: A pattern for "METHOD path", the answer, and for how many requests.
    """

    odd: tuple[str, int, Any, int] = ("nothing", 0, None, 0)

    def answer(self, method: str, target: str, body: Mapping[str, Any], authorization: str | None) -> Answer:
        pattern, status, content, times = self.odd
        if times and re.match(pattern, f"{method} {target}"):
            self.odd = (pattern, status, content, times - 1)
            return status, content
        return super().answer(method, target, body, authorization)


@pytest.fixture
def double() -> Iterator[OddDouble]:
    double = OddDouble(lambda _: 7)
    yield double
    double.stop()


@pytest.mark.parametrize("content", ["no", ["no"], None])
def test_a_refusal_that_is_no_object_is_one_sentence(double: OddDouble, content: Any) -> None:
    double.odd = ("POST .*/jobs", 400, content, 1)
    with pytest.raises(AirbyteError, match=r"refused connection \S+ \(POST \S+/jobs answered 400\)"):
        airbyte(double).sync(PROJECTS)


@pytest.mark.parametrize(
    ("request_", "content"),
    [("POST .*/applications/token", {}), ("GET .*/jobs[?]", {"data": None})],
)
def test_an_answer_without_what_it_is_for_is_asked_for_again(
    double: OddDouble, request_: str, content: dict[str, Any]
) -> None:
    double.odd = (request_, 200, content, 2)
    assert airbyte(double).sync(PROJECTS).rows == 7
    assert double.odd[3] == 0
    assert double.count("POST .*/jobs") == 1


def test_a_sync_that_airbyte_has_forgotten_is_told_apart_from_a_wrong_connection(double: OddDouble) -> None:
    double.odd = (r"GET .*/jobs/\d+", 404, {"title": "resource-not-found"}, 1)
    with pytest.raises(AirbyteError, match=r"does not know the sync 100 any more \(.*404"):
        airbyte(double).sync(PROJECTS)
    assert double.count("DELETE .*/jobs/100") == 1
