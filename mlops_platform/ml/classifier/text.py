"""The text a model sees: one function, used by training and prediction alike.

Lower-casing, accents and tokens are the business of the vectorizers in `ml.model`; nothing here depends on a
fitted model.
"""

from __future__ import annotations

import re

# C0 and C1 control characters stand for nothing that a vectorizer knows; as a blank they part words
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def compose(title: object, description: object) -> str:
    """Join title and description to the single text that a model is trained on and predicts from.

    Runs of whitespace and control characters become one blank, so the line breaks of a CSV field do not
    matter. HTML entities and markup are left as they are: the real data has none, and a word in brackets is
    still a word to the vectorizers.

    Args:
        title: A string, or a missing value (None, NaN, pandas.NA).
        description: A string, or a missing value.

    Returns:
        Title and description parted by one blank; the other one alone if one is missing; "" if both are.
    """
    parts = (_BLANKS.sub(" ", part).strip() for part in (title, description) if isinstance(part, str))
    return " ".join(part for part in parts if part)
