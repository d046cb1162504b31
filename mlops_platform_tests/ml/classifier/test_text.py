"""The one text a model sees."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_platform.ml.classifier.text import compose

MISSING = [None, float("nan"), pd.NA, ""]


def test_joins_title_and_description() -> None:
    assert compose("A title", "and more") == "A title and more"


@pytest.mark.parametrize("missing", MISSING)
def test_a_missing_part_leaves_the_other(missing: object) -> None:
    assert compose(missing, "text") == "text"
    assert compose("text", missing) == "text"
    assert compose(missing, missing) == ""


def test_line_breaks_and_control_characters_part_words() -> None:
    assert compose(" one\r\ntwo\x00three\t", "\u2028four\xa0 five\x07") == "one two three four five"


def test_keeps_case_accents_and_punctuation() -> None:
    assert compose("Café: GPT-2!", "naïve 東京 🤗") == "Café: GPT-2! naïve 東京 🤗"


@given(st.text(), st.text())
def test_is_stable_and_has_no_stray_blanks(title: str, description: str) -> None:
    text = compose(title, description)
    assert compose(text, None) == text
    assert "  " not in text
    assert text == text.strip()
    assert [c for c in text if not c.isspace()] == [
        c for c in title + description if not c.isspace() and not (c < " " or "\x7f" <= c <= "\x9f")
    ]
