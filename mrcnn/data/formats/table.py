"""A table of instances beside pictures and masks: a parquet file and PNGs.

    dataset = TableDataset()
    dataset.load_table("data/mask_labels.gzip", "data", classes=("spiral", "bar"))
    dataset.prepare()

The folder has `pngs/{object_id}.png`, an RGB picture each, and `masks/{object_id}_mask.png`, one
channel in which 0 is background and each other grey value an instance. The table has one row an
instance, with the columns `object_id`, `labels` (1 to K), `bbox_xmin`, `bbox_ymin`, `bbox_xmax`,
`bbox_ymax`: the first and the last column and row of pixels that the instance covers, the last
included. The n-th row of an object belongs to its n-th grey value, ascending. A row whose box is
all NaN says that nothing is marked in that object; it needs no mask file.

The table is a parquet file whatever its name ends with.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mrcnn.data.dataset import Dataset
from mrcnn.geometry.masks import extract_bboxes

if TYPE_CHECKING:  # imported where it is used: not everybody has it
    import pandas

BOX_COLUMNS = ("bbox_xmin", "bbox_ymin", "bbox_xmax", "bbox_ymax")
COLUMNS = ("object_id", "labels", *BOX_COLUMNS)
# Boxes that name the last pixel and boxes that name the one behind it both agree with a mask.
TOLERANCE = 1.0
_ONE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
_LISTED = 10


def image_path(image_dir: str | os.PathLike, object_id: str) -> str:
    """Where an object's picture is."""
    return os.path.join(image_dir, "pngs", f"{object_id}.png")


def mask_path(image_dir: str | os.PathLike, object_id: str) -> str:
    """Where an object's mask is."""
    return os.path.join(image_dir, "masks", f"{object_id}_mask.png")


class TableDataset(Dataset):
    """Images, classes and masks of tables, several of them if need be."""

    def load_table(
        self,
        table: str | os.PathLike,
        image_dir: str | os.PathLike,
        object_ids: Iterable | None = None,
        *,
        classes: Sequence[str],
        source: str = "table",
    ) -> None:
        """Add the classes and the images of a table; what the masks hold is not looked at yet.

        Args:
            table: the parquet file; image_dir: the folder of `pngs` and `masks`.
            object_ids: the objects to take, in this order, for a split. None: all.
            classes: names of the labels 1 to K.
            source: name of the source, for `add_class` and `add_image`.

        Raises:
            FileNotFoundError: the table, a picture or a mask.
            ValueError: no such table, or a row of it that cannot be used, or an object that it
                does not have. Both name the file and the object.
            ImportError: pandas or pyarrow is not installed.
        """
        rows = group_rows(read_table(table, len(classes)))
        object_ids = list(rows) if object_ids is None else [_as_id(i) for i in object_ids]
        _check_object_ids(object_ids, rows, table)
        _check_files_exist(object_ids, rows, image_dir, table)
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
            OSError: a picture or mask that cannot be read; ValueError: a mask that is no mask or
                disagrees with the table. Both name the file and the object.
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
            ValueError: every object whose mask cannot be read or disagrees, a line each.
        """
        problems = self.disagreements()
        if problems:
            raise ValueError(
                f"{len(problems)} disagreements between table and masks:\n" + "\n".join(problems)
            )

    def disagreements(self) -> list[str]:
        """What `check` finds: a sentence each, naming file and object."""
        problems = []
        for info in self.image_info:
            if "labels" in info:
                try:
                    problems += _read_masks(info)[1]
                except OSError as error:
                    problems.append(str(error))
        return problems


# ---- The table -----------------------------------------------------------------------------------


def read_table(path: str | os.PathLike, num_labels: int) -> pandas.DataFrame:
    """The rows of a table, checked; the masks are not looked at.

    Args:
        num_labels: K, the highest label.

    Returns:
        The columns `COLUMNS` in the file's order: object_id str, labels int (0 where nothing is
        marked), boxes float.

    Raises:
        FileNotFoundError: there is no such file; ValueError: the first row that cannot be used.
    """
    frame = _read_parquet(path)
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; it has {_shortened(frame.columns)}, and "
            f"must have {', '.join(COLUMNS)}."
        )
    if len(frame) == 0:
        raise ValueError(f"{path} has no rows; each object needs at least one.")
    import pandas

    numbers = frame[list(BOX_COLUMNS)].apply(pandas.to_numeric, errors="coerce")
    rows = pandas.DataFrame(
        {
            "object_id": _object_ids(frame["object_id"], path),
            "labels": pandas.to_numeric(frame["labels"], errors="coerce").to_numpy(float),
        }
    )
    rows[list(BOX_COLUMNS)] = numbers.to_numpy(float)
    _check_text(frame, rows, path)
    _check_rows(rows, num_labels, path)
    marked = ~rows["bbox_xmin"].isna()
    rows["labels"] = rows["labels"].where(marked, 0).astype(np.int64)
    return rows


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


def _read_parquet(path) -> pandas.DataFrame:
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


def _object_ids(column: pandas.Series, path) -> list[str]:
    bad = column.isna().to_numpy()
    if bad.any():
        raise ValueError(f"{path}: row {bad.argmax()} has no object_id.")
    return [_as_id(value) for value in column]


def _as_id(value) -> str:
    """Ids may be text or numbers; 7.0 is 7, as pandas makes floats of integers."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _check_text(frame, rows, path) -> None:
    """What is no number must not pass as NaN, which says that nothing is marked."""
    for column in ("labels", *BOX_COLUMNS):
        bad = rows[column].isna().to_numpy() & ~frame[column].isna().to_numpy()
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"{path}: row {row}, object {rows['object_id'][row]}, has {column} "
                f"{frame[column].iloc[row]!r}; it must be a number."
            )


def _check_rows(rows, num_labels: int, path) -> None:
    labels, boxes = rows["labels"].to_numpy(), rows[list(BOX_COLUMNS)].to_numpy()
    empty = np.isnan(boxes).all(axis=1)
    sizes = rows.groupby("object_id")["labels"].transform("size").to_numpy()
    known = np.isin(labels, np.arange(1, num_labels + 1))
    checks = (
        (
            ~empty & ~np.isfinite(boxes).all(axis=1),
            lambda i: (
                f"has the box {boxes[i].tolist()}; it must be four finite numbers, or four "
                "NaN where nothing is marked."
            ),
        ),
        (
            empty & (sizes > 1),
            lambda i: (
                "has no box, which says that nothing is marked, and the object has other "
                "rows; drop either."
            ),
        ),
        (
            ~empty & ~known,
            lambda i: (
                f"has the label {labels[i]:g}; labels are whole numbers from 1 to {num_labels}."
            ),
        ),
        (
            ~empty & ((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])),
            lambda i: (
                f"has the box {boxes[i].tolist()}, which ends before it begins; the order is "
                f"{', '.join(BOX_COLUMNS)}."
            ),
        ),
        (
            rows.duplicated().to_numpy(),
            lambda i: "is there twice; an instance has one row.",
        ),
    )
    for bad, problem in checks:
        if bad.any():
            row = int(bad.argmax())
            object_id = rows["object_id"][row]
            raise ValueError(f"{path}: row {row}, object {object_id}, {problem(row)}")


def _check_object_ids(object_ids: list[str], rows: dict, table) -> None:
    if not object_ids:
        raise ValueError(f"object_ids is empty; {table} has {len(rows)} objects to choose from.")
    unknown = [object_id for object_id in object_ids if object_id not in rows]
    if unknown:
        raise ValueError(
            f"{table} has no object {_shortened(unknown)}; its {len(rows)} objects begin with "
            f"{next(iter(rows))}."
        )
    twice = [object_id for object_id, times in Counter(object_ids).items() if times > 1]
    if twice:
        raise ValueError(f"object_ids has {_shortened(twice)} twice; name an object once.")


def _check_files_exist(object_ids: list[str], rows: dict, image_dir, table) -> None:
    """Every object has its picture, and its mask if anything is marked."""
    marked = [object_id for object_id in object_ids if len(rows[object_id][0])]
    for wanted, path_of, what in (
        (object_ids, image_path, "picture"),
        (marked, mask_path, "mask"),
    ):
        folder = os.path.dirname(path_of(image_dir, ""))
        names = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        missing = [i for i in wanted if os.path.basename(path_of(image_dir, i)) not in names]
        if missing:
            raise FileNotFoundError(
                f"{table}: the {what} of object {missing[0]} is not there: "
                f"{path_of(image_dir, missing[0])} does not exist; {len(missing)} of "
                f"{len(wanted)} {what}s are missing."
            )


def _shortened(values: Iterable) -> str:
    values = list(values)
    text = ", ".join(map(str, values[:_LISTED]))
    return f"{text} and {len(values) - _LISTED} more" if len(values) > _LISTED else text


# ---- The masks -----------------------------------------------------------------------------------


def _read_masks(info: dict) -> tuple[np.ndarray, list[str]]:
    """An object's masks `[H, W, N]` bool, and what is wrong with them."""
    path, boxes = info["mask_path"], info["boxes"]
    who = f"{path}: object {info['id']}"
    if not len(boxes) and not os.path.exists(path):
        return np.zeros((0, 0, 0), bool), []
    pixels, problem = _read_mask_file(path, info)
    if problem:
        return np.zeros((0, 0, 0), bool), [f"{who} {problem}"]
    values = np.unique(pixels)
    values = values[values != 0]
    if len(values) != len(boxes):
        return np.zeros((0, 0, 0), bool), [
            f"{who} has {len(values)} grey values other than 0 ({_shortened(values) or 'none'}), "
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


def _read_mask_file(path: str, info: dict) -> tuple[np.ndarray | None, str | None]:
    """Grey values `[H, W]`, or what is wrong with the file."""
    with _open_picture(path, info) as picture:
        if picture.mode not in _ONE_CHANNEL:
            return None, (
                f"has a mask of the mode {picture.mode}; a mask has one channel (mode L) in which "
                "each grey value is an instance."
            )
        with _open_picture(info["path"], info) as image:
            if image.size != picture.size:
                return None, (
                    f"has a mask of {picture.size[0]}x{picture.size[1]} pixels, and {info['path']} "
                    f"has {image.size[0]}x{image.size[1]}; both must be of one size."
                )
        try:
            return np.asarray(picture), None
        except Exception as error:  # decoders raise anything: SyntaxError, struct.error, ...
            raise OSError(f"{path}: the mask of object {info['id']} is damaged: {error}") from error


def _open_picture(path: str, info: dict):
    import PIL.Image

    try:
        return PIL.Image.open(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"object {info['id']}: {path} does not exist.") from error
    except OSError as error:
        raise OSError(f"object {info['id']}: {path} cannot be read as an image.") from error


def _inclusive_boxes(masks: np.ndarray) -> np.ndarray:
    """`[N, (xmin, ymin, xmax, ymax)]` int, the last pixel included."""
    y1, x1, y2, x2 = extract_bboxes(masks).T
    return np.stack([x1, y1, x2 - 1, y2 - 1], axis=1)


def _as_xy(box: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"
