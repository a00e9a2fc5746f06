"""What every test shares: a settled environment, the reference numbers, the choice of backend.

`KERAS_BACKEND=jax pytest` runs the tests of what computes with tensors (`BACKEND_TESTS`) on JAX;
everything else does not depend on the backend and runs with TensorFlow, the default.
"""

import os
import tempfile
from functools import cache
from pathlib import Path

# Before anything imports Keras: the user's ~/.keras/keras.json must not decide what is tested.
_keras_home = tempfile.TemporaryDirectory(prefix="keras-home-")
os.environ["KERAS_HOME"] = _keras_home.name
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["MPLBACKEND"] = "Agg"
# Importing albumentations would look for a newer version on the net.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import numpy as np  # noqa: E402
import pytest  # noqa: E402

TESTS = Path(__file__).parent
GOLDENS = TESTS / "goldens"
BACKEND_TESTS = ("geometry", "nn", "test_backend.py", "test_losses.py")


def pytest_collection_modifyitems(config, items):
    """On another backend than TensorFlow, keep only the tests of what computes with tensors."""
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        return
    kept, dropped = [], []
    for item in items:
        top = item.path.relative_to(TESTS).parts[0]
        (kept if top in BACKEND_TESTS else dropped).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Folder of the reference numbers; tests/goldens/README.md says what each file holds."""
    return GOLDENS


@pytest.fixture(scope="session")
def golden():
    """Function `(file name) -> {key: array}` that reads each `.npz` of the goldens once."""

    @cache
    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(GOLDENS / name) as arrays:
            return dict(arrays)

    return load
