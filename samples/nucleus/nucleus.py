"""Find cell nuclei in microscope images: Kaggle's Data Science Bowl 2018.

Data: a folder with `stage1_train` as Kaggle provides it, or with `train` and `val`, each holding
`<id>/images/<id>.png` and `<id>/masks/*.png`, one mask per object. `detect` also takes a folder
that holds the images themselves. samples/nucleus/README.md says where to get the data; `demo.py`
needs nothing but this repository.

    # from the ImageNet weights; or --weights=coco, last, or a file
    python samples/nucleus/nucleus.py train --dataset=DIR --subset=train --weights=imagenet
    # COCO AP of boxes and masks
    python samples/nucleus/nucleus.py evaluate --dataset=DIR --subset=val --weights=last
    # a submission file and pictures
    python samples/nucleus/nucleus.py detect --dataset=DIR --subset=stage1_test --weights=last
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

# This checkout, in case the package is not installed.
ROOT_DIR = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
if ROOT_DIR not in sys.path:
    sys.path.append(ROOT_DIR)

from mrcnn import quiet  # noqa: E402
from mrcnn.config import Config  # noqa: E402
from mrcnn.data.dataset import Dataset  # noqa: E402
from mrcnn.data.formats.mask_folder import mask_files, read_masks  # noqa: E402
from mrcnn.data.formats.raster_files import mask_size  # noqa: E402
from mrcnn.files import write_text, written_beside  # noqa: E402
from mrcnn.messages import listed  # noqa: E402
from mrcnn.types import PathLike  # noqa: E402

if TYPE_CHECKING:
    from mrcnn.mask_rcnn import MaskRCNN

COCO_WEIGHTS_PATH = os.path.join(ROOT_DIR, "mask_rcnn_coco.h5")
DEFAULT_LOGS_DIR = os.path.join(ROOT_DIR, "logs")
RESULTS_DIR = os.path.join(ROOT_DIR, "results", "nucleus")

# Images of a folder without Kaggle's layout, for `detect`.
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

# Kaggle provides no validation set. These images of stage1_train are held out, as is usual.
VAL_IMAGE_IDS = [
    "0c2550a23b8a0f29a7575de8c61690d3c31bc897dd5ba66caec201d201a278c2",
    "92f31f591929a30e4309ab75185c96ff4314ce0a7ead2ed2c2171897ad1da0c7",
    "1e488c42eb1a54a3e8412b1f12cde530f950f238d71078f2ede6a85a02168e1f",
    "c901794d1a421d52e5734500c0a2a8ca84651fb93b19cec2f411855e70cae339",
    "8e507d58f4c27cd2a82bee79fe27b069befd62a46fdaed20970a95a2ba819c7b",
    "60cb718759bff13f81c4055a7679e81326f78b6a193a2d856546097c949b20ff",
    "da5f98f2b8a64eee735a398de48ed42cd31bf17a6063db46a9e0783ac13cd844",
    "9ebcfaf2322932d464f15b5662cae4d669b2d785b8299556d73fffcae8365d32",
    "1b44d22643830cd4f23c9deadb0bd499fb392fb2cd9526d81547d93077d983df",
    "97126a9791f0c1176e4563ad679a301dac27c59011f579e808bbd6e9f4cd1034",
    "e81c758e1ca177b0942ecad62cf8d321ffc315376135bcbed3df932a6e5b40c0",
    "f29fd9c52e04403cd2c7d43b6fe2479292e53b2f61969d25256d2d2aca7c6a81",
    "0ea221716cf13710214dcd331a61cea48308c3940df1d28cfc7fd817c83714e1",
    "3ab9cab6212fabd723a2c5a1949c2ded19980398b56e6080978e796f45cbbc90",
    "ebc18868864ad075548cc1784f4f9a237bb98335f9645ee727dac8332a3e3716",
    "bb61fc17daf8bdd4e16fdcf50137a8d7762bec486ede9249d92e511fcb693676",
    "e1bcb583985325d0ef5f3ef52957d0371c96d4af767b13e48102bca9d5351a9b",
    "947c0d94c8213ac7aaa41c4efc95d854246550298259cf1bb489654d0e969050",
    "cbca32daaae36a872a11da4eaff65d1068ff3f154eedc9d3fc0c214a4e5d32bd",
    "f4c4db3df4ff0de90f44b027fc2e28c16bf7e5c75ea75b0a9762bbb7ac86e7a3",
    "4193474b2f1c72f735b13633b219d9cabdd43c21d9c2bb4dfc4809f104ba4c06",
    "f73e37957c74f554be132986f38b6f1d75339f636dfe2b681a0cf3f88d2733af",
    "a4c44fc5f5bf213e2be6091ccaed49d8bf039d78f6fbd9c4d7b7428cfcb2eda4",
    "cab4875269f44a701c5e58190a1d2f6fcb577ea79d842522dcab20ccb39b7ad2",
    "8ecdb93582b2d5270457b36651b62776256ade3aaa2d7432ae65c14f07432d49",
]

# Stages of training: (layers, the epoch it ends with).
STAGES = (("heads", 20), ("all", 40))


class NucleusConfig(Config):
    """Training: 512x512 crops of images, scaled up by a factor of at least 2."""

    NAME = "nucleus"
    IMAGES_PER_GPU = 6
    NUM_CLASSES = 1 + 1
    # stage1_train had 660 images, of which three were withdrawn; the validation images are not
    # trained on.
    STEPS_PER_EPOCH = (657 - len(VAL_IMAGE_IDS)) // IMAGES_PER_GPU
    VALIDATION_STEPS = max(1, len(VAL_IMAGE_IDS) // IMAGES_PER_GPU)
    # Average precision ranks detections by score, so all are kept.
    DETECTION_MIN_CONFIDENCE = 0
    BACKBONE = "resnet50"
    IMAGE_RESIZE_MODE = "crop"
    IMAGE_MIN_DIM = 512
    IMAGE_MAX_DIM = 512
    IMAGE_MIN_SCALE = 2.0
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    POST_NMS_ROIS_TRAINING = 1000
    POST_NMS_ROIS_INFERENCE = 2000
    # Nuclei touch each other, so more overlapping proposals must be kept than in photographs.
    RPN_NMS_THRESHOLD = 0.9
    RPN_TRAIN_ANCHORS_PER_IMAGE = 64
    MEAN_PIXEL = np.array([43.53, 39.56, 48.22])
    USE_MINI_MASK = True
    MINI_MASK_SHAPE = (56, 56)
    TRAIN_ROIS_PER_IMAGE = 128
    MAX_GT_INSTANCES = 200
    DETECTION_MAX_INSTANCES = 400


class NucleusInferenceConfig(NucleusConfig):
    """Detection: whole images, padded, one at a time."""

    GPU_COUNT = 1
    IMAGES_PER_GPU = 1
    IMAGE_RESIZE_MODE = "pad64"
    RPN_NMS_THRESHOLD = 0.7


class NucleusDataset(Dataset):
    """Images of nuclei, one class."""

    def load_nucleus(self, dataset_dir: PathLike, subset: str) -> None:
        """Register the images of a subset.

        Args:
            dataset_dir: holds `stage1_train`, or one folder per subset.
            subset: `train` or `val`, which split `stage1_train` if there is one; otherwise the
                name of a folder in `dataset_dir`, such as `stage1_test`. If that folder has no
                `<id>/images`, the image files in it are taken; they have no masks.

        Raises:
            FileNotFoundError: there is no such folder, it holds no images, or the image of an
                `<id>` is missing.
            ValueError: two image files have the same name but for the ending.
        """
        self.add_class("nucleus", 1, "nucleus")
        folder = Path(dataset_dir) / subset
        stage1_train = Path(dataset_dir) / "stage1_train"
        split = subset in ("train", "val") and stage1_train.is_dir()
        if split:
            folder = stage1_train
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{dataset_dir} has no folder {subset!r}; it needs stage1_train, or train and val, "
                "each with <id>/images/<id>.png and <id>/masks/*.png."
            )
        images = kaggle_images(folder) or flat_images(folder)
        for image_id, path in images.items():
            if not split or (image_id in VAL_IMAGE_IDS) == (subset == "val"):
                self.add_image("nucleus", image_id=image_id, path=str(path))

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks `[H, W, N]` bool and class ids `[N]` int32, all 1, of an image.

        Raises:
            FileNotFoundError: the image has no masks.
        """
        path = Path(self.image_info[image_id]["path"])
        if path.parts[-3:-1] != (path.stem, "images"):
            raise FileNotFoundError(f"{path} has no masks; they belong in <id>/masks/*.png.")
        files = mask_files(path.parent.parent / "masks")
        if not files:
            raise FileNotFoundError(f"{path.parent.parent} has no masks/*.png: no ground truth.")
        height, width = mask_size(files[0])
        return read_masks(files, height, width), np.ones(len(files), np.int32)

    def image_reference(self, image_id: int) -> str:
        """The id of an image: Kaggle's id, or the name of its file."""
        info = self.image_info[image_id]
        if info["source"] == "nucleus":
            return info["id"]
        return super().image_reference(image_id)


def kaggle_images(folder: Path) -> dict[str, Path]:
    """The images `<id>/images/<id>.png` of a folder by id; empty if it has no `<id>/images`.

    Raises:
        FileNotFoundError: folders without their image, all named.
    """
    ids = sorted(entry.name for entry in folder.iterdir() if (entry / "images").is_dir())
    images = {image_id: folder / image_id / "images" / f"{image_id}.png" for image_id in ids}
    missing = [path for path in images.values() if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} has folders without their image <id>/images/<id>.png: {listed(missing)}."
        )
    return images


def flat_images(folder: Path) -> dict[str, Path]:
    """The image files that lie in a folder itself, by name without ending.

    Raises:
        FileNotFoundError: there are none; ValueError: two have one name.
    """
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in PICTURES or not path.is_file():
            continue
        if path.stem in images:
            raise ValueError(f"{images[path.stem]} and {path} have one name; rename one of them.")
        images[path.stem] = path
    if not images:
        raise FileNotFoundError(
            f"{folder} holds no images: neither <id>/images/<id>.png nor files that end in "
            f"{', '.join(PICTURES)}."
        )
    return images


def load_dataset(dataset_dir: PathLike, subset: str) -> NucleusDataset:
    """The prepared NucleusDataset of a subset."""
    dataset = NucleusDataset()
    dataset.load_nucleus(dataset_dir, subset)
    dataset.prepare()
    return dataset


def augmentation():
    """Up to two of: flips, quarter turns, brightness, blur. The last two leave masks unchanged."""
    from imgaug import augmenters as iaa

    return iaa.SomeOf(
        (0, 2),
        [
            iaa.Fliplr(0.5),
            iaa.Flipud(0.5),
            iaa.OneOf([iaa.Affine(rotate=angle) for angle in (90, 180, 270)]),
            iaa.Multiply((0.8, 1.5)),
            iaa.GaussianBlur(sigma=(0.0, 5.0)),
        ],
    )


def train(model: MaskRCNN, dataset_dir: PathLike, subset: str) -> None:
    """Train the heads until epoch 20, then all layers until epoch 40.

    A resumed run continues with the stage it was in.

    Args:
        model: MaskRCNN in training mode.
        dataset_dir, subset: as `NucleusDataset.load_nucleus` takes them.
    """
    dataset_train = load_dataset(dataset_dir, subset)
    dataset_val = load_dataset(dataset_dir, "val")
    done = getattr(model, "epoch", 0)
    if done >= STAGES[-1][1]:
        print(f"Nothing is left to train: {done} epochs are done, and training ends with 40.")
    for layers, epochs in STAGES:
        if epochs <= done:
            continue
        print(f"Train {layers}, until epoch {epochs}")
        model.train(
            dataset_train,
            dataset_val,
            learning_rate=model.config.LEARNING_RATE,
            epochs=epochs,
            layers=layers,
            augmentation=augmentation(),
        )


def evaluate(model: MaskRCNN, dataset_dir: PathLike, subset: str) -> dict:
    """Print COCO's figures of boxes and masks on a subset.

    Args:
        model: MaskRCNN in inference mode.
        dataset_dir, subset: as `NucleusDataset.load_nucleus` takes them.

    Returns:
        The figures, as `mrcnn.evaluation.evaluate` does.
    """
    from mrcnn import evaluation

    scores = evaluation.evaluate(model, load_dataset(dataset_dir, subset))
    for iou_type, figures in scores.items():
        print(iou_type, evaluation.summary(figures), sep="\n")
    return scores


def rle_encode(mask: np.ndarray) -> str:
    """A mask `[H, W]` as Kaggle's run lengths: `"start length start length ..."`.

    Pixels count from 1, column by column.
    """
    padded = np.concatenate([[False], np.asarray(mask, bool).flatten(order="F"), [False]])
    bounds = np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2)
    return " ".join(f"{start + 1} {end - start}" for start, end in bounds)


def rle_decode(rle: str, shape: Sequence[int]) -> np.ndarray:
    """The mask `[H, W]` bool that `rle_encode` wrote; `shape` is `(H, W)`.

    Raises:
        ValueError: a run goes beyond the image.
    """
    mask = np.zeros(shape[0] * shape[1], bool)
    for start, length in np.array(rle.split(), int).reshape(-1, 2):
        if start < 1 or length < 0 or start - 1 + length > mask.size:
            raise ValueError(
                f"the run {start} {length} leaves an image of {shape[0]}x{shape[1]} pixels."
            )
        mask[start - 1 : start - 1 + length] = True
    return mask.reshape(shape[:2], order="F")


def mask_to_rle(image_id: str, mask: np.ndarray, scores: np.ndarray) -> str:
    """Lines `image_id, run lengths` of a submission, one per object, highest score first.

    Kaggle allows no overlaps: a pixel belongs to the object with the highest score that covers it.
    An object without a pixel of its own gets no line.

    Args:
        image_id: Kaggle's.
        mask: `[H, W, N]` bool.
        scores: `[N]`.

    Returns:
        The lines as one string; `"image_id,"` if there is no object.
    """
    free = np.ones(mask.shape[:2], bool)
    lines = []
    for i in np.argsort(-np.asarray(scores), kind="stable"):
        visible = mask[..., i].astype(bool) & free
        free &= ~visible
        if visible.any():
            lines.append(f"{image_id}, {rle_encode(visible)}")
    return "\n".join(lines) or f"{image_id},"


def detect(model: MaskRCNN, dataset_dir: PathLike, subset: str) -> Path:
    """Write a Kaggle submission and one picture per image to a new folder in RESULTS_DIR.

    Args:
        model: MaskRCNN in inference mode.
        dataset_dir, subset: as `NucleusDataset.load_nucleus` takes them.

    Returns:
        The folder.
    """
    dataset = load_dataset(dataset_dir, subset)
    folder = Path(RESULTS_DIR) / f"submit_{datetime.datetime.now():%Y%m%dT%H%M%S}"
    folder.mkdir(parents=True)
    lines = ["ImageId,EncodedPixels"]
    for image_id in dataset.image_ids:
        image = dataset.load_image(image_id)
        result = model.detect([image])[0]
        name = dataset.image_info[image_id]["id"]
        lines.append(mask_to_rle(name, result["masks"], result["scores"]))
        draw(image, result, dataset.class_names, folder / f"{name}.png")
    write_text(folder / "submit.csv", "\n".join(lines) + "\n")
    print("Saved to", folder)
    return folder


def draw(image: np.ndarray, result: dict, class_names: Sequence[str], path: PathLike) -> None:
    """Save a picture of an image with the outlines of its detections, without boxes."""
    from matplotlib.figure import Figure

    from mrcnn import visualize

    figure = Figure(figsize=(8, 8), layout="tight")
    visualize.display_instances(
        image,
        result["rois"],
        result["masks"],
        result["class_ids"],
        class_names,
        result["scores"],
        ax=figure.subplots(),
        show_bbox=False,
        show_mask=False,
        title="Predictions",
    )
    with written_beside(path) as temporary:
        figure.savefig(temporary)


def load_weights(model: MaskRCNN, weights: PathLike) -> None:
    """Load what `--weights` names: `coco`, `imagenet`, `last` or the path of a file."""
    from mrcnn.weights import load_start_weights

    load_start_weights(model, weights, COCO_WEIGHTS_PATH)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Mask R-CNN for nuclei: train, measure, or write a submission."
    )
    parser.add_argument("command", choices=("train", "evaluate", "detect"))
    parser.add_argument("--dataset", required=True, metavar="DIR", help="folder of the data set")
    parser.add_argument(
        "--weights", required=True, help="a weights file, or 'imagenet', 'coco' or 'last'"
    )
    parser.add_argument(
        "--logs", default=DEFAULT_LOGS_DIR, metavar="DIR", help="folder of training runs"
    )
    parser.add_argument(
        "--subset", help="train, val, or a folder in DIR (default: train to train, else val)"
    )
    arguments = parser.parse_args(argv)
    if arguments.subset is None:
        arguments.subset = "train" if arguments.command == "train" else "val"
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command of the command line."""
    arguments = parse_arguments(argv)
    quiet.import_keras()
    from mrcnn.model import MaskRCNN

    if arguments.command == "train":
        model = MaskRCNN("training", NucleusConfig(), arguments.logs)
    else:
        model = MaskRCNN("inference", NucleusInferenceConfig(), arguments.logs)
    model.config.display()
    load_weights(model, arguments.weights)
    command = {"train": train, "evaluate": evaluate, "detect": detect}[arguments.command]
    command(model, arguments.dataset, arguments.subset)


if __name__ == "__main__":
    main()
