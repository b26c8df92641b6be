"""Files that are foreign, damaged or hostile give one clear error, and cost little."""

import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from export_networks import CUBA, MEAN, SENDING, network, settle, settled_dense, spikes
from golden_cases import GOLDEN
from known import opened
from lapilli.blocks import cuba, sigma_delta

from lapilli import export

pytestmark = [
    pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning"),
    pytest.mark.turns,
]

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Bytes of a sound file: a dense layer with everything, and a second one."""
    path = tmp_path_factory.mktemp("whole") / "a.net"
    first = cuba.Dense(CUBA | MEAN, 6, 4, delay=True, weight_scale=3)
    net = settle(torch.nn.Sequential(first, cuba.Dense(CUBA, 4, 3, weight_scale=3)), (6,))
    export.save(net, path, with_state=True)
    return path.read_bytes()


def put(name, value, **options):
    """A change that gives a dataset another value."""

    def change(file):
        del file[f"layer/0/{name}"]
        file["layer/0"].create_dataset(name, data=value, **options)

    return change


def empty(name, shape, **options):
    """A change that declares a dataset of a size which the file does not hold."""

    def change(file):
        if f"layer/0/{name}" in file:
            del file[f"layer/0/{name}"]
        file["layer/0"].create_dataset(name, shape=shape, dtype="f4", **options)

    return change


def attribute(name, value, owner="layer/0"):
    def change(file):
        file[owner].attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value

    return change


def remove(name):
    def change(file):
        del file[name]

    return change


def link(name, target):
    def change(file):
        if f"layer/0/{name}" in file:
            del file[f"layer/0/{name}"]
        file["layer/0"][name] = target(file) if callable(target) else target

    return change


def nested(name, depth=500):
    def change(file):
        del file[f"layer/0/{name}"]
        group = file["layer/0"].create_group(name)
        for _ in range(depth):
            group = group.create_group("real")

    return change


def virtual(file):
    del file["layer/0/weight"]
    layout = h5py.VirtualLayout(shape=(4, 6), dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "weight", shape=(4, 6))
    file["layer/0"].create_virtual_dataset("weight", layout)


def outside(file):
    del file["layer/0/weight"]
    file["layer/0"].create_dataset("weight", (4, 6), "u1", external=[("/etc/passwd", 0, 24)])


def references(file):
    put("weight", np.array([file.ref], h5py.ref_dtype))(file)


def plugin(file):
    del file["layer/0/weight"]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4, 6))
    plist.set_filter(307, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((4, 6))
    h5py.h5d.create(file["layer/0"].id, b"weight", h5py.h5t.NATIVE_FLOAT, space, plist)


def nameless(file):
    group = file["layer/0"]
    group.id.links.create_soft(b"\xff\xfe", b"/")


def huge_channels(file):
    """A bias for one channel of a layer that claims 2**31 of them."""
    for name in list(file["layer"]):
        del file[f"layer/{name}"]
    pool = settle(sigma_delta.Pool(SENDING, 2), (1, 4, 4))
    pool.export_hdf5(file.create_group("layer/0"))
    put("shape", [2**31 - 1, 2, 2])(file)
    file["layer/0/lapilli/bias"] = np.ones(1, "f4")
    attribute("num_layers", 1, "/")(file)


DEEP = "[" * 30000 + "]" * 30000
HOSTILE = {
    "no layers": (remove("layer"), "/layer: is missing"),
    "a gap": (remove("layer/0"), r"/layer: must hold the layers 0, 1, 2.*found \['1'\]"),
    "a stray layer": (lambda f: f.create_group("layer/x"), "/layer: must hold the layers"),
    "another number": (attribute("num_layers", 3, "/"), "/@num_layers: differs from the 2"),
    "another format": (attribute("format", "onnx", "/"), "/@format: is 'onnx'"),
    "a later version": (attribute("format_version", 3, "/"), "@format_version: is 3; .*1 to 2"),
    "version as text": (attribute("format_version", "1", "/"), "@format_version: has type"),
    "unknown type": (put("type", np.array([b"magic"], "S10")), "type: is 'magic'; known are input"),
    "type is a number": (put("type", 3), "type: has type int64; expected a string"),
    "two types": (put("type", np.array([b"dense"] * 2)), r"type: has shape \(2,\)"),
    "type is no text": (put("type", np.array([b"\xff\xfe"])), "type: is not UTF-8"),
    "long type": (put("type", np.array([b"x" * 9999])), "type: has 9999 characters"),
    "type is a group": (nested("type"), "type: is not a dataset"),
    "no type": (remove("layer/0/type"), "/layer/0/type: is missing"),
    "no shape": (remove("layer/0/shape"), "/layer/0/shape: is missing"),
    "no weight": (remove("layer/0/weight"), "/layer/0/weight: is missing"),
    "a name that is no text": (nameless, "is not part of the format here"),
    "unknown dataset": (lambda f: put("weights", 1)(f) if "weights" in f["layer/0"]
                        else f["layer/0"].create_dataset("weights", data=1),
                        "weights: is not part of the format here; known are"),
    "no neuron type": (remove("layer/0/neuron/type"), "neuron/type: is missing"),
    "unknown neuron": (put("neuron/type", "GRU"), "neuron/type: is 'GRU'; known are"),
    "neuron is a number": (put("neuron", 3), "neuron: is not a group"),
    "no decay": (remove("layer/0/neuron/iDecay"), "neuron/iDecay: is missing; CUBA needs it"),
    "negative shape": (put("shape", [-4]), "shape: holds -4; allowed are 1 to"),
    "shape of none": (put("shape", [0]), "shape: holds 0"),
    "huge shape": (put("shape", [2**31 - 1]), "shape: is .*but the weight has 4 outputs"),
    "shape beyond 32 bits": (put("shape", [2**40]), "shape: holds values beyond 32 bit"),
    "shape beyond 64 bits": (put("shape", [1e300]), "shape: holds values beyond 32 bit"),
    "shape of two": (put("shape", [4, 1]), r"shape: has shape \(2,\); expected \(1,\) or \(3,\)"),
    "weights of text": (put("weight", np.full((4, 6), b"a")), r"weight: has type \|S1"),
    "complex weights": (put("weight", np.zeros((4, 6), "c8")), "weight: has type complex64"),
    "weights of records": (put("weight", np.zeros((4, 6), "i4,i4")), "weight: has type"),
    "weights of a long double": (put("weight", np.zeros((4, 6), "g")), "weight: has type"),
    "weights not finite": (put("weight", np.full((4, 6), np.nan)), "weight: holds values that are"),
    "fractional weights": (put("weight", np.full((4, 6), 0.5)), "weight: holds 0.5; expected int"),
    "weights too large": (put("weight", np.full((4, 6), 300.0)), "weight: holds 300; allowed are"),
    "weights of one dimension": (put("weight", np.zeros(23)), "weight: has 23 values; not a multi"),
    "weights of six": (put("weight", np.zeros((4, 6, 1, 1, 1, 1))), "weight: has 6 dimensions"),
    "no weights": (put("weight", np.zeros((0, 6))), "weight: is empty"),
    "null weights": (put("weight", h5py.Empty("f4")), "weight: holds no value"),
    "references": (references, "weight: has type object"),
    "a plugin": (plugin, "weight: is packed by a filter"),
    "fan-in that differs": (put("inFeatures", 7), "inFeatures: is 7, but the weight has 6"),
    "negative fan-in": (put("inFeatures", -6), "inFeatures: holds -6; allowed are 1 to"),
    "bias of another size": (put("bias", np.zeros(3)), r"bias: has shape \(3,\); expected \(4,\)"),
    "delay too long": (put("delay", np.full(4, 63.0)), "delay: holds 63; allowed are 0 to 62"),
    "negative delay": (put("delay", np.full(4, -1.0)), "delay: holds -1"),
    "threshold of none": (put("neuron/vThMant", 0), "neuron/vThMant: holds 0; allowed are 1 to"),
    "thresholds": (put("neuron/vThMant", [80] * 4), "neuron/vThMant: must be one value"),
    "decay of another": (put("neuron/iDecay", [1] * 3), r"iDecay: has shape \(3,\); expected \(\)"),
    "decay too large": (put("neuron/vDecay", 5000), "neuron/vDecay: holds 5000"),
    "truth of three": (put("neuron/gradedSpike", 3), "neuron/gradedSpike: must be one truth"),
    "data not in the file": (empty("weight", (10**5, 10**5)), "weight: declares 10000000000 val"),
    "numbers of one byte": (put("weight", np.ones((500, 500), "i1")), "weight: declares 250000 v"),
    "a bomb": (empty("weight", (5000, 5000), chunks=(500, 500), compression="gzip"),
               "weight: declares (chunks|25000000)"),
    "a chunk that is a bomb": (empty("weight", (4, 6), maxshape=(None, None),
                                     chunks=(4000, 4000), compression="gzip"),
                               "weight: declares chunks of 64000000 bytes"),
    "soft link": (link("weight", h5py.SoftLink("/layer/1/weight")), "weight: is a soft or"),
    "link out": (link("weight", h5py.ExternalLink("/etc/passwd", "/x")), "weight: is a soft or"),
    "dangling link": (link("neuron", h5py.SoftLink("/nowhere")), "neuron: is a soft or"),
    "layer that is linked": (lambda f: (remove("layer/1")(f), f["layer"].__setitem__(
        "1", h5py.SoftLink("/layer/0"))), "/layer/1: is a soft or"),
    "a circle": (link("neuron", lambda f: f["layer"]), "neuron: is the same group as another"),
    "a layer twice": (lambda f: (remove("layer/1")(f), f["layer"].__setitem__(
        "1", f["layer/0"])), "/layer/1: is the same group as another"),
    "virtual data": (virtual, "weight: keeps its data in another file"),
    "data elsewhere": (outside, "weight: keeps its data in another file"),
    "nested groups": (nested("weight"), "weight/real: is not a dataset"),
    "a group too many": (lambda f: f.create_group("layer/0/neuron/x"), "neuron/x: is not part of"),
    "something of lapilli": (lambda f: f.create_group("layer/0/lapilli/x"), "x: is not part of"),
    "no JSON": (attribute("params", "{"), "@params: is not JSON"),
    "deep JSON": (attribute("params", DEEP), "@params: (must be|is not JSON)"),
    "JSON that is a list": (attribute("params", "[]"), "@params: is not a JSON object"),
    "JSON with NaN": (attribute("params", '{"a": NaN}'), "@params: is not JSON: NaN"),
    "scale as text": (attribute("params", '{"neuron_params": {"scale": "a"}}'), "scale is 'a'"),
    "scale of none": (attribute("params", '{"neuron_params": {"scale": 0}}'), "scale is 0"),
    "params of a list": (attribute("params", '{"neuron_params": [1]}'), r"neuron_params is \[1\]"),
    "other inputs": (attribute("params", '{"in_neurons": 7}'), "in_neurons is 7, but the weight"),
    "text of any length": (lambda f: f["layer/0"].attrs.__setitem__("params", "{}"),
                           "@params: must be a string of fixed length"),
    "other module": (attribute("module", "os"), "@module: is 'os'; known are cuba"),
    "other neuron": (attribute("module", "alif"), "@module: is 'alif', but the neuron is CUBA"),
    "other block": (attribute("block", "Conv"), "@block: is 'Conv'; a dense layer is one of"),
    "half a version": (lambda f: f["layer/0"].attrs.__delitem__("block"), "has only one of the"),
    "many flattens": (attribute("flattens", 10**9), "@flattens: is 1000000000; expected 0 to 16"),
    "another layer's state": (put("lapilli/state/synapse.weight", np.zeros((2, 2), "f4")),
                              "/layer/0: .*size mismatch"),
    "foreign state": (put("lapilli/state/synapse.weight", np.zeros((4, 6, 1, 1, 1), "f4")),
                      "does not agree with the attributes or the state"),
    "layers that do not fit": (remove("layer/0/weight"), "is missing"),
    "one bias for all": (huge_channels, r"lapilli/bias: has shape \(1,\); expected \(2147483647"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name, whole, tmp_path):
    change, message = HOSTILE[name]
    path = tmp_path / "a.net"
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        change(file)
    tracemalloc.start()
    try:
        with pytest.raises(export.NetworkFileError, match=rf"a\.net: .*{message}"):
            export.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * max(path.stat().st_size, 100_000)


def test_the_same_change_without_harm(whole, tmp_path):
    """Rewriting is not what is refused: other layouts and types of the same values load."""
    path = tmp_path / "a.net"
    path.write_bytes(whole)
    want = export.load(path)
    with opened(path, "a") as file:
        weight = file["layer/0/weight"][()]
        put("weight", weight.astype("i2"), chunks=(2, 3), compression="gzip")(file)
        put("neuron/type", np.array([b"CUBA"], "S10"))(file)
        put("neuron/iDecay", np.array([1024.0]))(file)
    x = spikes(2, 6, 40)
    torch.testing.assert_close(export.load(path)(x), want(x), rtol=0, atol=0)


def test_files_of_older_lava_dl(tmp_path):
    """Neuron type LOIHI with more keys, a time axis in conv weights, strings of fixed length."""
    net, shape = network("conv")
    path = tmp_path / "a.net"
    export.save(net, path)
    with opened(path, "a") as file:
        for owner in (file, *file["layer"].values()):
            for name in list(owner.attrs):
                del owner.attrs[name]
        file["simulation/Ts"] = 1
        for layer in file["layer"].values():
            if "neuron" not in layer:
                continue
            del layer["neuron/type"]
            layer["neuron/type"] = np.array([b"LOIHI"], "S10")
            for name in ("wgtExp", "theta", "tauRho", "scaleRho"):
                layer[f"neuron/{name}"] = 1.5
            if layer["weight"].ndim == 4:
                weight = layer["weight"][()][..., np.newaxis]
                del layer["weight"]
                layer["weight"] = weight
    x = spikes(2, *shape, 40)
    torch.testing.assert_close(export.load(path)(x), net(x), rtol=0, atol=0)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.9, 0.99])
def test_truncated_files(share, whole, tmp_path):
    path = tmp_path / "a.net"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(
        export.NetworkFileError, match=r"a\.net(: /.*cannot be read| is empty| is not an HDF5 file)"
    ):
        export.load(path)


@pytest.mark.parametrize("content", [b"", b"no network", b"\x89HDF\r\n\x1a\n", os.urandom(10**5)])
def test_other_files(content, tmp_path):
    path = tmp_path / "a.net"
    path.write_bytes(content)
    signed = content.startswith(b"\x89HDF")
    said = ": /: cannot be read" if signed else " is not an HDF5 file" if content else " is empty"
    for reader in (export.load, export.inspect, export.check, export.weights):
        with pytest.raises(export.NetworkFileError, match=rf"a\.net{said}"):
            reader(path)


def test_other_paths(tmp_path):
    with pytest.raises(FileNotFoundError):
        export.load(tmp_path / "absent.net")
    os.mkfifo(tmp_path / "pipe.net")
    for path, what in ((tmp_path, "a folder"), (tmp_path / "pipe.net", "no regular file")):
        with pytest.raises(export.NetworkFileError, match=f"is {what}; give a file"):
            export.load(path)


def test_the_file_is_closed(whole, tmp_path):
    path = tmp_path / "a.net"
    for content in (whole, whole[:5000]):
        path.write_bytes(content)
        try:
            export.load(path)
        except export.NetworkFileError:
            assert content is not whole
        with h5py.File(path, "w"):  # HDF5 refuses a file that is open
            pass


def test_readers_and_a_writer_at_once(tmp_path):
    path = tmp_path / "a.net"
    nets = [settled_dense(), settled_dense(delay=True)]
    export.save([nets[0]], path)
    x = spikes(1, 6, 40)
    wanted = [net(x) for net in nets]
    problems = []

    def read():
        try:
            for _ in range(6):
                y = export.load(path)(x)
                if not any(torch.equal(y, want) for want in wanted):
                    problems.append("another network")
        except Exception as error:
            problems.append(repr(error))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(12):
        export.save([nets[i % 2]], path)
    for thread in threads:
        thread.join()
    assert problems == []


# many files that are damaged anyhow


def fuzz(tmp_path, first, last):
    net = settle(cuba.Dense(CUBA | MEAN, 6, 4, delay=True, weight_scale=3), (6,))
    export.save([net], tmp_path / "dense.net", with_state=True)
    net = settle(sigma_delta.Conv(SENDING, 1, 2, 2), (1, 3, 3))
    net.neuron.set_bias(0.5)
    export.save([net], tmp_path / "conv.net")
    network_of_two, _ = network("decays of one channel")
    export.save(network_of_two, tmp_path / "two.net")
    files = [tmp_path / "dense.net", tmp_path / "conv.net", tmp_path / "two.net",
             GOLDEN / "hdf5" / "rf_dense.net"]  # fmt: skip
    command = [sys.executable, HERE / "reader_fuzz.py", tmp_path, str(first), str(last), *files]
    return subprocess.Popen(
        [str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def assert_harmless(process):
    out, _ = process.communicate(timeout=600)
    assert (process.returncode, out) == (0, "")


def test_some_damaged_files(tmp_path):
    assert_harmless(fuzz(tmp_path, 0, 50))


@pytest.mark.slow
def test_many_damaged_files(tmp_path):
    for process in [fuzz(tmp_path, 0, 5000), fuzz(tmp_path, 5000, 10000)]:
        assert_harmless(process)
