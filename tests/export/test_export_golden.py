"""Files of lapilli and of lava-dl hold the same datasets, and each loads with the same spikes."""

import h5py
import numpy as np
import pytest
import torch
from export_trees import datasets
from golden_cases import GOLDEN, build, cases, run, way_name

from lapilli import export

pytestmark = pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning")

NETWORKS = cases("export")
WRITTEN = [c for c in NETWORKS if c.hdf5 and "kwta" not in c.name]  # lava-dl's KWTA group is empty
BLOCKS = [c for c in cases("block") if any(k.startswith("hdf5/") for k in c.entries)]


def compared(data, own_scalars):
    """Datasets without what lapilli means to write differently.

    Input weight and bias are scalars, which netx needs under NumPy 2.4, and zero has no sign.
    """
    result = {}
    for name, value in data.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            value = value + np.float32(0)
        if name in own_scalars and np.shape(value) == (1,):
            value = np.reshape(value, ())
        result[name] = value
    return result


def assert_same_datasets(ours, theirs, own_scalars):
    ours, theirs = compared(ours, own_scalars), compared(theirs, own_scalars)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, name)
        assert np.shape(ours[name]) == np.shape(value), name
        assert np.asarray(ours[name]).dtype == np.asarray(value).dtype, name


@pytest.mark.parametrize("case", WRITTEN, ids=way_name)
def test_file_equals_that_of_lava_dl(case, tmp_path):
    net, _ = run(case)
    export.save(net, tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net") as ours, h5py.File(GOLDEN / case.hdf5) as theirs:
        inputs = [n for n, g in ours["layer"].items() if g["type"][0] == b"input"]
        scalars = {f"layer/{n}/{name}" for n in inputs for name in ("weight", "bias")}
        assert_same_datasets(datasets(ours), datasets(theirs), scalars)


@pytest.mark.parametrize("case", WRITTEN, ids=way_name)
def test_file_of_lava_dl_loads_with_its_spikes(case):
    net = export.load(GOLDEN / case.hdf5)
    torch.testing.assert_close(net(case.arrays["c0/in/x"]), case.arrays["c0/out/y"], rtol=0, atol=0)


@pytest.mark.parametrize("case", NETWORKS, ids=way_name)
def test_saved_network_loads_with_the_spikes_of_lava_dl(case, tmp_path):
    net, _ = run(case)
    export.save(net, tmp_path / "a.net", target="lapilli")
    loaded = export.load(tmp_path / "a.net")
    torch.testing.assert_close(
        loaded(case.arrays["c0/in/x"]), case.arrays["c0/out/y"], rtol=0, atol=0
    )


@pytest.mark.filterwarnings("ignore::lapilli.export.QuantisationWarning")
@pytest.mark.parametrize("case", BLOCKS, ids=way_name)
def test_block_equals_that_of_lava_dl(case):
    module = build(case)
    if module.shape is None:
        module, _ = run(case)
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        module.export_hdf5(file.create_group("layer/0"))
        ours = datasets(file["layer/0"])
    theirs = {
        k.removeprefix("hdf5/"): v.numpy() for k, v in case.arrays.items() if k.startswith("hdf5/")
    }
    strings = dict(case.hdf5_strings or {})
    assert ours.pop("type")[0].decode() == strings.pop("type")
    for name, text in strings.items():
        assert ours.pop(name).decode() == text
    scalars = {"weight", "bias"} if ".Input." in case.name else set()
    assert_same_datasets(ours, theirs, scalars)
