"""The schemas of the requests: texts to predict, and true tags as feedback.

Limits that are settings, and the responses, belong in ``app``.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}\.[0-9]{1,6}$", description="The `id` of a prediction.")]

# for the OpenAPI document: what the validators below check, a title or a description that is not blank
_NOT_BLANK: dict[str, Any] = {
    "anyOf": [
        {"required": [name], "properties": {name: {"type": "string", "pattern": r"\S"}}}
        for name in ("title", "description")
    ]
}
_NONE: dict[str, Any] = {"type": "null"}
_ONE_OF: dict[str, Any] = {
    "oneOf": [
        {"required": ["texts"], "properties": {"texts": {"type": "array"}, "title": _NONE, "description": _NONE}},
        {"properties": {"texts": _NONE}, **_NOT_BLANK},
    ]
}


def _encodable(text: str) -> str:
    """Refuse a lone surrogate, which JSON can hold and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start} is half of a pair (a surrogate): send whole characters") from None
    return text


Unicode = Annotated[str, AfterValidator(_encodable)]


class Text(BaseModel):
    """A project: it needs a title or a description."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_NOT_BLANK)

    title: Unicode = ""
    description: Unicode = ""

    @model_validator(mode="after")
    def _require_text(self) -> Text:
        if not self.title.strip() and not self.description.strip():
            raise ValueError("give a title or a description")
        return self


class PredictRequest(BaseModel):
    """One text by its fields, or several under `texts`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_ONE_OF)

    texts: Annotated[list[Text] | None, Field(min_length=1)] = None
    title: Unicode | None = None
    description: Unicode | None = None

    @model_validator(mode="after")
    def _require_one_form(self) -> PredictRequest:
        single = self.title is not None or self.description is not None
        if single == (self.texts is not None):
            raise ValueError("give either `texts`, or `title` and `description`")
        if single and not (self.title or "").strip() and not (self.description or "").strip():
            raise ValueError("give a title or a description")
        return self

    def pairs(self) -> list[tuple[str, str]]:
        """Return the title and description of each text."""
        if self.texts is not None:
            return [(text.title, text.description) for text in self.texts]
        return [(self.title or "", self.description or "")]


class Label(BaseModel):
    """The true tag of a text that was predicted."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    id: Id
    tag: Annotated[
        str, Field(min_length=1, max_length=100, json_schema_extra={"pattern": r"\S"}), AfterValidator(_encodable)
    ]


class FeedbackRequest(BaseModel):
    """True tags, as they become known."""

    model_config = ConfigDict(extra="forbid")

    labels: Annotated[list[Label], Field(min_length=1)]
