"""The shape of the package: what may import what, and what an import costs."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from mrcnn.moved import MOVED

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mrcnn"

# A file imports only from lines above its own. A new file gets its line here.
READING_ORDER = """
moved
quiet
types
messages
files
nn.architectures
config
geometry.boxes
geometry.anchors
geometry.resize
geometry.masks
geometry.rle
backend
data.value_range
data.decoders
data.tiff_files
data.image_files
data.dataset
data.formats.problems
data.formats.image_folder
data.formats.segmentation
data.formats.shapes
data.formats.table
data.formats.coco
data.formats.via
data.image
data.image_meta
data.annotated
data.bad_images
data.augment
data.targets
data.loader
nn.backbone
nn.fpn
nn.rpn
nn.proposals
nn.roi_align
nn.sampling
nn.heads
nn.detections
nn.network
execution.graph_record
execution.convolutions
execution.walk
execution.recomputation
execution.training_pass
execution.detection_pass
losses
weights.layers
weights.variables
weights.hdf5_tree
weights.hdf5
weights.pickles
weights.torch_resnet
weights.torch_files
weights.imagenet
weights.resnets
weights.by_name
weights.checkpoint
weights.network
weights.start
weights
training.optimizers
training.distribution
training.trainable
training.run
training.model
training.loop
training.event_files
training
detection.model
detection.molding
detection.detector
detection
evaluation.image_ap
evaluation.coco
evaluation
visualize
inspection
mask_rcnn
detection.result_files
detection.image_names
detection.progress
detection.folder
training.callbacks
legacy
model
utils
parallel_model
""".split()
# A room's `__init__.py` shows what others call; `mrcnn/__init__.py` loads nothing but old names.
FACES = ("weights", "training", "detection", "evaluation")
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


def imports(module: str) -> set[str]:
    """Dotted names of everything that a file of the package imports, wherever it does so."""
    names = set()
    package = list(path_of(module).relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path_of(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                names.add(whole if is_module(whole) else base)
    return names


def test_every_file_has_a_place_in_the_reading_order():
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
