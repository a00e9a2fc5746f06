"""Images that cannot be used for training: each is named once, and too many stop the run."""

from __future__ import annotations

import logging
import threading
import traceback

from mrcnn.data.annotated import UnusableImage
from mrcnn.data.dataset import Dataset, describe_image
from mrcnn.messages import shortened

logger = logging.getLogger("mrcnn")

# From this number of tried images on, a majority of bad ones stops the run at once.
_ENOUGH_TO_JUDGE = 20
# Largest number of images that an error lists, and of images that get the same kind of warning.
_LISTED = 50
_REASON_CHARACTERS = 500


class BadImages:
    """What is known of the images of a data set; safe to use from several threads.

    Args:
        dataset: a prepared Dataset.
        max_share: the share of its images, 0 to 1, that may be bad; one bad image is always
            allowed. Images without objects are not bad.

    Attributes:
        reasons: image id to the reason why the image is left out, bad or without objects.
    """

    def __init__(self, dataset: Dataset, max_share: float):
        self.dataset = dataset
        self.max_share = max_share
        self.reasons: dict[int, str] = {}
        self._tried: set[int] = set()
        # Kind of emptiness to the images that are left out for it.
        self._empty: dict[str, set[int]] = {}
        self._warned: dict[str, set[int]] = {}
        self._first_traceback = ""
        self._lock = threading.Lock()

    def add_good(self, image_id: int) -> None:
        """Count an image that could be loaded."""
        with self._lock:
            self._tried.add(image_id)

    def add_bad(self, image_id: int, error: Exception) -> None:
        """Leave out an image because of an error, and name it.

        Raises:
            ValueError: this was one bad image too many.
        """
        with self._lock:
            if image_id not in self.reasons:
                self._tried.add(image_id)
                self.reasons[image_id] = reason_of(error)
                if not self._first_traceback and not isinstance(error, (OSError, UnusableImage)):
                    self._first_traceback = "".join(traceback.format_exception(error))
                self._log_left_out(image_id, self.reasons[image_id])
        self.stop_if_too_many()

    def add_empty(self, image_id: int, kind: str, reason: str) -> None:
        """Leave out an image without objects; only the first image of each kind is named.

        Args:
            image_id: the image's id in the dataset.
            kind: words for all images that are empty for the same reason.
            reason: why the image is left out, a sentence.

        Raises:
            ValueError: no image of the data set is left.
        """
        with self._lock:
            if image_id not in self.reasons:
                self._tried.add(image_id)
                self.reasons[image_id] = reason
                if kind not in self._empty:
                    self._log_left_out(image_id, f"{reason} So are all others {kind}.")
                self._empty.setdefault(kind, set()).add(image_id)
        self.stop_if_too_many()

    def warn_once(self, image_id: int, kind: str, text: str) -> None:
        """Warn once about an image that stays in use, and about at most 50 images of one kind.

        Args:
            image_id: the image's id in the dataset.
            kind: words for all images that get this warning.
            text: the rest of a sentence that begins with the image.
        """
        with self._lock:
            warned = self._warned.setdefault(kind, set())
            if image_id in warned or len(warned) == _LISTED:
                return
            warned.add(image_id)
            logger.warning("%s %s", describe_image(self.dataset, image_id), text)
            if len(warned) == _LISTED:
                logger.warning("Further images %s are not named.", kind)

    def stop_if_too_many(self) -> None:
        """Raise a ValueError with the list of bad images if there are too many of them."""
        with self._lock:
            tried, count = len(self._tried), len(self.dataset.image_ids)
            none_left = len(self.reasons) == count
            empty = set() if none_left else set().union(*self._empty.values())
            bad = [image_id for image_id in self.reasons if image_id not in empty]
            too_many = (
                none_left
                or len(bad) > max(1, self.max_share * count)
                or (tried >= _ENOUGH_TO_JUDGE and len(bad) > max(0.5, self.max_share) * tried)
            )
            if too_many:
                raise ValueError(
                    f"{len(bad)} of the {tried} images tried cannot be trained on (the data set "
                    f"has {count}, and a share of {self.max_share} may be bad):\n"
                    f"{self._list_of(bad)}{self._traceback()}"
                ) from None

    def _log_left_out(self, image_id: int, reason: str) -> None:
        logger.warning("%s is left out: %s", describe_image(self.dataset, image_id), reason)

    def _list_of(self, image_ids: list[int]) -> str:
        lines = [
            f"  {describe_image(self.dataset, image_id)}: {self.reasons[image_id]}"
            for image_id in image_ids[:_LISTED]
        ]
        if len(image_ids) > _LISTED:
            lines.append(f"  and {len(image_ids) - _LISTED} more")
        return "\n".join(lines)

    def _traceback(self) -> str:
        if not self._first_traceback:
            return ""
        return f"\nThe first error in the code of the Dataset:\n{self._first_traceback.rstrip()}"


def reason_of(error: Exception) -> str:
    """Why an image is bad: our own sentence, or the last line of the error's traceback."""
    if isinstance(error, UnusableImage):
        return str(error)
    return shortened("".join(traceback.format_exception_only(error)), _REASON_CHARACTERS)
