"""What every test shares: a settled environment, the reference numbers, the choice of backend.

`KERAS_BACKEND=jax pytest` and `KERAS_BACKEND=torch pytest` run the tests of what computes with
tensors (`BACKEND_TESTS`) on JAX and PyTorch. Everything else runs with TensorFlow, the default;
`test_backends.py`, which is of that, trains and detects on all three.
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
# Nearly all of what JAX does in the tests is compiling.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ["MPLBACKEND"] = "Agg"
# Importing albumentations would look for a newer version on the net.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import numpy as np  # noqa: E402
import pytest  # noqa: E402

TESTS = Path(__file__).parent
GOLDENS = TESTS / "goldens"
BACKEND_TESTS = ("geometry", "nn", "execution", "test_backend.py", "test_losses.py")
# Of these, what JAX and PyTorch try without `-m "slow or not slow"`: the primitives against their
# slow twins, losses, what every layer keeps, and the reference numbers of one network.
QUICK_ON_BACKENDS = (
    "tests/test_backend.py",
    "tests/test_losses.py",
    "keeps_the_contract",
    "test_tensors_give_what_arrays_give",
    "[stride2]",
)


@pytest.hookimpl(tryfirst=True)  # before pytest drops the slow ones
def pytest_collection_modifyitems(config, items):
    """On another backend than TensorFlow, keep only the tests of what computes with tensors."""
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        return
    kept, dropped = [], []
    for item in items:
        top = item.path.relative_to(TESTS).parts[0]
        (kept if top in BACKEND_TESTS else dropped).append(item)
        if not any(part in item.nodeid for part in QUICK_ON_BACKENDS):
            item.add_marker("slow")
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)


if os.environ["KERAS_BACKEND"] == "torch":
    import torch

    # As the other backends, whose tensors are arrays to NumPy; `gradients` switches it on.
    torch.set_grad_enabled(False)


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
