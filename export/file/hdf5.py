"""HDF5 read with care: objects, datasets and attributes of files that may be foreign or hostile.

Before any memory is allocated, what a file declares is compared with what it can hold. Links are
followed only within the file, and a filter is used only if HDF5 itself has it.
"""

import math
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import h5py
import numpy as np

from .errors import NetworkFileError

_UNTYPED: Any = h5py  # its types do not have all of it
_GROWTH = 10  # bytes that may be read for each byte of the file
_UNIT = 16  # bytes that a number takes until its layer is built
_MAX_ITEM = 8  # bytes of a number in the file
_MAX_TEXT = 256
_MAX_PARAMS = 1 << 16
_MAX_DIMENSIONS = 5
_FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)


def path_of(found: h5py.Group | h5py.Dataset) -> str:
    """Return the path of what was found in a file; in h5py, only what is in none has no name."""
    return found.name or ""


class CarefulFile:
    """A file that is read with care: ``fail`` says what is wrong with it, and where."""

    def __init__(self, path: Path, size: int):
        self.path = path
        self.size = size
        self.budget = _GROWTH * size
        self.where = "/"
        self.seen: set[h5py.Group] = set()

    def fail(self, where: str, problem: str) -> NoReturn:
        """Raise for an object of the file."""
        raise NetworkFileError(f"{self.path}: {where}: {problem}")

    @staticmethod
    def names(group: h5py.Group) -> list[str]:
        """List the members; names that are no text match nothing that is known."""
        names: Any = group  # iterates over them; those that are no text are bytes
        return [n if isinstance(n, str) else n.decode("utf-8", "replace") for n in names]

    def has(self, group: h5py.Group, name: str) -> bool:
        """Tell whether there is a link, without following it: h5py's ``in`` opens other files."""
        return group.id.links.exists(name.encode())

    def kind(self, group: h5py.Group, name: str) -> Any:
        """Return the class of a member that is present and reached by a hard link."""
        where = f"{path_of(group).rstrip('/')}/{name}"
        self.where = where
        if not self.has(group, name):
            self.fail(where, "is missing")
        link = group.id.links.get_info(name.encode())
        if link.type != _UNTYPED.h5l.TYPE_HARD:
            self.fail(where, "is a soft or external link; a network file holds its data itself")
        return group.get(name, getclass=True)

    def member(self, group: h5py.Group, name: str, kind: type, what: str) -> Any:
        """Return a member that is present, reached by a hard link, and of the right class."""
        if self.kind(group, name) is not kind:
            self.fail(self.where, f"is not a {what}")
        found: Any = group[name]
        if kind is h5py.Group:
            if found in self.seen:
                self.fail(self.where, "is the same group as another one")
            self.seen.add(found)
        return found

    def spend(self, where: str, count: int, unit: int = _UNIT) -> None:
        """Count values that are about to be read, and fail where the file cannot hold them."""
        self.budget -= count * unit
        if self.budget < 0:
            self.fail(
                where,
                f"declares {count} values, more than a file of this size holds in numbers of two "
                f"bytes or more",
            )

    def array(self, dataset: h5py.Dataset) -> np.ndarray:
        """Read a dataset of numbers."""
        where, dtype, shape = path_of(dataset), dataset.dtype, dataset.shape
        if dtype.kind not in "iufb" or dtype.itemsize > _MAX_ITEM:
            self.fail(where, f"has type {dtype}; expected integers or floats")
        self._check_storage(dataset)
        if len(shape) > _MAX_DIMENSIONS:
            self.fail(where, f"has {len(shape)} dimensions; expected at most {_MAX_DIMENSIONS}")
        self.spend(where, math.prod(shape))
        return np.asarray(dataset[()])

    def text(self, dataset: h5py.Dataset) -> str:
        """Read one string, fixed-length or not, scalar or of shape (1,)."""
        where = path_of(dataset)
        info = h5py.check_string_dtype(dataset.dtype)
        if info is None:
            self.fail(where, f"has type {dataset.dtype}; expected a string")
        self._check_storage(dataset)
        if dataset.shape not in ((), (1,)):
            self.fail(where, f"has shape {dataset.shape}; expected one string")
        if info.length is None:
            return self._decode(where, self._from_heap(dataset), _MAX_TEXT)
        if info.length > _MAX_TEXT:
            self.fail(where, f"has {info.length} characters; expected at most {_MAX_TEXT}")
        value = dataset[()]
        value = value[0] if isinstance(value, np.ndarray) else value
        return self._decode(where, value, _MAX_TEXT)

    def _from_heap(self, dataset: h5py.Dataset) -> bytes:
        """Read a variable-length string from the file, past HDF5.

        HDF5 allocates the declared length, up to 4 GiB, before it compares it with the string, and
        walks a damaged heap for ever.
        """
        where, offset = path_of(dataset), dataset.id.get_offset()
        if offset is None or dataset.chunks is not None:
            self.fail(where, "is a variable-length string that is not stored contiguously")
        base = dataset.file.userblock_size
        with self.path.open("rb") as file:
            file.seek(offset)
            length, address, index = _struct(file, "<IQI")
            if length > _MAX_TEXT:
                self.fail(where, f"has {length} characters; expected at most {_MAX_TEXT}")
            if length == 0:
                return b""
            end = min(base + address, self.size)
            file.seek(end)
            signature, size = _struct(file, "<4s4xQ")
            end += size
            if signature != b"GCOL" or end > self.size:
                self.fail(where, "is a string that the file does not hold")
            while file.tell() < end:
                found, size = _struct(file, "<H6xQ")
                if found == index:
                    return file.read(min(length, size))
                if found == 0:  # the free space, at the end
                    break
                file.seek(min(size + -size % 8, self.size), os.SEEK_CUR)
        self.fail(where, "is a string that the file does not hold")

    def _check_storage(self, dataset: h5py.Dataset) -> None:
        where = path_of(dataset)
        if dataset.shape is None:
            self.fail(where, "holds no value")
        if dataset.external or dataset.is_virtual:
            self.fail(where, "keeps its data in another file")
        filters = dataset.id.get_create_plist()
        for i in range(filters.get_nfilters()):
            if filters.get_filter(i)[0] not in _FILTERS:
                self.fail(where, "is packed by a filter that HDF5 would load as a plugin")
        if dataset.chunks is not None:  # a chunk can be larger than the dataset
            chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
            if chunk > self.budget:
                self.fail(where, f"declares chunks of {chunk} bytes, more than the file has")

    def _decode(self, where: str, value: Any, limit: int) -> str:
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogateescape")
        if len(value) > limit:
            self.fail(where, f"has {len(value)} characters; expected at most {limit}")
        try:
            return bytes(value).rstrip(b"\0").decode("utf-8")
        except UnicodeDecodeError:
            self.fail(where, "is not UTF-8 text")

    def attribute(self, owner: h5py.Group, name: str, kind: type, default: Any = None) -> Any:
        """Read a scalar attribute of a type, or return the default if there is none."""
        if name not in owner.attrs:
            return default
        where = f"{path_of(owner).rstrip('/')}@{name}"
        self.where = where
        info = owner.attrs.get_id(name)
        text = h5py.check_string_dtype(info.dtype)
        is_text = text is not None
        kinds = {str: "", int: "iu", bool: "biu"}[kind]
        if (
            info.shape != ()
            or is_text != (kind is str)
            or (not is_text and info.dtype.kind not in kinds)
        ):
            self.fail(
                where, f"has type {info.dtype} and shape {info.shape}; expected one {kind.__name__}"
            )
        if is_text and (text.length is None or text.length > _MAX_PARAMS):
            limit = f"at most {_MAX_PARAMS} characters"
            self.fail(where, f"must be a string of fixed length, {limit}; got {info.dtype}")
        value = owner.attrs[name]
        return self._decode(where, value, _MAX_PARAMS) if is_text else kind(value)


def _struct(file: BinaryIO, form: str) -> tuple[Any, ...]:
    """Read values from a file; zeros beyond its end."""
    size = struct.calcsize(form)
    return struct.unpack(form, file.read(size).ljust(size, b"\0"))
