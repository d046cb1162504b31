"""What the pages say that code can check."""

from __future__ import annotations

import subprocess
import sys

from mlops_platform.settings import PROJECT_ROOT, Settings


def test_the_table_of_settings_is_current() -> None:
    program = (
        "from scripts.settings_table import PAGE, with_table; page = PAGE.read_text(); assert page == with_table(page)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT_ROOT, check=True)
    page = (PROJECT_ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    assert all(f"`MLOPS_{name.upper()}`" in page for name in Settings.model_fields)
