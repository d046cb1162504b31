"""Settings whose text is more than one value."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mlops_platform.settings import Settings


@pytest.mark.parametrize(
    ("text", "names"),
    [("", ()), ("title_only", ("title_only",)), ("drop_words, swap_words", ("drop_words", "swap_words"))],
)
def test_augmentations_are_comma_separated(monkeypatch: pytest.MonkeyPatch, text: str, names: tuple[str, ...]) -> None:
    monkeypatch.setenv("MLOPS_AUGMENT", text)
    assert Settings(_env_file=None).augment == names


def test_an_unknown_augmentation_is_refused_with_those_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_AUGMENT", "drop_words,translate")
    with pytest.raises(ValidationError, match="'drop_words', 'swap_words', 'title_only' or 'description_only'"):
        Settings(_env_file=None)
