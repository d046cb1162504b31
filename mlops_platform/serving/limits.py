"""What a request must look like before anything is done with it: its body's size, its texts, its labels."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}\.[0-9]{1,6}$", description="The `id` of a prediction.")]

BODY_SECONDS = 30.0

# what the validators below say in Python, for the documentation: a title or a description, and not of blanks only
_NOT_BLANK: dict[str, Any] = {
    "anyOf": [
        {"required": [name], "properties": {name: {"type": "string", "pattern": r"\S"}}}
        for name in ("title", "description")
    ]
}
_NONE: dict[str, Any] = {"type": "null"}
_ONE_WAY: dict[str, Any] = {
    "oneOf": [
        {"required": ["texts"], "properties": {"texts": {"type": "array"}, "title": _NONE, "description": _NONE}},
        {"properties": {"texts": _NONE}, **_NOT_BLANK},
    ]
}


def _whole(text: str) -> str:
    """Refuse what JSON can say and UTF-8 can't, before it is in the log."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start} is half of a pair (a surrogate): send whole characters") from None
    return text


Unicode = Annotated[str, AfterValidator(_whole)]


class Text(BaseModel):
    """A project: it needs a title or a description."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_NOT_BLANK)

    title: Unicode = ""
    description: Unicode = ""

    @model_validator(mode="after")
    def _not_blank(self) -> Text:
        if not self.title.strip() and not self.description.strip():
            raise ValueError("give a title or a description")
        return self


class PredictRequest(BaseModel):
    """One text by its fields, or several under `texts`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_ONE_WAY)

    texts: Annotated[list[Text] | None, Field(min_length=1)] = None
    title: Unicode | None = None
    description: Unicode | None = None

    @model_validator(mode="after")
    def _one_way(self) -> PredictRequest:
        single = self.title is not None or self.description is not None
        if single == (self.texts is not None):
            raise ValueError("give either `texts`, or `title` and `description`")
        if single and not (self.title or "").strip() and not (self.description or "").strip():
            raise ValueError("give a title or a description")
        return self

    def pairs(self) -> list[tuple[str, str]]:
        """The title and description of each text."""
        if self.texts is not None:
            return [(text.title, text.description) for text in self.texts]
        return [(self.title or "", self.description or "")]


class Label(BaseModel):
    """The true tag of a text that was predicted."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    id: Id
    tag: Annotated[
        str, Field(min_length=1, max_length=100, json_schema_extra={"pattern": r"\S"}), AfterValidator(_whole)
    ]


class FeedbackRequest(BaseModel):
    """True tags, as they become known."""

    model_config = ConfigDict(extra="forbid")

    labels: Annotated[list[Label], Field(min_length=1)]


class BodyLimit:
    """ASGI middleware that stops reading a body at a number of bytes, whatever its headers say, and after a time."""

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float = BODY_SECONDS) -> None:
        self._app, self._max_bytes, self._seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; who reads too much of it meets an answer with status 413, or 408 for too long."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # the rest of the body is not read, so the connection can't be used again
        detail = f"The body is larger than {self._max_bytes:,} bytes: send fewer texts in a request."
        too_large = HTTPException(413, detail, headers={"Connection": "close"})
        late = f"The body did not arrive within {self._seconds:g} s: send it at once."
        too_late = HTTPException(408, late, headers={"Connection": "close"})
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        taken, whole = 0, False
        end = asyncio.get_running_loop().time() + self._seconds

        async def counted() -> Message:
            nonlocal taken, whole
            if declared.isdigit() and int(declared) > self._max_bytes:
                raise too_large
            try:
                # behind the body comes the client's leaving, for which there is no time
                async with asyncio.timeout_at(None if whole else end):
                    message = await receive()
            except TimeoutError:
                raise too_late from None
            whole = not message.get("more_body", False)
            taken += len(message.get("body", b""))
            if taken > self._max_bytes:
                raise too_large
            return message

        await self._app(scope, counted, send)
