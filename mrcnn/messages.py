"""Parts of error messages: long lists and values made short, and the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def listed(values: Iterable[object], limit: int = 8) -> str:
    """The first values, and how many more there are; "none" if there are none."""
    texts = [str(value) for value in values]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return (", ".join(texts[:limit]) or "none") + more


def shortened(value: object, limit: int = 60) -> str:
    """A value as text on one line, cut off after `limit` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 2] + " …"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""
