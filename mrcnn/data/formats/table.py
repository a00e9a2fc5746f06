"""A table of instances beside pictures and masks: a parquet file and PNGs.

    dataset = TableDataset()
    dataset.load_table("data/mask_labels.gzip", "data", classes=("spiral", "bar"))
    dataset.prepare()

The folder has one RGB picture per object, `pngs/{object_id}.png`, and one mask,
`masks/{object_id}_mask.png`, with one channel in which 0 is background and each other grey value is
an instance. The table has one row per instance, with the columns `object_id`, `labels` (1 to K),
`bbox_xmin`, `bbox_ymin`, `bbox_xmax`, `bbox_ymax`: the first and the last column and row of pixels
that the instance covers, the last included. The n-th row of an object belongs to its n-th grey
value, in ascending order. A row whose box is all NaN says that nothing is marked in that object; it
needs no mask file.

The table is a parquet file, whatever its name ends with.
"""

from __future__ import annotations

import functools
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mrcnn.data.dataset import Dataset
from mrcnn.data.formats.problems import Problems, quoted
from mrcnn.geometry.masks import extract_bboxes
from mrcnn.messages import listed
from mrcnn.types import PathLike

if TYPE_CHECKING:  # imported in the functions that use it: pandas is optional
    import pandas
    import PIL.Image

logger = logging.getLogger("mrcnn")

BOX_COLUMNS = ("bbox_xmin", "bbox_ymin", "bbox_xmax", "bbox_ymax")
_PARQUET = b"PAR1"
COLUMNS = ("object_id", "labels", *BOX_COLUMNS)
# A box may end at the last pixel or at the pixel after it; both agree with a mask.
TOLERANCE = 1.0
_ONE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


def image_path(image_dir: PathLike, object_id: str) -> str:
    """Path of an object's picture."""
    return os.path.join(image_dir, "pngs", f"{object_id}.png")


def mask_path(image_dir: PathLike, object_id: str) -> str:
    """Path of an object's mask."""
    return os.path.join(image_dir, "masks", f"{object_id}_mask.png")


class TableDataset(Dataset):
    """Images, classes and masks of tables, several of them if need be."""

    def load_table(
        self,
        table: PathLike,
        image_dir: PathLike,
        object_ids: Iterable | None = None,
        *,
        classes: Sequence[str],
        source: str = "table",
        skip_invalid: bool = False,
    ) -> None:
        """Add the classes and the images of a table; the masks are not read yet.

        Args:
            table: the parquet file; image_dir: the folder of `pngs` and `masks`.
            object_ids: the objects to take, in this order, for a split. None: all.
            classes: names of the labels 1 to K.
            source: name of the source, for `add_class` and `add_image`.
            skip_invalid: leave out objects with a row that cannot be used or without picture or
                mask, and log how many; otherwise they are an error.

        Raises:
            FileNotFoundError: the table, a picture or a mask is missing.
            ValueError: it is no such table, rows of it cannot be used, or it lacks an object of
                `object_ids`. Both messages name the file and the object.
            ImportError: pandas or pyarrow is not installed.
        """
        frame, unusable = _checked_table(table, len(classes), skip_invalid)
        rows = group_rows(frame)
        object_ids = list(rows) if object_ids is None else [_as_id(i) for i in object_ids]
        _check_object_ids(object_ids, [*rows, *unusable], table)
        object_ids = [object_id for object_id in object_ids if object_id in rows]
        object_ids = _with_files(object_ids, rows, image_dir, table, skip_invalid)
        if not object_ids:
            raise ValueError(f"{table} has no object that can be used.")
        for label, name in enumerate(classes, start=1):
            self.add_class(source, label, name)
        for object_id in object_ids:
            labels, boxes = rows[object_id]
            self.add_image(
                source,
                image_id=object_id,
                path=image_path(image_dir, object_id),
                mask_path=mask_path(image_dir, object_id),
                labels=labels,
                boxes=boxes,
                table=os.fspath(table),
            )

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks and classes of an image, in the order of the table's rows.

        Returns:
            masks `[H, W, N]` bool; class ids `[N]` int32.

        Raises:
            OSError: a picture or mask cannot be read; ValueError: the file is no mask, or disagrees
                with the table. Both messages name the file and the object.
        """
        info = self.image_info[image_id]
        if "labels" not in info:
            return super().load_mask(image_id)
        masks, problems = _read_masks(info)
        if problems:
            raise ValueError(" ".join(problems))
        class_ids = [self.map_source_class_id(f"{info['source']}.{i}") for i in info["labels"]]
        return masks, np.array(class_ids, np.int32)

    def check(self) -> None:
        """Read the masks of all objects and compare them with the table.

        Raises:
            ValueError: objects whose mask cannot be read or disagrees, one line per object.
        """
        problems = self.disagreements()
        if problems:
            raise ValueError(
                f"{len(problems)} disagreements between table and masks:\n" + "\n".join(problems)
            )

    def disagreements(self) -> list[str]:
        """The problems that `check` finds: one sentence per object, with file and object."""
        problems: list[str] = []
        for info in self.image_info:
            if "labels" in info:
                try:
                    problems += _read_masks(info)[1]
                except OSError as error:
                    problems.append(str(error))
        return problems


# ---- The table -----------------------------------------------------------------------------------


def is_table(path: PathLike) -> bool:
    """Whether this is a parquet file with the columns of such a table; its name does not count."""
    try:
        with open(path, "rb") as file:
            if file.read(4) != _PARQUET:
                return False
        import pyarrow.parquet

        return set(COLUMNS) <= set(pyarrow.parquet.read_schema(path).names)
    except (ImportError, OSError, ValueError):
        return False


def numbered_classes(path: PathLike) -> list[str]:
    """Names for the labels of a table that names no classes: "1", "2", ..."""
    labels = _as_numbers(_read_parquet(path))["labels"]
    most = labels.max() if len(labels) else 0
    return [str(label) for label in range(1, 1 + int(most if most == most else 0))] or ["1"]


def read_table(path: PathLike, num_labels: int, skip_invalid: bool = False) -> pandas.DataFrame:
    """The rows of a table, checked; the masks are not read.

    Args:
        num_labels: K, the highest label.
        skip_invalid: leave out objects with a row that cannot be used, and log how many rows.

    Returns:
        The columns `COLUMNS` in the file's order: object_id str, labels int (0 where nothing is
        marked), boxes float.

    Raises:
        FileNotFoundError: there is no such file; ValueError: rows that cannot be used.
    """
    return _checked_table(path, num_labels, skip_invalid)[0]


def _checked_table(
    path: PathLike, num_labels: int, skip_invalid: bool
) -> tuple[pandas.DataFrame, set[str]]:
    """The rows of `read_table`, and the objects that were left out."""
    frame = _read_parquet(path)
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; it has {listed(frame.columns)}, and "
            f"must have {', '.join(COLUMNS)}."
        )
    if len(frame) == 0:
        raise ValueError(f"{path} has no rows; each object needs at least one.")
    frame = frame.reset_index(drop=True)
    rows = _as_numbers(frame)
    problems = Problems(path, skip_invalid)
    bad = _bad_rows(frame, rows, num_labels)
    for row in sorted(bad):
        problems.add(f"row {row}{_of_object(rows, row)}", bad[row])
    problems.settle()
    # The n-th row belongs to the n-th grey value, so a bad row excludes its whole object.
    unusable = {rows["object_id"][row] for row in bad}
    rows = rows[~rows["object_id"].isin(unusable)].reset_index(drop=True)
    marked = ~rows["bbox_xmin"].isna()
    rows["labels"] = rows["labels"].where(marked, 0).astype(np.int64)
    return rows, unusable - {""}


def _as_numbers(frame: pandas.DataFrame) -> pandas.DataFrame:
    """`COLUMNS` as text ("" without object_id) and floats (NaN for values that are no numbers)."""
    import pandas

    ids = frame["object_id"]
    is_missing = ids.isna()
    rows = pandas.DataFrame(
        {"object_id": [_as_id(i) if not no else "" for i, no in zip(ids, is_missing, strict=True)]}
    )
    for column in ("labels", *BOX_COLUMNS):
        rows[column] = pandas.to_numeric(frame[column], errors="coerce").to_numpy(float)
    return rows


def _of_object(rows: pandas.DataFrame, row: int) -> str:
    object_id = rows["object_id"][row]
    return f", object {object_id}," if object_id else ""


def group_rows(frame: pandas.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rows of `read_table` by object, both in the file's order.

    Returns:
        object id to labels `[N]` int and boxes `[N, (xmin, ymin, xmax, ymax)]` float; N is 0 where
        nothing is marked.
    """
    labels, boxes = frame["labels"].to_numpy(), frame[list(BOX_COLUMNS)].to_numpy()
    groups = frame.groupby("object_id", sort=False).indices
    order = dict.fromkeys(frame["object_id"])
    chosen = {object_id: groups[object_id][labels[groups[object_id]] > 0] for object_id in order}
    return {object_id: (labels[rows], boxes[rows]) for object_id, rows in chosen.items()}


def _read_parquet(path: PathLike) -> pandas.DataFrame:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"the table {path} does not exist.")
    try:
        import pandas
        import pyarrow
    except ImportError as error:
        raise ImportError(
            f"{path} is a parquet file, which pandas and pyarrow read: "
            'pip install "mask-rcnn-keras3[galaxy]"'
        ) from error
    try:
        return pandas.read_parquet(path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as a parquet file, whatever its name ends with: {error}"
        ) from error


def _as_id(value: Any) -> str:
    """Ids may be text or numbers; 7.0 is 7, because pandas may turn integers into floats."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _bad_rows(frame: pandas.DataFrame, rows: pandas.DataFrame, num_labels: int) -> dict[int, str]:
    """What is wrong with rows, by row: the first problem of each."""
    bad: dict[int, str] = {}
    for is_bad, problem in [
        *_checks_of_text(frame, rows),
        *_checks_of_values(rows, num_labels),
    ]:
        for row in np.flatnonzero(is_bad).tolist():
            bad.setdefault(row, problem(row))
    return bad


Checks = list[tuple[np.ndarray, Callable[[int], str]]]


def _checks_of_text(frame: pandas.DataFrame, rows: pandas.DataFrame) -> Checks:
    """Rows with an object_id that cannot be a file's name, or with text in place of a number.

    Text must not become NaN, which means that nothing is marked.
    """
    ids = rows["object_id"]
    checks: Checks = [
        ((ids == "").to_numpy(), lambda row: "has no object_id."),
        (
            ids.str.contains("[/\0]").to_numpy(bool),
            lambda row: "has a slash in its object_id, which is part of a file's name.",
        ),
    ]
    for column in ("labels", *BOX_COLUMNS):
        is_text = rows[column].isna().to_numpy() & ~frame[column].isna().to_numpy()
        checks.append((is_text, functools.partial(_no_number, frame[column])))
    return checks


def _no_number(values: pandas.Series, row: int) -> str:
    return f"has {values.name} {quoted(values[row])}; it must be a number."


def _checks_of_values(rows: pandas.DataFrame, num_labels: int) -> Checks:
    labels, boxes = rows["labels"].to_numpy(), rows[list(BOX_COLUMNS)].to_numpy()
    empty = np.isnan(boxes).all(axis=1)
    sizes = rows.groupby("object_id")["labels"].transform("size").to_numpy()
    known = np.isin(labels, np.arange(1, num_labels + 1))
    return [
        (
            ~empty & ~np.isfinite(boxes).all(axis=1),
            lambda row: (
                f"has the box {boxes[row].tolist()}; it must be four finite numbers, or four NaN "
                "where nothing is marked."
            ),
        ),
        (
            empty & (sizes > 1),
            lambda row: (
                "has no box, which says that nothing is marked, and the object has other rows; "
                "drop either."
            ),
        ),
        (
            ~empty & ~known,
            lambda row: (
                f"has the label {labels[row]:g}; labels are whole numbers from 1 to {num_labels}."
            ),
        ),
        (
            ~empty & ((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])),
            lambda row: (
                f"has the box {boxes[row].tolist()}, which ends before it begins; the order is "
                f"{', '.join(BOX_COLUMNS)}."
            ),
        ),
        (
            rows.duplicated().to_numpy(),
            lambda row: "is there twice; an instance has one row.",
        ),
    ]


def _check_object_ids(object_ids: list[str], known: list[str], table: PathLike) -> None:
    if not object_ids:
        raise ValueError(f"object_ids is empty; {table} has {len(known)} objects to choose from.")
    known_ids = set(known)
    unknown = [object_id for object_id in object_ids if object_id not in known_ids]
    if unknown:
        raise ValueError(
            f"{table} has no object {listed(unknown)}; its {len(known)} objects begin with "
            f"{known[0]}."
        )
    twice = [object_id for object_id, times in Counter(object_ids).items() if times > 1]
    if twice:
        raise ValueError(f"object_ids has {listed(twice)} twice; name an object once.")


def _with_files(
    object_ids: list[str],
    rows: dict[str, tuple[np.ndarray, np.ndarray]],
    image_dir: PathLike,
    table: PathLike,
    skip_invalid: bool,
) -> list[str]:
    """The objects that have their picture, and their mask if anything is marked."""
    marked = [object_id for object_id in object_ids if len(rows[object_id][0])]
    left_out: set[str] = set()
    for wanted, path_of, what in (
        (object_ids, image_path, "picture"),
        (marked, mask_path, "mask"),
    ):
        folder = os.path.dirname(path_of(image_dir, ""))
        names = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        missing = [i for i in wanted if os.path.basename(path_of(image_dir, i)) not in names]
        if missing:
            message = (
                f"{table}: the {what} of object {missing[0]} is not there: "
                f"{path_of(image_dir, missing[0])} does not exist; {len(missing)} of "
                f"{len(wanted)} {what}s are missing."
            )
            if not skip_invalid or len(missing) == len(object_ids):
                raise FileNotFoundError(message)
            logger.warning("%s Their objects are left out.", message)
            left_out.update(missing)
    return [object_id for object_id in object_ids if object_id not in left_out]


# ---- The masks -----------------------------------------------------------------------------------


def _read_masks(info: dict[str, Any]) -> tuple[np.ndarray, list[str]]:
    """An object's masks `[H, W, N]` bool, and what is wrong with them."""
    path, boxes = info["mask_path"], info["boxes"]
    who = f"{path}: object {info['id']}"
    if not len(boxes) and not os.path.exists(path):
        return np.zeros((0, 0, 0), bool), []
    pixels = _read_mask_file(path, info)
    if isinstance(pixels, str):
        return np.zeros((0, 0, 0), bool), [f"{who} {pixels}"]
    values = np.unique(pixels)
    values = values[values != 0]
    if len(values) != len(boxes):
        return np.zeros((0, 0, 0), bool), [
            f"{who} has {len(values)} grey values other than 0 ({listed(values)}), "
            f"and {len(boxes)} rows with a box in {info['table']}; each instance needs one of both."
        ]
    masks = pixels[:, :, None] == values
    return masks, [
        f"{who}: grey value {value} covers {_as_xy(found)} (x, y, x, y; the last pixel included), "
        f"and row {i + 1} of {len(boxes)} in {info['table']} has {_as_xy(box)}; the n-th row of an "
        "object belongs to its n-th grey value, ascending."
        for i, (value, found, box) in enumerate(
            zip(values, _inclusive_boxes(masks), boxes, strict=True)
        )
        if np.abs(found - box).max() > TOLERANCE
    ]


def _read_mask_file(path: str, info: dict[str, Any]) -> np.ndarray | str:
    """Grey values `[H, W]`, or a sentence that says what is wrong with the file."""
    with _open_picture(path, info) as picture:
        if picture.mode not in _ONE_CHANNEL:
            return (
                f"has a mask of the mode {picture.mode}; a mask has one channel (mode L) in which "
                "each grey value is an instance."
            )
        with _open_picture(info["path"], info) as image:
            if image.size != picture.size:
                return (
                    f"has a mask of {picture.size[0]}x{picture.size[1]} pixels, and {info['path']} "
                    f"has {image.size[0]}x{image.size[1]}; both must be of one size."
                )
        try:
            return np.asarray(picture)
        except Exception as error:  # decoders raise any error: SyntaxError, struct.error, ...
            raise OSError(f"{path}: the mask of object {info['id']} is damaged: {error}") from error


def _open_picture(path: str, info: dict[str, Any]) -> PIL.Image.Image:
    import PIL.Image

    try:
        return PIL.Image.open(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"object {info['id']}: {path} does not exist.") from error
    except Exception as error:  # decoders raise any error; Pillow refuses very large images
        raise OSError(f"object {info['id']}: {path} cannot be read as an image: {error}") from error


def _inclusive_boxes(masks: np.ndarray) -> np.ndarray:
    """`[N, (xmin, ymin, xmax, ymax)]` int, the last pixel included."""
    y1, x1, y2, x2 = extract_bboxes(masks).T
    return np.stack([x1, y1, x2 - 1, y2 - 1], axis=1)


def _as_xy(box: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"
