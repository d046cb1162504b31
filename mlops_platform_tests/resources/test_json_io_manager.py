"""JSON values: what comes back, and what a missing or damaged file says."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from mlops_platform.errors import PlatformError
from mlops_platform.resources.json_io_manager import JsonValues


def test_a_value_passes_and_outlives_the_run(tmp_path: Path) -> None:
    @dg.asset
    def first() -> dict[str, object]:
        return {"é": [1, 2.5, None]}

    @dg.asset
    def second(first: dict[str, object]) -> None:
        assert first == {"é": [1, 2.5, None]}

    values = JsonValues(base_dir=str(tmp_path))
    assert dg.materialize([first, second], resources={"io_manager": values}).success
    assert values.read(dg.AssetKey("first")) == {"é": [1, 2.5, None]}
    assert [path.name for path in tmp_path.iterdir()] == ["first.json"]


@pytest.mark.parametrize(("content", "says"), [(None, "has no value yet"), ('{"a": ', "is damaged")])
def test_what_cannot_be_read_says_what_to_do(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "first.json").write_text(content)
    with pytest.raises(PlatformError, match=says) as raised:
        JsonValues(base_dir=str(tmp_path)).read(dg.AssetKey("first"))
    assert "materialize first" in str(raised.value)
