"""Every name of the original's public API: there, with its parameters, defaults and values."""

import ast
import importlib
import inspect
import pydoc
import textwrap

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
    wanted = {ast.unparse(name): REQUIRED for name in call.args}
    wanted |= {keyword.arg: ast.literal_eval(keyword.value) for keyword in named}
    assert list(ours)[: len(wanted)] == list(wanted)
    for name, default in wanted.items():
        assert ours[name].kind == inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert default is REQUIRED or ours[name].default == default, name
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for further in list(ours.values())[len(wanted) :]:
        assert further.kind in variadic or further.default is not REQUIRED
    if len(named) < len(call.keywords):
        assert any(parameter.kind == inspect.Parameter.VAR_KEYWORD for parameter in ours.values())


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
    (base,) = comparison.comparators
    assert issubclass(find(module, ast.unparse(comparison.left))[0], pydoc.locate(ast.unparse(base)))


@pytest.mark.parametrize(("module", "declaration"), entries(ast.AnnAssign))
def test_properties_are_properties(module, declaration):
    found, _ = find(module, ast.unparse(declaration.target))
    assert isinstance(found, pydoc.locate(ast.unparse(declaration.annotation)))


@pytest.mark.parametrize(("module", "name"), entries(ast.Name, ast.Attribute))
def test_other_names_are_there(module, name):
    assert find(module, ast.unparse(name))[0] is not None
