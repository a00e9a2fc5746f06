"""Every name of the original's public API: there, with its parameters, defaults and values.

And habits of its users that no other test shows.
"""

import ast
import importlib
import inspect
import pydoc
import textwrap
from pathlib import Path

import numpy as np
import pytest

import mrcnn.model as modellib
from mrcnn.utils import Dataset
from tests.original_api import API
from tests.tiny import tiny_config

REQUIRED = inspect.Parameter.empty


def entries(*kinds) -> list:
    """Module and parsed line of every entry whose syntax is of these kinds."""
    found = []
    for module, text in API.items():
        lines = textwrap.dedent(text).strip().replace("\n    ", " ").splitlines()
        for line in lines:
            (statement,) = ast.parse(line).body
            node = statement.value if isinstance(statement, ast.Expr) else statement
            if isinstance(node, kinds):
                found.append(pytest.param(module, node, id=f"{module}.{line}"))
    return found


def find(module, name):
    """The object of a dotted name in a module, and what holds it."""
    holder, found = None, importlib.import_module(module)
    for part in name.split("."):
        holder, found = found, getattr(found, part)
    return found, holder


def parameters_of(function, holder) -> dict:
    """Parameters by name as a caller sees them."""
    parameters = list(inspect.signature(function).parameters.values())
    if inspect.isclass(holder) and inspect.isroutine(function):
        parameters = parameters[1:]
    return {parameter.name: parameter for parameter in parameters}


@pytest.mark.parametrize(("module", "call"), entries(ast.Call))
def test_parameters_are_the_originals_in_order_and_with_its_defaults(module, call):
    ours = parameters_of(*find(module, ast.unparse(call.func)))
    named = [keyword for keyword in call.keywords if keyword.arg]
    wanted = {name.id: REQUIRED for name in call.args if isinstance(name, ast.Name)}
    wanted |= {keyword.arg: ast.literal_eval(keyword.value) for keyword in named}
    assert list(ours)[: len(wanted)] == list(wanted)
    for name, default in wanted.items():
        assert ours[name].kind == inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert default is REQUIRED or ours[name].default == default, name
    kinds = {parameter.kind for parameter in ours.values()}
    any_positions, any_names = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    assert any_positions in kinds or not any(isinstance(arg, ast.Starred) for arg in call.args)
    assert any_names in kinds or len(named) == len(call.keywords)
    for further in list(ours.values())[len(wanted) :]:
        assert further.kind in (any_positions, any_names) or further.default is not REQUIRED


@pytest.mark.parametrize(("module", "assignment"), entries(ast.Assign))
def test_values_are_the_originals(module, assignment):
    (name,) = assignment.targets
    found, _ = find(module, ast.unparse(name))
    wanted = ast.literal_eval(assignment.value)
    if isinstance(found, np.ndarray):
        found = found.tolist()
    assert found == wanted and isinstance(found, type(wanted))


@pytest.mark.parametrize(("module", "comparison"), entries(ast.Compare))
def test_classes_are_derived_as_in_the_original(module, comparison):
    found, _ = find(module, ast.unparse(comparison.left))
    assert issubclass(found, pydoc.locate(ast.unparse(comparison.comparators[0])))


@pytest.mark.parametrize(("module", "declaration"), entries(ast.AnnAssign))
def test_properties_are_properties(module, declaration):
    found, _ = find(module, ast.unparse(declaration.target))
    assert isinstance(found, pydoc.locate(ast.unparse(declaration.annotation)))


@pytest.mark.parametrize(("module", "name"), entries(ast.Name, ast.Attribute))
def test_other_names_are_there(module, name):
    assert find(module, ast.unparse(name))[0] is not None


@pytest.mark.parametrize("sample", ["balloon", "coco", "nucleus", "shapes"])
def test_paths_of_samples_lie_in_the_checkout(sample):
    module = importlib.import_module(f"samples.{sample}.{sample}")
    root = Path(__file__).parents[1]
    names = {
        "ROOT_DIR": root,
        "COCO_WEIGHTS_PATH": root / "mask_rcnn_coco.h5",
        "COCO_MODEL_PATH": root / "mask_rcnn_coco.h5",
        "DEFAULT_LOGS_DIR": root / "logs",
        "RESULTS_DIR": root / "results" / "nucleus",
    }
    found = {name: Path(getattr(module, name)) for name in names if hasattr(module, name)}
    assert found == {name: names[name] for name in found}


def test_validation_images_of_nucleus():
    ids = importlib.import_module("samples.nucleus.nucleus").VAL_IMAGE_IDS
    assert len(ids) == len(set(ids)) == 25 and all(len(image_id) == 64 for image_id in ids)
    assert ids[0] == "0c2550a23b8a0f29a7575de8c61690d3c31bc897dd5ba66caec201d201a278c2"


def test_root_dir_of_visualize_holds_the_package():
    visualize = importlib.import_module("mrcnn.visualize")
    assert Path(visualize.ROOT_DIR, "mrcnn", "visualize.py").samefile(visualize.__file__)


# ---- Habits ----------------------------------------------------------------------------------


class Overridden(Dataset):
    """Overrides every method, and holds its images in places of its own."""

    def __init__(self, class_map=None):
        super().__init__(class_map)
        self.called = set()
        self.squares = {0: (4, 4, 30, 30), 1: (20, 10, 50, 40), 2: (8, 30, 40, 62)}

    def add_class(self, source, class_id, class_name):
        self.called.add("add_class")
        super().add_class(source, class_id, class_name)

    def add_image(self, source, image_id, path, **kwargs):
        self.called.add("add_image")
        super().add_image(source, image_id, path, drawn=True, **kwargs)

    def prepare(self, class_map=None):
        self.called.add("prepare")
        super().prepare(class_map)

    @property
    def image_ids(self):
        # Only the even images are trained on.
        return np.array([i for i in range(len(self.image_info)) if i % 2 == 0])

    def image_reference(self, image_id):
        return f"square {image_id}"

    def source_image_link(self, image_id):
        return self.image_info[image_id]["path"]

    def map_source_class_id(self, source_class_id):
        return super().map_source_class_id(source_class_id)

    def get_source_class_id(self, class_id, source):
        return super().get_source_class_id(class_id, source)

    def load_image(self, image_id):
        assert image_id % 2 == 0 and self.image_info[image_id]["drawn"]
        image = np.full((64, 64, 3), 10 * image_id, np.uint8)
        y1, x1, y2, x2 = self.squares[image_id]
        image[y1:y2, x1:x2] = 200
        return image

    def load_mask(self, image_id):
        if image_id == 0:
            raise ValueError(f"no mask for {image_id}")
        mask = np.zeros((64, 64, 1), bool)
        y1, x1, y2, x2 = self.squares[image_id]
        mask[y1:y2, x1:x2] = True
        return mask, np.array([self.map_source_class_id("drawn.7")], np.int32)


def test_a_dataset_may_override_every_method(caplog):
    dataset = Overridden()
    dataset.add_class("drawn", 7, "square")
    for i in range(3):
        dataset.add_image("drawn", i, path=None)
    dataset.prepare()
    generator = modellib.data_generator(dataset, tiny_config(NUM_CLASSES=2), batch_size=2)
    (images, metas, _, _, class_ids, gt_boxes, gt_masks), _ = next(generator)
    # Image 0 cannot be read; 2 stands in for it, and 1 is not among the images.
    assert metas[:, 0].tolist() == [2, 2] and "no mask for 0" in caplog.text
    assert dataset.called == {"add_class", "add_image", "prepare"}
    assert class_ids[:, 0].tolist() == [1, 1]
    np.testing.assert_array_equal(gt_boxes[0, 0], [8, 30, 40, 62])
    assert images[0, 20, 40, 0] == pytest.approx(200 - 123.7, abs=1e-3)
