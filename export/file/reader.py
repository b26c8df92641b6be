"""Read network files that may be foreign, truncated or hostile, without building anything.

Only the members that the format knows are looked at, only hard links are followed, and sizes are
compared with the file before anything is read.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np

from .checks import check
from .errors import LayerError, NetworkFileError
from .hdf5 import CarefulFile, path_of
from .layers import Layer
from .shapes import check_chain
from .tables import (
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
    known_datasets,
)


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
    OSError
        If there is no file (FileNotFoundError), or none that this user may read.
    NetworkFileError
        If it is not a network file, or breaks the format; names file and dataset.
    """
    path = Path(path)
    size = path.stat().st_size
    reader = _Reader(path, size)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file"
        raise NetworkFileError(f"{path} is {what}; give a file that lapilli.export.save wrote")
    path.open("rb").close()  # which says more of a lack of permissions than HDF5
    if not h5py.is_hdf5(path):
        what = "not an HDF5 file" if size else "empty"
        raise NetworkFileError(
            f"{path} is {what}; network files are written by lapilli.export.save"
        )
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


class _Reader(CarefulFile):
    # objects

    # the network

    def network(self, file: h5py.File) -> NetworkFile:
        name = self.attribute(file, "format", str, "lava-dl")
        version = self.attribute(file, "format_version", int, 0)
        if name not in (FORMAT, "lava-dl"):
            self.fail("/@format", f"is {name!r}; expected {FORMAT!r}")
        if name == FORMAT and not 1 <= version <= FORMAT_VERSION:
            self.fail("/@format_version", f"is {version}; this lapilli reads 1 to {FORMAT_VERSION}")
        if not self.has(file, "layer"):
            self.fail("/layer", "is missing, so this is an HDF5 file, but not one of a network")
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
        self._settle_shapes(path_of(group), layer)
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
        form, where = ENTRIES[path].form, path_of(dataset)
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
            self.fail(path_of(group), "has only one of the attributes module and block")
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
