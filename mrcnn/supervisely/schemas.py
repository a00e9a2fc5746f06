"""Supervisely's configurations, checked strictly: an unknown key is an error.

    settings = read_train_config("train.json")
    settings = read_inference_config("inference.json")

The schemas are JSON Schema, checked by the library jsonschema; missing keys get their defaults. An
inference configuration has one schema per mode, so a message speaks of the mode that was chosen.
https://docs.supervisely.com/legacy/all-images/neural-networks/configs
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from typing import Any

from mrcnn.extras import import_extra
from mrcnn.files import read_json
from mrcnn.messages import did_you_mean, listed, shortened
from mrcnn.types import PathLike

ALL = "__all__"
TRANSFER, CONTINUE = "transfer_learning", "continue_training"
Schema = dict[str, Any]
Settings = dict[str, Any]


def _object(required: Iterable[str] = (), **properties: Schema) -> Schema:
    """An object with these keys and no others; those that are not required have defaults."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
        "default": {},
    }


def _whole(default: int, minimum: int) -> Schema:
    return {"type": "integer", "minimum": minimum, "default": default}


def _text(default: str) -> Schema:
    return {"type": "string", "default": default}


_NAME = {"type": "string", "minLength": 1}
_SIDE = {"type": "integer", "minimum": 1}
_SWITCH = {"type": "boolean", "default": False}

TRAIN: Schema = _object(
    dataset_tags=_object(train=_text("train"), val=_text("val")),
    batch_size=_object(train=_whole(1, 1), val=_whole(1, 1)),
    input_size=_object(min_dim=_whole(256, 1), max_dim=_whole(256, 1)),
    special_classes=_object(background={**_NAME, "default": "bg"}, neutral=_NAME),
    epochs=_whole(2, 1),
    lr={"type": "number", "exclusiveMinimum": 0, "default": 0.001},
    weights_init_type={"enum": [TRANSFER, CONTINUE], "default": TRANSFER},
    gpu_devices={
        "type": "array",
        "items": {"type": "integer", "minimum": 0},
        "minItems": 1,
        "uniqueItems": True,
        "default": [0],
    },
    train_layers={"enum": ["all", "3+", "4+", "5+", "heads"], "default": "all"},
)

_CLASSES = {
    "anyOf": [{"const": ALL}, {"type": "array", "items": _NAME, "uniqueItems": True}],
    "default": ALL,
}
_MODEL_CLASSES = _object(save_classes=_CLASSES, add_suffix=_text("_maskrcnn"))
# Only other networks give tags; the platform writes this key all the same.
_MODEL_TAGS = _object(save_names=_CLASSES, add_suffix=_text(""))
# Pixels, or percent of the side.
_DISTANCE = {
    "type": "string",
    "pattern": r"^([0-9]{1,9}px|[0-9]{1,3}(\.[0-9]{1,9})?%)$",
    "default": "0px",
}
_DISTANCES = _object(left=_DISTANCE, top=_DISTANCE, right=_DISTANCE, bottom=_DISTANCE)
_WINDOW = {**_object(("width", "height"), width=_SIDE, height=_SIDE)}
_OVERLAP = _object(x=_whole(0, 0), y=_whole(0, 0))
_SLIDING = {
    "window": _WINDOW,
    "min_overlap": _OVERLAP,
    "save": _SWITCH,
    "class_name": {**_NAME, "default": "sliding_window_bbox"},
}


def _mode(required: Iterable[str] = (), **properties: Schema) -> Schema:
    return _object(
        ("name", *required),
        name=_NAME,
        model_classes=_MODEL_CLASSES,
        model_tags=_MODEL_TAGS,
        **properties,
    )


MODES: dict[str, Schema] = {
    "full_image": _mode(),
    "roi": _mode(
        ("bounds",),
        bounds=_DISTANCES,
        save=_SWITCH,
        class_name={**_NAME, "default": "inference_roi"},
    ),
    "bboxes": _mode(
        from_classes=_CLASSES, padding=_DISTANCES, save=_SWITCH, add_suffix=_text("_input_bbox")
    ),
    "sliding_window": _mode(("window",), **_SLIDING),
    "sliding_window_det": _mode(
        ("window",),
        **_SLIDING,
        nms_after=_object(
            enable={"type": "boolean", "default": True},
            iou_threshold={"type": "number", "minimum": 0, "maximum": 1, "default": 0.2},
            confidence_tag_name={**_NAME, "default": "confidence"},
        ),
    ),
}

INFERENCE: Schema = _object(
    model=_object(
        gpu_device=_whole(0, 0),
        min_confidence_threshold={"type": "number", "minimum": 0, "maximum": 1, "default": 0},
        confidence_tag_name={**_NAME, "default": "confidence"},
    ),
    mode={"type": "object", "default": {"name": "full_image"}},
    # The same as in the mode.
    model_classes=_MODEL_CLASSES,
)


def read_train_config(path: PathLike) -> Settings:
    """The settings of a training configuration, with its defaults.

    Raises:
        FileNotFoundError: there is no such file; ValueError: it is none, in one sentence that names
            file, key, value, and what would do. ImportError: jsonschema is not installed.
    """
    return checked(read_json(path, comments=True), TRAIN, path)


def read_inference_config(path: PathLike) -> Settings:
    """The settings of an inference configuration, with its defaults; errors as in training."""
    return checked_inference(read_json(path, comments=True), path)


def checked_inference(content: Any, where: PathLike) -> Settings:
    """The settings that a value holds, such as that of a request; errors begin with `where`."""
    settings = checked(content, INFERENCE, where)
    mode = checked_mode(settings["mode"], where)
    if "model_classes" in content:
        if "model_classes" in content.get("mode", {}):
            raise ValueError(f"{where}: model_classes is there twice; write it in mode only.")
        mode["model_classes"] = settings["model_classes"]
    return {"model": settings["model"], "mode": mode}


def checked_mode(content: Any, where: PathLike) -> Settings:
    """A mode with its defaults; errors begin with `where`."""
    name = content.get("name") if isinstance(content, dict) else None
    if name not in MODES:
        raise ValueError(
            f"{where}: mode.name is {shortened(json.dumps(name))}; it must be one of "
            f"{', '.join(MODES)}.{did_you_mean(str(name), MODES)}"
        )
    mode = checked(content, MODES[name], where, "mode")
    for group in ("bounds", "padding"):
        for side, distance in mode.get(group, {}).items():
            if distance.endswith("%") and float(distance[:-1]) > 100:
                raise ValueError(
                    f"{where}: mode.{group}.{side} is {distance}; percent go from 0% to 100%."
                )
    if "window" in mode:
        for axis, side in (("x", "width"), ("y", "height")):
            overlap, size = mode["min_overlap"][axis], mode["window"][side]
            if overlap >= size:
                raise ValueError(
                    f"{where}: mode.min_overlap.{axis} is {overlap}; it must be smaller than the "
                    f"window's {side}, {size}."
                )
    return mode


# ---- Checking ------------------------------------------------------------------------------------


def checked(content: Any, schema: Schema, where: PathLike, prefix: str = "") -> Settings:
    """A value that fits a schema, with the schema's defaults.

    Raises:
        ValueError: it does not fit; ImportError: jsonschema is not installed.
    """
    jsonschema = import_extra(
        "jsonschema", "Supervisely's configurations are checked by jsonschema", "supervisely"
    )
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(content))
    if errors:
        # The error that is least deep: others may follow from it.
        error = min(errors, key=lambda one: (len(one.absolute_path), list(map(str, one.path))))
        raise ValueError(f"{where}: {_sentence(error, prefix)}")
    return _with_defaults(copy.deepcopy(content), schema)


def _sentence(error: Any, prefix: str) -> str:
    path = ".".join([*([prefix] if prefix else []), *map(str, error.absolute_path)])
    value, kind, rule = error.instance, error.validator, error.validator_value
    shown = shortened(json.dumps(value, ensure_ascii=False))
    if kind == "additionalProperties":
        known = error.schema["properties"]
        unknown = next(key for key in value if key not in known)
        return (
            f"unknown key {json.dumps(unknown)} in {path or 'the configuration'}; known are "
            f"{listed(known, 20)}.{did_you_mean(unknown, known)}"
        )
    if kind == "required":
        missing = next(key for key in rule if key not in value)
        return f"{path or 'the configuration'} has no {json.dumps(missing)}, which it needs."
    wanted = {
        "enum": lambda: "one of " + ", ".join(map(json.dumps, rule)),
        "type": lambda: {"object": "an object", "array": "a list", "integer": "a whole number"}.get(
            rule, {"boolean": "true or false", "string": "a text"}.get(rule, f"a {rule}")
        ),
        "minimum": lambda: f"at least {rule}",
        "maximum": lambda: f"at most {rule}",
        "exclusiveMinimum": lambda: f"above {rule}",
        "anyOf": lambda: f'"{ALL}" or a list of different class names',
        "pattern": lambda: 'pixels such as "12px", or percent such as "10%"',
        "minLength": lambda: "a text that is not empty",
        "minItems": lambda: "a list that is not empty",
        "uniqueItems": lambda: "a list of different values",
    }.get(kind, lambda: error.message)()
    return f"{path or 'the configuration'} is {shown}; it must be {wanted}."


def _with_defaults(value: Any, schema: Schema) -> Any:
    if not isinstance(value, dict):
        return value
    for key, inner in schema.get("properties", {}).items():
        if key not in value and "default" in inner:
            value[key] = copy.deepcopy(inner["default"])
        if key in value:
            value[key] = _with_defaults(value[key], inner)
    return value
