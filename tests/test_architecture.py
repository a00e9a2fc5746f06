"""The shape of the package: what may import what, and what an import costs."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mrcnn.moved import MOVED

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mrcnn"


def reading_order() -> list[str]:
    """Modules in the order of the map in docs/architecture.md; a room's face after its files."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    lines = re.search(r"```\nmrcnn/\n(.*?)```", text, re.DOTALL)[1].splitlines()
    order: list[str] = []
    open_folders: list[str] = []
    for line in lines:
        depth = (len(line) - len(line.lstrip())) // 3 - 1
        order += faces_of(open_folders[depth:])
        del open_folders[depth:]
        name = line.split()[0]
        if name.endswith("/"):
            open_folders.append(name[:-1])
        elif name.endswith(".py"):
            order.append(".".join([*open_folders, name.removesuffix(".py")]))
    return order + faces_of(open_folders)


def faces_of(folders: list[str]) -> list[str]:
    return [folder for folder in folders if folder in FACES]


# A room's `__init__.py` shows what others call.
FACES = ("weights", "detection", "tiles", "evaluation", "training", "inspection")
READING_ORDER = reading_order()
FACADES = ("model", "utils", "parallel_model")
# `backend` has the primitives of one device, `distribution` the devices: Keras has no common names
# for what frameworks offer of either.
SEAM = ("backend", "training.distribution")
FRAMEWORKS = {"tensorflow", "jax", "jaxlib", "torch", "torchvision"}


def path_of(module: str) -> Path:
    path = PACKAGE / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def without_types(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`, which never run."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def imports(module: str) -> set[str]:
    """Dotted names of everything that a file of the package imports, wherever it does so."""
    names = set()
    package = list(path_of(module).relative_to(ROOT).parent.parts)
    for node in without_types(ast.parse(path_of(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                names.add(whole if is_module(whole) else base)
    return names


def test_the_map_in_the_documents_has_every_file():
    files = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }
    assert files | set(FACES) == set(READING_ORDER)
    assert len(READING_ORDER) == len(set(READING_ORDER))


@pytest.mark.parametrize("module", READING_ORDER)
def test_a_file_imports_only_from_lines_above_it(module):
    above = {f"mrcnn.{name}" for name in READING_ORDER[: READING_ORDER.index(module)]}
    used = imports(module) & {f"mrcnn.{name}" for name in READING_ORDER}
    assert used <= above


@pytest.mark.parametrize("module", READING_ORDER)
def test_frameworks_are_imported_in_the_seam_only(module):
    frameworks = {name.split(".")[0] for name in imports(module)} & FRAMEWORKS
    assert not frameworks or module in SEAM


@pytest.mark.parametrize("module", [name for name in READING_ORDER if name.startswith("data.")])
def test_data_is_numpy_only(module):
    """Worker processes load these files: no tensors there."""
    keras = {name for name in imports(module) if name.split(".")[0] == "keras"}
    assert not keras or module == "data.loader"


@pytest.mark.parametrize("module", [*FACADES, *FACES])
def test_facades_hold_import_lines_only(module):
    docstring, *body = ast.parse(path_of(module).read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)
    others = [node for node in body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [[target.id for target in node.targets] for node in others] == [["__all__"]]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda p: p.parent.name)
def test_other_package_files_import_nothing(path):
    if path.parent.name in FACES:
        return
    found = imports(".".join(path.parent.relative_to(PACKAGE).parts))
    assert found <= ({"mrcnn", "mrcnn.moved", "mrcnn.quiet"} if path.parent == PACKAGE else set())


# What users run, and the rooms above, may take what a room shows; what it is made of may not.
BELOW_FACES = READING_ORDER[: READING_ORDER.index("mask_rcnn")]


@pytest.mark.parametrize("module", [name for name in BELOW_FACES if name not in FACES])
def test_a_file_of_a_room_imports_files_and_not_faces(module):
    assert not imports(module) & {f"mrcnn.{face}" for face in FACES}


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_a_module_goes_on_importing_under_its_name_of_release_0_1(old, new):
    assert importlib.import_module(old) is importlib.import_module(new)
    assert not path_of(old.removeprefix("mrcnn.")).exists()


@pytest.mark.parametrize(
    ("module", "given", "absent"),
    [
        ("mrcnn", "sys", {"numpy", "keras"} | FRAMEWORKS),
        ("mrcnn.config", "numpy", {"keras"} | FRAMEWORKS),
        # The command line reads a configuration before it loads Keras.
        ("mrcnn.supervisely.schemas", "numpy", {"keras"} | FRAMEWORKS),
        # Keras takes seconds already (and Matplotlib with it, if it is there): nothing is added.
        ("mrcnn.model", "keras", {"matplotlib", "imgaug", "albumentations", "pycocotools"}),
        ("mrcnn.visualize", "numpy", {"matplotlib.pyplot", "keras", "pycocotools"} | FRAMEWORKS),
    ],
)
def test_an_import_loads_no_more_than_it_needs(module, given, absent):
    command = (
        f"import sys, {given}; before = set(sys.modules)\n"
        f"import {module}; print(*set(sys.modules) - before)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert module in loaded
    assert absent.isdisjoint(loaded)


def public_functions(module: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions and methods of a file that others may call, `__init__` and `__call__` included."""
    body = ast.parse(path_of(module).read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and (
                    not method.name.startswith("_") or method.name in ("__init__", "__call__")
                ):
                    yield f"{node.name}.{method.name}", method


@pytest.mark.parametrize("module", READING_ORDER)
def test_public_functions_are_annotated(module):
    missing = []
    for name, function in public_functions(module):
        arguments = function.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
        bare = [a.arg for a in every if a.annotation is None and a.arg not in ("self", "cls")]
        returns = function.returns is not None or function.name == "__init__"
        if bare or not returns:
            missing.append((name, bare, returns))
    assert not missing


def files_with(pattern: str) -> set[str]:
    paths = PACKAGE.rglob("*.py")
    found = {p for p in paths if re.search(pattern, p.read_text(encoding="utf-8"))}
    return {p.relative_to(PACKAGE).as_posix() for p in found}


@pytest.mark.parametrize(
    ("what", "pattern", "only"),
    [
        (
            "Keras' record of a graph",
            r"\._keras_history|\._inbound_nodes",
            "execution/graph_record.py",
        ),
        ("renaming", r"os\.replace\(|os\.rename\(", "files.py"),
        ("flushing to disk", r"os\.fsync\(", "files.py"),
        ("JSON files", r"json\.load\(", "files.py"),
    ],
)
def test_one_file_alone_does(what, pattern, only):
    assert files_with(pattern) <= {only}, what
