"""The text that a model is given, composed alike for training and prediction.

Lowercasing, accents and tokenization belong to the vectorizers; nothing here depends on a fitted model.
"""

from __future__ import annotations

import re

# with the C0 and C1 control characters, which separate words but mean nothing to a vectorizer
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def compose(title: object, description: object) -> str:
    """Join title and description by a space; a missing one (None, NaN, pandas.NA) is left out.

    Runs of whitespace and control characters become one space, so the line breaks of a CSV field do not
    matter. HTML entities and markup stay: the real data has none, and the vectorizers ignore brackets.
    """
    parts = (_BLANKS.sub(" ", part).strip() for part in (title, description) if isinstance(part, str))
    return " ".join(part for part in parts if part)
