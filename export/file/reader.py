"""Read network files that may be foreign, truncated or hostile, without building anything.

Only the members that the format knows are looked at, only hard links are followed, and sizes are
compared with the file before anything is read.
"""

import json
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import h5py
import numpy as np

from .errors import LayerError, NetworkFileError
from .layers import (
    ENTRIES,
    EXTENSIONS,
    FAMILIES,
    FORMAT,
    FORMAT_VERSION,
    KINDS,
    MODULE_OF_NEURON,
    NEVER_FIRES,
    OLD_NEURON_ENTRIES,
    TYPES,
    Layer,
    check,
    check_chain,
    known_datasets,
)

_GROWTH = 10  # bytes that may be read for each byte of the file
_UNIT = 16  # bytes that a number takes until its layer is built
_MAX_ITEM = 8  # bytes of a number in the file
_MAX_TEXT = 256
_MAX_PARAMS = 1 << 16
_MAX_DIMENSIONS = 5
_FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)


@dataclass
class NetworkFile:
    """What a network file holds: format, version (0 for files of lava-dl) and layers."""

    format: str
    version: int
    layers: list[Layer]


def read_network(path: str | os.PathLike[str]) -> NetworkFile:
    """Read and check a network file; the file is closed on return.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    NetworkFileError
        If it is not a network file, or breaks the format; names file and dataset.
    """
    path = Path(path)
    size = path.stat().st_size
    reader = _Reader(path, size)
    if not path.is_file():
        reader.fail("/", "is not a regular file")
    try:
        with h5py.File(path, "r") as file:
            return reader.network(file)
    except NetworkFileError:
        raise
    # what HDF5 and NumPy raise on damaged metadata
    except (
        OSError,
        RuntimeError,
        LookupError,
        ValueError,
        TypeError,
        OverflowError,
        MemoryError,
    ) as error:
        reader.fail(reader.where, f"cannot be read: {error}")


def _flatten_dense(before: Layer, layer: Layer) -> None:
    """Give a dense layer on flat input the shape ``[n]``; older lava-dl wrote ``[n, 1, 1]``."""
    flat = before.type == "flatten" or len(before.shape) == 1
    if before.type == "average" and "factor" not in before.data:
        flat = True
    if flat and layer.type in ("dense", "dense_rec") and layer.shape[1:] == (1, 1):
        layer.data["shape"] = np.array(layer.shape[:1])


class _Reader:
    def __init__(self, path: Path, size: int):
        self.path = path
        self.size = size
        self.budget = _GROWTH * size
        self.where = "/"
        self.seen: set[h5py.Group] = set()

    def fail(self, where: str, problem: str) -> NoReturn:
        raise NetworkFileError(f"{self.path}: {where}: {problem}")

    # objects

    @staticmethod
    def names(group: h5py.Group) -> list[str]:
        """List the members; names that are no text match nothing that is known."""
        return [n if isinstance(n, str) else n.decode("utf-8", "replace") for n in group]

    def has(self, group: h5py.Group, name: str) -> bool:
        """Tell whether there is a link, without following it: h5py's ``in`` opens other files."""
        return group.id.links.exists(name.encode())

    def kind(self, group: h5py.Group, name: str) -> type | None:
        """Return the class of a member that is present and reached by a hard link."""
        where = f"{group.name.rstrip('/')}/{name}"
        self.where = where
        if not self.has(group, name):
            self.fail(where, "is missing")
        link = group.id.links.get_info(name.encode())
        if link.type != h5py.h5l.TYPE_HARD:
            self.fail(where, "is a soft or external link; a network file holds its data itself")
        return group.get(name, getclass=True)

    def member(self, group: h5py.Group, name: str, kind: type, what: str) -> Any:
        """Return a member that is present, reached by a hard link, and of the right class."""
        if self.kind(group, name) is not kind:
            self.fail(self.where, f"is not a {what}")
        found = group[name]
        if kind is h5py.Group:
            if found in self.seen:
                self.fail(self.where, "is the same group as another one")
            self.seen.add(found)
        return found

    def spend(self, where: str, count: int, unit: int = _UNIT) -> None:
        self.budget -= count * unit
        if self.budget < 0:
            self.fail(
                where,
                f"declares {count} values, more than a file of this size holds in numbers of two "
                f"bytes or more",
            )

    def array(self, dataset: h5py.Dataset) -> np.ndarray:
        """Read a dataset of numbers."""
        where, dtype, shape = dataset.name, dataset.dtype, dataset.shape
        if dtype.kind not in "iufb" or dtype.itemsize > _MAX_ITEM:
            self.fail(where, f"has type {dtype}; expected integers or floats")
        self._check_storage(dataset)
        if len(shape) > _MAX_DIMENSIONS:
            self.fail(where, f"has {len(shape)} dimensions; expected at most {_MAX_DIMENSIONS}")
        self.spend(where, math.prod(shape))
        return np.asarray(dataset[()])

    def text(self, dataset: h5py.Dataset) -> str:
        """Read one string, fixed-length or not, scalar or of shape (1,)."""
        where = dataset.name
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
        where, offset = dataset.name, dataset.id.get_offset()
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
        if dataset.shape is None:
            self.fail(dataset.name, "holds no value")
        if dataset.external or dataset.is_virtual:
            self.fail(dataset.name, "keeps its data in another file")
        filters = dataset.id.get_create_plist()
        for i in range(filters.get_nfilters()):
            if filters.get_filter(i)[0] not in _FILTERS:
                self.fail(dataset.name, "is packed by a filter that HDF5 would load as a plugin")
        if dataset.chunks is not None:  # a chunk can be larger than the dataset
            chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
            if chunk > self.budget:
                self.fail(dataset.name, f"declares chunks of {chunk} bytes, more than the file has")

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
        where = f"{owner.name.rstrip('/')}@{name}"
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

    # the network

    def network(self, file: h5py.File) -> NetworkFile:
        name = self.attribute(file, "format", str, "lava-dl")
        version = self.attribute(file, "format_version", int, 0)
        if name not in (FORMAT, "lava-dl"):
            self.fail("/@format", f"is {name!r}; expected {FORMAT!r}")
        if name == FORMAT and not 1 <= version <= FORMAT_VERSION:
            self.fail("/@format_version", f"is {version}; this lapilli reads 1 to {FORMAT_VERSION}")
        group = self.member(file, "layer", h5py.Group, "group")
        names = self.names(group)
        count = len(names)
        stray = sorted(set(names) - {str(i) for i in range(count)})
        if stray or not count:
            self.fail(
                "/layer", f"must hold the layers 0, 1, 2, ... without gaps; found {names[:20]}"
            )
        if self.attribute(file, "num_layers", int, count) != count:
            self.fail("/@num_layers", f"differs from the {count} layers of the file")
        layers: list[Layer] = []
        for i in range(count):
            layer = self.layer(self.member(group, str(i), h5py.Group, "group"))
            if layers and not version:
                _flatten_dense(layers[-1], layer)
            try:
                check(layer)
                if layers:
                    check_chain(layers[-1].shape, layer)
            except LayerError as error:
                self.fail(f"/layer/{i}/{error.dataset}", error.problem)
            layers.append(layer)
        return NetworkFile(name, version, layers)

    def layer(self, group: h5py.Group) -> Layer:
        type_ = self.text(self.member(group, "type", h5py.Dataset, "dataset"))
        if type_ not in TYPES:
            self.fail(f"{group.name}/type", f"is {type_!r}; known are {', '.join(TYPES)}")
        layer = Layer(type_, {})
        self._read_members(group, known_datasets(type_), "", layer)
        if self.has(group, "neuron"):
            self._read_neuron(self.member(group, "neuron", h5py.Group, "group"), layer)
        self._settle_shapes(group.name, layer)
        self._read_version(group, layer)
        if self.has(group, "lapilli"):
            self._read_extras(self.member(group, "lapilli", h5py.Group, "group"), layer)
        return layer

    def _read_members(self, group: h5py.Group, known: set[str], prefix: str, layer: Layer) -> None:
        for name in self.names(group):
            path = prefix + name
            if prefix == "" and name in ("neuron", "lapilli", "type"):
                continue
            parts = {k for k in known if k.startswith(path + "/")}
            if path not in known and not parts:
                self._unknown(group, name, known | {"neuron", "type"})
            if parts and self.kind(group, name) is h5py.Group:
                inner = self.member(group, name, h5py.Group, "group")
                self._read_members(inner, parts, path + "/", layer)
            else:
                dataset = self.member(group, name, h5py.Dataset, "dataset")
                layer.data[path] = self._value(path, dataset)

    def _unknown(self, group: h5py.Group, name: str, known: set[str]) -> NoReturn:
        names = ", ".join(sorted(known))
        self.fail(f"{group.name}/{name}", f"is not part of the format here; known are {names}")

    def _read_neuron(self, group: h5py.Group, layer: Layer) -> None:
        type_ = self.text(self.member(group, "type", h5py.Dataset, "dataset"))
        if type_ not in MODULE_OF_NEURON:
            self.fail(
                f"{group.name}/type", f"is {type_!r}; known are {', '.join(MODULE_OF_NEURON)}"
            )
        layer.data["neuron/type"] = type_
        family = FAMILIES[MODULE_OF_NEURON[type_]]
        known = {f"neuron/{name}" for name in family.known}
        known |= {"neuron/weight_exp/real", "neuron/weight_exp/imag"} if family.complex else set()
        for name in self.names(group):
            if name in OLD_NEURON_ENTRIES or name == "type":
                continue
            path = f"neuron/{name}"
            if path not in known:
                self._unknown(group, name, {k.removeprefix("neuron/") for k in known})
            if self.kind(group, name) is h5py.Group and path + "/real" in known:
                inner = self.member(group, name, h5py.Group, "group")
                self._read_members(inner, known, path + "/", layer)
            else:
                layer.data[path] = self._value(
                    path, self.member(group, name, h5py.Dataset, "dataset")
                )

    def _value(self, path: str, dataset: h5py.Dataset) -> Any:
        """Read a dataset and bring it into the canonical form of its entry."""
        form, where = ENTRIES[path].form, dataset.name
        if form == "text":
            return self.text(dataset)
        value = self.array(dataset)
        if form == "flag":
            if value.size != 1 or value.reshape(-1)[0] not in (0, 1):
                self.fail(where, "must be one truth value")
            return bool(value.reshape(-1)[0])
        if not np.isfinite(value).all():
            self.fail(where, "holds values that are not finite")
        if form == "floats":
            return value.astype(np.float32)
        if value.dtype.kind == "f" and (value != np.rint(value)).any():
            wrong = value[value != np.rint(value)].reshape(-1)[0]
            self.fail(where, f"holds {wrong}; expected integers")
        # before the conversion: a number of any size must stay what it is
        if value.size and (value.max() > 2**31 or value.min() < -(2**31)):
            self.fail(where, "holds values beyond 32 bit")
        if form == "values":
            return np.asarray(value.astype(np.float32) + np.float32(0))  # no negative zero
        value = value.astype(np.int64)
        if form == "size" or (form == "channels" and value.shape == (1,)):
            if value.size != 1:
                self.fail(where, f"has shape {value.shape}; expected one value")
            return value.reshape(())
        if form == "pair" and value.size == 1:
            return np.repeat(value.reshape(()), 2)
        expected = {"pair": ((2,),), "shape": ((1,), (3,))}.get(form, (value.shape,))
        if value.shape not in expected or value.ndim > 1:
            self.fail(where, f"has shape {value.shape}; expected {' or '.join(map(str, expected))}")
        return value

    def _settle_shapes(self, where: str, layer: Layer) -> None:
        """Bring older and scalar forms of weights and biases to the form of today."""
        data = layer.data
        if layer.type == "input":
            for name in ("weight", "bias"):
                if name in data and data[name].size == 1:
                    data[name] = data[name].reshape(())
        for name in layer.weights() if layer.type != "input" else ():
            weight = data[name]
            if layer.type in ("dense", "dense_rec") and weight.ndim == 1 and "shape" in data:
                if layer.shape[0] < 1 or weight.size % layer.shape[0]:
                    self.fail(f"{where}/{name}", f"has {weight.size} values; not a multiple of the "
                              f"{layer.shape[0]} outputs")  # fmt: skip
                data[name] = weight.reshape(layer.shape[0], -1)
            elif weight.ndim == 5 and weight.shape[-1] == 1:
                data[name] = weight[..., 0]
        # [neurons] or, in older files of lava-dl, [1, 1, neurons]
        if (
            layer.type == "flatten"
            and "shape" in data
            and max(layer.shape) == math.prod(layer.shape)
        ):
            data["shape"] = np.array([max(layer.shape), 1, 1])

    def _read_version(self, group: h5py.Group, layer: Layer) -> None:
        layer.module = self.attribute(group, "module", str)
        layer.block = self.attribute(group, "block", str)
        params = self.attribute(group, "params", str, "{}")
        layer.inserted = self.attribute(group, "inserted", bool, False)
        layer.flattens = self.attribute(group, "flattens", int, 0)
        if (layer.module is None) != (layer.block is None):
            self.fail(group.name, "has only one of the attributes module and block")
        if layer.block is None:
            layer.module, layer.block = _infer(layer)
        if layer.module not in FAMILIES:
            self.fail(
                f"{group.name}@module", f"is {layer.module!r}; known are {', '.join(FAMILIES)}"
            )
        if layer.block not in KINDS or KINDS[layer.block].type != layer.type:
            fitting = ", ".join(n for n, kind in KINDS.items() if kind.type == layer.type)
            self.fail(
                f"{group.name}@block",
                f"is {layer.block!r}; a {layer.type} layer is one of {fitting}",
            )
        if layer.neuron and MODULE_OF_NEURON[layer.neuron] != layer.module:
            self.fail(
                f"{group.name}@module", f"is {layer.module!r}, but the neuron is {layer.neuron}"
            )
        if not 0 <= layer.flattens <= 16:
            self.fail(f"{group.name}@flattens", f"is {layer.flattens}; expected 0 to 16")
        try:
            layer.params = json.loads(params, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            self.fail(f"{group.name}@params", f"is not JSON: {error}")
        if not isinstance(layer.params, dict):
            self.fail(f"{group.name}@params", "is not a JSON object")

    def _read_extras(self, group: h5py.Group, layer: Layer) -> None:
        for name in self.names(group):
            if name in ("bias", "neuron") and self.kind(group, name) is h5py.Group:
                known = {n for n in EXTENSIONS if n.startswith(name + "/")}
                inner = self.member(group, name, h5py.Group, "group")
                self._read_members(inner, known, name + "/", layer)
            elif name in ("bias", "threshold"):
                dataset = self.member(group, name, h5py.Dataset, "dataset")
                layer.data[f"lapilli/{name}"] = self._value(f"lapilli/{name}", dataset)
            elif name == "state":
                state = self.member(group, name, h5py.Group, "group")
                layer.state = {
                    key: self.array(self.member(state, key, h5py.Dataset, "dataset"))
                    for key in self.names(state)
                }
            else:
                self._unknown(group, name, {"bias", "neuron", "threshold", "state"})


def _struct(file: BinaryIO, form: str) -> tuple[Any, ...]:
    """Read values from a file; zeros beyond its end."""
    size = struct.calcsize(form)
    return struct.unpack(form, file.read(size).ljust(size, b"\0"))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _infer(layer: Layer) -> tuple[str, str]:
    """Tell module and kind of a layer of a file without version block."""
    module = MODULE_OF_NEURON.get(layer.neuron or "", "rf" if layer.is_complex else "cuba")
    if layer.type == "dense":
        never = np.all(layer.data.get("neuron/vThMant", NEVER_FIRES) == NEVER_FIRES)
        kind = "Output" if "neuron/sigma_output" in layer.data else "Affine" if never else "Dense"
        return module, kind
    if layer.type == "average":
        return module, "TimeDecimation" if "factor" in layer.data else "Average"
    return module, next(name for name, kind in KINDS.items() if kind.type == layer.type)
