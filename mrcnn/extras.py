"""Optional libraries: imported where they are used, with a hint how to install them."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


def import_extra(module: str, use: str, extra: str) -> Any:
    """An optional library.

    Args:
        module: its name. use: what it does here, for the message. extra: of pyproject.toml.

    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    if importlib.util.find_spec(module) is None:
        raise ImportError(f'{use}: pip install "mask-rcnn-keras3[{extra}]".')
    return importlib.import_module(module)
