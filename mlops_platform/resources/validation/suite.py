"""Expectation suites as committed, and the outcomes of their rules: plain values, without Great Expectations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_platform.errors import PlatformError
from mlops_platform.settings import GX_ROOT_DIR

# the column that identifies an offending row
ID = "id"


@dataclass(frozen=True)
class Expectation:
    """One rule of a suite.

    Attributes:
        name: Derived from type and columns; names the asset check.
        type: Great Expectations' name of the rule.
        kwargs: The rule's arguments.
        critical: Whether a violation blocks downstream assets.
        description: The rule in words.
    """

    name: str
    type: str
    kwargs: Mapping[str, Any]
    critical: bool
    description: str

    @property
    def columns(self) -> list[str]:
        """The columns that the rule is about."""
        single = [self.kwargs[key] for key in ("column", "column_A", "column_B") if key in self.kwargs]
        return [*single, *self.kwargs.get("column_list", []), *self.kwargs.get("column_set", [])]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one expectation.

    Attributes:
        name: Name of the expectation.
        passed: Whether the table meets it; False too where it could not be evaluated.
        error: Why it could not be evaluated, in words; None where it was.
        rows: Rows that were evaluated; None where the rule is not about rows.
        offending_rows: How many of them break the rule; None where the rule is not about rows.
        observed: What the rule observed, where it is not about rows: a count, a type.
        examples: Some offending rows: their id and the columns of the rule, with long texts cut.
    """

    name: str
    passed: bool
    error: str | None = None
    rows: int | None = None
    offending_rows: int | None = None
    observed: Any = None
    examples: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    @property
    def offending_share(self) -> float | None:
        """The share of the rows that breaks the rule, from 0 to 1; None where the rule is not about rows."""
        if self.rows is None or self.offending_rows is None:
            return None
        return self.offending_rows / self.rows if self.rows else 0.0


def read_suite(name: str, root: Path = GX_ROOT_DIR) -> list[Expectation]:
    """Read the suite `expectations/<name>.json` of a folder; the names of its expectations are unique.

    Raises:
        PlatformError: The file is missing, or is not a suite.
    """
    path = root / "expectations" / f"{name}.json"
    try:
        rules = json.loads(path.read_text(encoding="utf-8"))["expectations"]
        expectations = [
            Expectation(
                name=_name(rule["type"], rule["kwargs"]),
                type=rule["type"],
                kwargs=rule["kwargs"],
                critical=rule.get("severity", "critical") == "critical",
                description=rule.get("description") or rule["type"],
            )
            for rule in rules
        ]
    except OSError as error:
        raise PlatformError(f"Suite {path} cannot be read ({error.strerror}): restore it.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlatformError(f"{path} is not an expectation suite ({error!r}): correct it.") from None
    counts = Counter(expectation.name for expectation in expectations)
    duplicates = [name for name, count in counts.items() if count > 1]
    if duplicates:
        raise PlatformError(f"Suite {path} has the rule {', '.join(duplicates)} twice: remove one.")
    return expectations


def _name(kind: str, kwargs: Mapping[str, Any]) -> str:
    rule = kind.removeprefix("expect_")
    columns = [kwargs["column"]] if "column" in kwargs else kwargs.get("column_list", [])
    for prefix in ("column_values_", "compound_columns_", "column_"):
        if columns and rule.startswith(prefix):
            return "_".join([*columns, rule.removeprefix(prefix)])
    return "_".join([*columns, rule])
