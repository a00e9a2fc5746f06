"""Every `mrcnn` command of the README, the guides and the help texts, run on small data."""

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from mrcnn.cli.main import VERBS, main
from mrcnn.data.videos import video_writer
from mrcnn.mask_rcnn import MaskRCNN
from tests.cli.test_verbs import tiny as tiny
from tests.cli.test_verbs import write_labels
from tests.rasters import write_raster
from tests.ray_warnings import RAY_WARNINGS
from tests.tiny import TinyConfig

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in (
            *("command_line", "resuming", "inspecting", "tiles"),
            *("custom_data", "tuning", "install"),
            *("labelling", "model_card", "stages", "transfer"),
        )
    ),
)
RUN = re.compile(r"logs/[a-z]+\d{8}T\d{4}")

pytestmark = [pytest.mark.slow, *RAY_WARNINGS]


def commands():
    """Page and command, in the order of the pages, each command once."""
    found = []
    for page in PAGES:
        blocks = re.findall(r"```bash\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
        found += [(page, line) for block in blocks for line in block.splitlines()]
    for verb, place in VERBS.items():
        epilog = importlib.import_module(place.module).EPILOG
        found += [(f"{verb} --help", line.strip()) for line in epilog.splitlines()]
    lines = {line.split("  #")[0].strip(): page for page, line in found[::-1]}
    # test_supervisely.py runs those of Supervisely's configurations.
    return [
        (page, line)
        for line, page in reversed(lines.items())
        if line.startswith("mrcnn ") and "--supervisely" not in line
    ]


@pytest.fixture(scope="module")
def here(tiny, tmp_path_factory):
    """A folder with all that the commands name, and a run."""
    folder = tmp_path_factory.mktemp("here")
    for name, count in (("leaves", 3), ("more_leaves", 2)):
        write_labels(folder / name, count)
    # Labels whose images lie elsewhere, also under the names of COCO.
    split = write_labels(folder / "others", 2)
    (split / "images").rename(folder / "photos")
    (split / "annotations.json").rename(folder / "annotations.json")
    (folder / "val2017").symlink_to(folder / "photos")
    (folder / "instances_val2017.json").symlink_to(folder / "annotations.json")
    with tifffile.TiffWriter(folder / "scan.tif") as file:
        for shade in (20, 90):
            file.write(np.full((64, 64), shade, np.uint8), metadata=None)
    slide = np.full((96, 96, 3), 90, np.uint8)
    for name in ("slide.tif", "slide.svs"):
        tifffile.imwrite(folder / name, slide, photometric="rgb", tile=(64, 64))
    (folder / "scans").mkdir()
    tifffile.imwrite(folder / "scans" / "a.tif", slide, photometric="rgb")
    write_raster(folder / "field.tif", slide)
    with video_writer(folder / "clip.mp4", 10.0) as add:
        for shade in (20, 90):
            add(np.full((64, 64, 3), shade, np.uint8))
    PIL.Image.new("RGB", (64, 64)).save(folder / "photo.jpg")
    # Weights that fit the tiny network, under the names of downloaded ones.
    model = MaskRCNN("inference", TinyConfig(), folder)
    for name in ("mask_rcnn_coco.h5", "imagenet.h5", "leaves.h5"):
        model.keras_model.save_weights(folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(MaskRCNN, "get_imagenet_weights", lambda self: "imagenet.h5")
        patch.setattr("mrcnn.machine.speed", dict)
        # Three classes, as the data have.
        patch.setattr("mrcnn.weights.start.COCO_CLASS_COUNT", 0)
        yield folder


def test_every_documented_command_runs(here, capsys):
    lines = commands()
    assert {shlex.split(line)[1] for _, line in lines} == set(VERBS)
    run = None
    for page, line in lines:
        words = shlex.split(RUN.sub(str(run), line))[1:]
        if words[0] == "train" and "--epochs" in words:
            words[words.index("--epochs") + 1] = "1"
        elif words[0] == "train":
            words += ["--epochs", "1"]
        if words[0] == "convert":
            words[2] += f"_{len(list(here.iterdir()))}"
        if words[0] == "detect":
            words += ["--output", f"found_{len(list(here.iterdir()))}"]
        if "--set" in words and words[words.index("--set") + 1].startswith("IMAGE_"):
            words[words.index("--set") + 1] = "IMAGE_MAX_DIM=64"
        status = main(words)
        assert status == 0, f"{page}: {line}: {capsys.readouterr()}"
        run = run or max(Path("logs").iterdir())
    assert len(lines) >= 12
