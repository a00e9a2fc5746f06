"""An HDF5 file as a tree of groups and arrays, checked before any number is read.

An HDF5 file can refer to other files (external links, datasets with external storage, virtual
datasets), and HDF5 reads their bytes as if they were part of the file. It can also link to itself,
and state any size. `read_tree` checks every object once and refuses such files; the readers of
weights use only its result. Keras' writers use none of these features.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import h5py
import numpy as np

from mrcnn.messages import shortened

# A ResNet101 network has 1,500 groups and arrays, and its checkpoint 2,000; they lie 5 deep.
MAX_OBJECTS = 50_000
MAX_DEPTH = 50
# HDF5 decompresses a whole chunk at once; h5py's own chunks have at most 1 MB.
MAX_CHUNK_BYTES = 64 * 2**20
# If numbers cannot be compressed, HDF5 stores a little more than the numbers themselves.
MAX_STORED_RATIO, STORED_MARGIN = 1.1, 2**16


@dataclass(eq=False)
class StoredArray:
    """An array in a file. Only `read` reads its numbers, after the caller compared its shape.

    Attributes:
        filename: the file's path. name: the array's path inside it.
    """

    filename: str
    name: str
    _dataset: h5py.Dataset

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes, as the file states them."""
        with damage_named(self.filename, self.name):
            shape = self._dataset.shape
        if shape is None:
            raise ValueError(f"{self.filename} is damaged: {self.name} holds no array")
        return shape

    @functools.cached_property
    def dtype(self) -> np.dtype:
        """Type of the numbers that `read` returns; bfloat16 becomes float32."""
        return np.dtype(np.float32) if self._is_bfloat16 else self._stored_dtype

    def read(self) -> np.ndarray:
        """Read the numbers. The caller has compared the shape with that of a variable.

        Raises:
            ValueError: these are not numbers, or they cannot be read.
        """
        if self._stored_dtype.kind not in "biuf" and not self._is_bfloat16:
            raise ValueError(f"{self.filename}: {self.name} holds {self._stored_dtype}, no numbers")
        with damage_named(self.filename, self.name):
            stored_bytes = self._dataset.id.get_storage_size()
            chunk_size = math.prod(self._dataset.chunks or (0,))
        array_bytes = math.prod(self.shape) * self._stored_dtype.itemsize
        chunk_bytes = chunk_size * self._stored_dtype.itemsize
        if stored_bytes > MAX_STORED_RATIO * array_bytes + STORED_MARGIN or chunk_bytes > max(
            array_bytes, MAX_CHUNK_BYTES
        ):
            raise ValueError(
                f"{self.filename} is damaged: {self.name} states {stored_bytes} stored bytes in "
                f"chunks of {chunk_bytes} for an array of {array_bytes}"
            )
        with damage_named(self.filename, self.name):
            array = np.asarray(self._dataset[()])
        if self._is_bfloat16:  # the upper half of a float32
            array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return array.reshape(self.shape)

    @functools.cached_property
    def _stored_dtype(self) -> np.dtype:
        with damage_named(self.filename, self.name):
            return self._dataset.dtype

    @functools.cached_property
    def _is_bfloat16(self) -> bool:
        """Keras 3 stores each bfloat16 as two bytes, and an attribute states the type."""
        if self._stored_dtype != np.dtype("V2"):
            return False
        return _texts(self.filename, self.name, self._dataset, "dtype") == ["bfloat16"]


@dataclass(eq=False)
class StoredGroup:
    """A group in a file.

    Attributes:
        filename: the file's path. name: the group's path inside it.
        children: the groups and arrays inside, by name.
    """

    filename: str
    name: str
    _group: h5py.Group
    children: dict[str, StoredGroup | StoredArray] = field(default_factory=dict)

    def find(self, path: str) -> StoredGroup | StoredArray | None:
        """The group or array at a path below this group, such as `conv1/kernel:0`, or None."""
        found: StoredGroup | StoredArray | None = self
        for part in filter(None, path.split("/")):
            found = found.children.get(part) if isinstance(found, StoredGroup) else None
        return found

    def group(self, path: str) -> StoredGroup | None:
        """The group at a path below this one; None if there is none."""
        found = self.find(path)
        return found if isinstance(found, StoredGroup) else None

    def texts(self, attribute: str) -> list[str] | None:
        """The texts of an attribute, one or several; None if there is no such attribute.

        Raises:
            ValueError: the attribute does not hold texts, or cannot be read.
        """
        return _texts(self.filename, self.name, self._group, attribute)


@contextmanager
def damage_named(filename: str, name: str) -> Iterator[None]:
    """Turn any error of HDF5 into a ValueError that names the file and the place in it."""
    try:
        yield
    except Exception as error:  # h5py raises a dozen kinds of errors for damage
        reason = shortened(error, 200) or type(error).__name__
        raise ValueError(
            f"{filename} is damaged: {shortened(name, 200)} cannot be read ({reason})"
        ) from error


def read_tree(file: h5py.File, filename: str) -> StoredGroup:
    """All groups and arrays of an open file, each checked.

    Args:
        file: open for reading; it must stay open while the result is used.
        filename: the name for error messages.

    Raises:
        ValueError: the file refers to another file or links to itself, it has more than
            MAX_OBJECTS objects or MAX_DEPTH levels, or it is damaged.
    """
    with damage_named(filename, "/"):
        root = StoredGroup(filename, "/", file["/"])
        groups_seen = {_address(root._group.id)}
    count = 0
    waiting = [(root, 1)]
    while waiting:
        group, depth = waiting.pop()
        for link in _link_names(group, MAX_OBJECTS - count):
            count += 1
            identifier = _open_link(group, link)
            with damage_named(filename, group.name):
                name = _printable(link)
            path = f"{group.name.rstrip('/')}/{name}"
            if isinstance(identifier, h5py.h5g.GroupID):
                with damage_named(filename, path):
                    address = _address(identifier)
                if address in groups_seen:
                    raise ValueError(
                        f"{filename}: the group {shortened(path)} is linked to a second time; the "
                        "groups of a weight file are a tree"
                    )
                if depth >= MAX_DEPTH:
                    raise ValueError(f"{filename}: its groups are nested {MAX_DEPTH} deep")
                groups_seen.add(address)
                child = StoredGroup(filename, path, h5py.Group(identifier))
                group.children[name] = child
                waiting.append((child, depth + 1))
            elif isinstance(identifier, h5py.h5d.DatasetID):
                _require_own_numbers(filename, path, identifier)
                group.children[name] = StoredArray(filename, path, h5py.Dataset(identifier))
    return root


def _link_names(group: StoredGroup, limit: int) -> list[bytes]:
    """Names of a group's links in alphabetical order; not more than the limit are collected."""
    names: list[bytes] = []

    def collect(name: bytes) -> bool | None:
        names.append(name)
        return True if len(names) > limit else None  # True ends the iteration

    with damage_named(group.filename, group.name):
        group._group.id.links.iterate(collect)
    if len(names) > limit:
        raise ValueError(f"{group.filename} holds more than {MAX_OBJECTS} groups and arrays")
    return names


def _open_link(group: StoredGroup, link: bytes) -> h5py.h5g.GroupID | h5py.h5d.DatasetID:
    """The object that a link points to; links that may lead to another file are not followed."""
    shown = shortened(f"{group.name.rstrip('/')}/{link.decode('utf8', 'replace')}")
    if link in (b"", b".") or b"/" in link:  # HDF5 would take it for a path
        raise ValueError(f"{group.filename} is damaged: {shown!r} is no name")
    with damage_named(group.filename, shown):
        kind = group._group.id.links.get_info(link).type
    if kind != h5py.h5l.TYPE_HARD:
        names = {h5py.h5l.TYPE_SOFT: "a soft", h5py.h5l.TYPE_EXTERNAL: "an external"}
        raise ValueError(
            f"{group.filename}: {shown} is {names.get(kind, 'an unknown kind of')} link; a weight "
            "file holds its weights itself"
        )
    with damage_named(group.filename, shown):
        return h5py.h5o.open(group._group.id, link)


def _require_own_numbers(filename: str, path: str, dataset: h5py.h5d.DatasetID) -> None:
    with damage_named(filename, path):
        created = dataset.get_create_plist()
        external = created.get_external_count() > 0
        virtual = created.get_layout() == h5py.h5d.VIRTUAL
    if external or virtual:
        raise ValueError(
            f"{filename}: the numbers of {shortened(path)} lie in another file; a weight file "
            "holds its weights itself"
        )


def _address(identifier: h5py.h5g.GroupID) -> tuple[int, int]:
    info = h5py.h5o.get_info(identifier)
    return info.fileno, info.addr


def _texts(
    filename: str, name: str, owner: h5py.Group | h5py.Dataset, attribute: str
) -> list[str] | None:
    """The texts of an attribute; None if the object has no such attribute."""
    place = f"the attribute {attribute} of {name}"
    with damage_named(filename, place):
        if attribute not in owner.attrs:
            return None
        identifier = owner.attrs.get_id(attribute)
        count = math.prod(identifier.shape)
        is_text = identifier.get_type().get_class() == h5py.h5t.STRING
    if count == 0:  # NumPy gives an empty list the dtype float64
        return []
    if not is_text:
        raise ValueError(f"{filename} is damaged: {shortened(place)} holds no text")
    with damage_named(filename, place):
        stored_bytes = identifier.get_storage_size()
        file_bytes = owner.file.id.get_filesize()
    if count > MAX_OBJECTS or stored_bytes > file_bytes:
        raise ValueError(f"{filename} is damaged: {shortened(place)} states {count} texts")
    with damage_named(filename, place):
        texts = np.ravel(np.asarray(owner.attrs[attribute], dtype=object))
        return [_printable(text) for text in texts]


def _printable(text: bytes | str) -> str:
    """A name as text; a name that is not UTF-8, or contains a line break, is damaged."""
    decoded = text.decode("utf8") if isinstance(text, bytes) else str(text)
    if not decoded.isprintable():
        raise ValueError(f"{decoded!r} is no name")
    return decoded
