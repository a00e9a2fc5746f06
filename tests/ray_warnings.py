"""What Ray 2.60 itself warns of."""

import pytest

# It uses names that it has replaced, and leaves sockets and files to the garbage collector.
RAY_WARNINGS = [
    pytest.mark.filterwarnings(f"ignore::{name}")
    for name in (
        "DeprecationWarning",
        "FutureWarning",
        "ResourceWarning",
        "pytest.PytestUnraisableExceptionWarning",
    )
]
