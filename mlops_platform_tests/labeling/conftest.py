"""The home with a queue, for the tests of this folder."""

from pathlib import Path

import pytest

from mlops_platform_tests.labeling.home import LabelHome


@pytest.fixture
def home(tmp_path: Path) -> LabelHome:
    return LabelHome(tmp_path / "home")
