"""Every name of the original's public API: there, with its parameters, defaults and values."""

import ast
import importlib
import inspect
import pydoc
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tests.original_api import API

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
