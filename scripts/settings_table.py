"""Write the table of all settings into docs/production.md, between its two marks; `make docs` runs this."""

from __future__ import annotations

from pathlib import Path

from pydantic_core import PydanticUndefined

from mlops_platform.settings import PROJECT_ROOT, Settings

PAGE = PROJECT_ROOT / "docs" / "production.md"
BEGIN, END = "<!-- settings: written by `make docs` -->\n", "<!-- end of settings -->\n"


def table() -> str:
    """Return the table in Markdown: one row per setting, in the order of the class."""
    rows = ["| variable | default | what it sets |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `MLOPS_{name.upper()}` | {_shown(field.default)} | {field.description} |")
    return "\n".join(rows) + "\n"


def _shown(default: object) -> str:
    if default in (None, "", (), PydanticUndefined) or "SecretStr" in type(default).__name__:
        return "none"
    if isinstance(default, str | Path) and str(default).startswith(str(PROJECT_ROOT)):
        return f"`{Path(default).relative_to(PROJECT_ROOT)}`"
    return f"`{default}`"


def with_table(page: str) -> str:
    """Return the page with the table between its marks."""
    head, tail = page.index(BEGIN) + len(BEGIN), page.index(END)
    return page[:head] + "\n" + table() + "\n" + page[tail:]


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
