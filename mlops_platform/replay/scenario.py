"""A scenario file: how a history is played, which faults are injected, and which decisions should follow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mlops_platform.errors import PlatformError, first_line
from mlops_platform.ml.monitoring.retraining_policy import DEFAULT, Action, Thresholds

SHIPPED = Path(__file__).resolve().parents[1] / "scenarios"
Kind = Literal["new_topic", "label_flips", "class_shift", "null_column", "bad_deployment"]
EXPECTED: dict[str, Action] = {
    "new_topic": "improve",
    "label_flips": "inspect",
    "class_shift": "improve",
    "null_column": "inspect",
    "bad_deployment": "rollback",
}
Share = Annotated[float, Field(gt=0, le=1)]
Weeks = Annotated[int, Field(ge=1, le=1000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fault(_Strict):
    """A fault that is injected from a week on; docs/replay.md describes each kind."""

    kind: Kind
    week: Weeks = 3
    until: Weeks | None = None
    share: Share = 0.5
    tag: str | None = None
    texts: list[str] = []
    column: Literal["title", "description"] = "description"
    expect: Action | None = None
    also: list[Action] = []
    within_weeks: Weeks = 3
    recovers: bool = True
    tolerance: float = Field(0.01, ge=0, le=1)

    @model_validator(mode="after")
    def _fits(self) -> Fault:
        if self.until is not None and self.until < self.week:
            raise ValueError(f"until is week {self.until}, before the fault's week {self.week}")
        if self.texts and (self.kind != "new_topic" or not self.tag):
            raise ValueError("texts belong to a new_topic, whose tag they need")
        return self

    @property
    def expected(self) -> Action:
        """Return the decision that should follow."""
        return self.expect or EXPECTED[self.kind]

    @property
    def deadline(self) -> int:
        """Return the last week in which it may be decided."""
        return self.week + self.within_weeks

    def active(self, week: int) -> bool:
        """Return whether it affects the rows that arrive in a week."""
        return self.week <= week <= (self.until or week)


class Scenario(_Strict):
    """A scenario; docs/replay.md describes each field."""

    description: str = ""
    order: Literal["time", "shuffled"] = "shuffled"
    train_rows: int | None = Field(None, ge=1)
    train_share: Share = 0.4
    pool_share: float = Field(0.25, ge=0, lt=0.9)
    rows_per_week: int | None = Field(None, ge=1)
    weeks: Weeks | None = None
    window_weeks: Weeks = 4
    label_delay_weeks: int = Field(1, ge=0, le=100)
    answer_after_weeks: Weeks = 1
    repeats: int = Field(1, ge=1, le=1000)
    together: bool = False
    test_share: float = Field(0.2, gt=0, lt=1)
    min_f1: float = Field(0.5, ge=0, le=1)
    min_rows: int = Field(50, ge=1)
    alpha: float = Field(0.01, gt=0, lt=1)
    max_false_alarms: float = Field(0.05, ge=0, le=1)
    thresholds: dict[str, float] = {}
    faults: list[Fault] = []

    @model_validator(mode="after")
    def _fits(self) -> Scenario:
        if unknown := sorted(set(self.thresholds) - set(Thresholds.__dataclass_fields__)):
            names = ", ".join(Thresholds.__dataclass_fields__)
            raise ValueError(f"unknown threshold {', '.join(unknown)}; there are {names}")
        if self.order == "shuffled" and self.rows_per_week is None:
            raise ValueError("a shuffled history has no calendar: set rows_per_week")
        late = [fault for fault in self.faults if self.weeks is not None and fault.week > self.weeks]
        if late:
            raise ValueError(f"{late[0].kind} begins in week {late[0].week}, after the last of {self.weeks} weeks")
        return self

    @property
    def limits(self) -> Thresholds:
        """Return the thresholds of the policy, with the scenario's changes."""
        return replace(DEFAULT, **{n: type(getattr(DEFAULT, n))(value) for n, value in self.thresholds.items()})


def shipped() -> list[str]:
    """Return the names of the scenarios in the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def read_scenario(name_or_file: str) -> Scenario:
    """Read a scenario of the package by name, such as `quiet`, or one from a YAML file by path."""
    path = SHIPPED / f"{name_or_file}.yaml" if name_or_file in shipped() else Path(name_or_file)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        choice = f"name a YAML file, or {' or '.join(shipped())}"
        raise PlatformError(f"Scenario {name_or_file} cannot be read ({error.strerror}): {choice}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlatformError(f"Scenario {path} is not YAML: {first_line(error)}.") from error
    if not isinstance(content, dict):
        raise PlatformError(f"Scenario {path} holds no settings: it should have lines such as `rows_per_week: 30`.")
    try:
        return Scenario.model_validate(content)
    except ValidationError as error:
        raise PlatformError(f"Scenario {path}: {_sentence(error, content)}.") from error


def _sentence(error: ValidationError, content: dict[Any, Any]) -> str:
    """Return the first error as a sentence: where it is, and which values are valid."""
    first = error.errors()[0]
    place = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        model = Fault if first["loc"][0] == "faults" else Scenario
        return f"it has an unknown field {place}; there are {', '.join(model.model_fields)}"
    value = "" if first["type"] in ("value_error", "missing") else f" is {first['input']!r}:"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}{value} {message}{more}".strip() if content else "it is empty"
