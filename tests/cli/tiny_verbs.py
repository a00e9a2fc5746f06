"""The verbs with the tiny network, in this process or, as a script, in one of its own.

python tests/cli/tiny_verbs.py train DATA --weights random
"""

import functools
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def use_the_tiny_network(patch) -> None:
    """Let `train` build the tiny network with two steps per epoch, and the other verbs expect it.

    Args:
        patch: pytest's MonkeyPatch.
    """
    from mrcnn.training import recipe, trained
    from tests.tiny import TinyConfig, run_eagerly

    recipe_for = recipe.recipe_for

    def tiny_recipe(*arguments, **options):
        found = recipe_for(*arguments, **options)
        config = TinyConfig()
        for name in ("NAME", "CLASS_NAMES", "NUM_CLASSES", "IMAGES_PER_GPU"):
            setattr(config, name, getattr(found.config, name))
        config.STEPS_PER_EPOCH, config.VALIDATION_STEPS = 2, 1
        config.DETECTION_MIN_CONFIDENCE = 0.7
        return found._replace(config=config)

    patch.setattr(recipe, "recipe_for", tiny_recipe)
    patch.setattr(trained, "open_trained", functools.partial(trained.open_trained, base=TinyConfig))
    run_eagerly(patch)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "goldens")]
    from mrcnn import quiet

    quiet.import_keras()
    import pytest

    from mrcnn.cli.main import main

    with pytest.MonkeyPatch.context() as monkeypatch:
        use_the_tiny_network(monkeypatch)
        sys.exit(main(sys.argv[1:]))
