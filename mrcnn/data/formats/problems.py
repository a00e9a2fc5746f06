"""Entries of an annotation file that cannot be used: listed in one error, or left out.

A format looks at every entry of its file and adds one sentence per bad entry to `Problems`. Then
`settle` raises an error that lists them, or logs them where the user asked to leave them out.
"""

from __future__ import annotations

import logging
from typing import Any

from mrcnn.data import decoders
from mrcnn.messages import listed, shortened
from mrcnn.types import PathLike

logger = logging.getLogger("mrcnn")

# pycocotools counts pixels in numbers of 32 bits.
_MOST_PIXELS = 2**31 - 1
# Products of two coordinates are exact in float64 up to here.
FARTHEST = 1e7
_SHOWN = 10


class Problems:
    """Bad entries of one file.

    Attributes:
        count: number of bad entries so far.
    """

    def __init__(self, path: PathLike, skip_invalid: bool | None = None) -> None:
        """Start without problems.

        Args:
            path: the file, for messages.
            skip_invalid: whether `settle` leaves bad entries out. None: the caller has no such
                choice, so no message offers it.
        """
        self.count = 0
        self._path = path
        self._skip_invalid = skip_invalid
        self._shown: list[str] = []

    def add(self, entry: str, sentence: str) -> None:
        """Note that an entry ("annotation 7") cannot be used, and why ("has no polygon.")."""
        self.count += 1
        if len(self._shown) < _SHOWN:
            self._shown.append(f"{entry} {sentence}")

    def settle(self) -> None:
        """Log the bad entries if they are to be left out; otherwise raise.

        Raises:
            ValueError: there are bad entries; it lists the first ten.
        """
        if self.count and self._skip_invalid:
            logger.warning(
                "%s: %d entries cannot be used and are left out:%s",
                self._path,
                self.count,
                self._lines(),
            )
        elif self.count:
            raise ValueError(self._message())

    def _message(self) -> str:
        if self.count == 1:
            hint = "" if self._skip_invalid is None else " With skip_invalid=True it is left out."
            return f"{self._path}: {self._shown[0]}{hint}"
        hint = "" if self._skip_invalid is None else "; skip_invalid=True leaves them out"
        return f"{self._path}: {self.count} entries cannot be used{hint}:{self._lines()}"

    def _lines(self) -> str:
        more = self.count - len(self._shown)
        lines = [*self._shown, *([f"and {more} more."] if more else [])]
        return "".join(f"\n  {line}" for line in lines)


def quoted(value: Any) -> str:
    """A value as in the file, shortened to one line."""
    try:
        text = repr(value)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"
    return text if len(text) <= 60 else shortened(text)


def outline(content: Any) -> str:
    """The content of a JSON file in a few words."""
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    return f"an object with {listed(map(shortened, content)) if content else 'nothing'}"


def is_coordinate(value: Any) -> bool:
    """Whether this is a finite number of sensible size."""
    return type(value) in (int, float) and abs(value) <= FARTHEST


def pixel_limit() -> int:
    """Largest number of pixels that an image may have, see `decoders.pixel_limit`."""
    return int(min(decoders.pixel_limit(), _MOST_PIXELS))


def problem_of_image_size(height: Any, width: Any) -> str | None:
    """What is wrong with an image's stated size; None if nothing is."""
    for side, value in (("height", height), ("width", width)):
        if type(value) is not int or value < 1:
            return f"has the {side} {quoted(value)}; it must be a whole number of pixels."
    if height * width > pixel_limit():
        return (
            f"has {quoted(width)}x{quoted(height)} pixels (width x height); an image may have at "
            f"most {pixel_limit():,}, twice PIL.Image.MAX_IMAGE_PIXELS."
        )
    return None
