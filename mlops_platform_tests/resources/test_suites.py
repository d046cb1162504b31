"""Reading committed suites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.errors import PlatformError
from mlops_platform.resources.validation.suite import Outcome, read_suite


def _write(root: Path, content: str) -> None:
    (root / "expectations").mkdir()
    (root / "expectations" / "s.json").write_text(content, encoding="utf-8")


def _rule(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": kwargs}


def test_a_rule_has_a_unique_name_and_is_critical_by_default(tmp_path: Path) -> None:
    rules = [
        _rule("expect_table_row_count_to_be_between", min_value=1),
        _rule("expect_compound_columns_to_be_unique", column_list=["a", "b"]),
        {**_rule("expect_column_values_to_not_be_null", column="a"), "severity": "warning"},
        _rule("expect_column_mean_to_be_between", column="a", min_value=0),
    ]
    _write(tmp_path, json.dumps({"expectations": rules}))
    suite = read_suite("s", tmp_path)
    assert [rule.name for rule in suite] == [
        "table_row_count_to_be_between",
        "a_b_to_be_unique",
        "a_to_not_be_null",
        "a_mean_to_be_between",
    ]
    assert [rule.critical for rule in suite] == [True, True, False, True]
    assert [rule.columns for rule in suite] == [[], ["a", "b"], ["a"], ["a"]]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"expectations": [{"type": "x"}]}', '{"expectations": 1}'])
def test_a_file_that_is_not_a_suite_is_an_error_with_its_path(tmp_path: Path, content: str) -> None:
    _write(tmp_path, content)
    with pytest.raises(PlatformError, match=r"s\.json is not an expectation suite .*: correct it\.$"):
        read_suite("s", tmp_path)


def test_a_missing_suite_and_a_duplicate_rule_are_errors(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"s\.json cannot be read .*: restore it\.$"):
        read_suite("s", tmp_path)
    rule = _rule("expect_column_values_to_not_be_null", column="a")
    _write(tmp_path, json.dumps({"expectations": [rule, rule]}))
    with pytest.raises(PlatformError, match="has the rule a_to_not_be_null twice"):
        read_suite("s", tmp_path)


def test_the_share_is_of_the_rows() -> None:
    assert Outcome("x", passed=False, rows=8, offending_rows=2).offending_share == 0.25
    assert Outcome("x", passed=True, rows=0, offending_rows=0).offending_share == 0.0
    assert Outcome("x", passed=True, observed=8).offending_share is None
