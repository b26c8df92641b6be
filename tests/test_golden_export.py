"""Network files against lava-dl: the same datasets, and its files run as its networks do.

docs/network-files.md explains the differences that stand here.
"""

import h5py
import numpy as np
import pytest
import torch
from golden_cases import GOLDEN, cases, way_name
from golden_runs import build, run
from lapilli.export import load, save

pytestmark = [
    pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning"),
    pytest.mark.filterwarnings("ignore::lapilli.export.QuantisationWarning"),
]

BLOCKS = [c for c in cases("block") if any(c.of_role("hdf5"))]
NETWORKS = [c for c in cases("export") if c.hdf5]
WRITTEN = [c for c in NETWORKS if "kwta" not in c.name]  # lava-dl's KWTA group is empty


def datasets(group):
    """Datasets below a group by path; strings of every kind as str."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            value = np.asarray(item[()])
            found[name] = value if value.dtype.kind in "fib" else value.item().decode()

    group.visititems(visit)
    return found


def as_lapilli(golden, layer, is_input):
    """What lapilli writes in place of lava-dl's datasets of a layer."""
    golden = {k: v + np.float32(0) if k.endswith("bias") else v for k, v in golden.items()}  # no -0
    if is_input:  # scalars, as netx needs them under NumPy 2.4
        names = (f"{layer}weight", f"{layer}bias")
        golden = {k: v.reshape(()) if k in names else v for k, v in golden.items()}
    return golden


def norms_of_complex_neurons(case, block):
    """The norms that lava-dl leaves out of the file."""
    extra = {}
    for part in ("real", "imag"):
        norm = getattr(getattr(block, "neuron", None), f"{part}_norm", None)
        if norm is None:
            continue
        extra[f"lapilli/bias/{part}"] = norm.bias.numpy() + np.float32(0)
        if "norm_wgt" in case.name:
            extra[f"lapilli/neuron/weight_exp/{part}"] = norm.weight_exp.numpy()
    return extra


def assert_same(got, want):
    assert sorted(got) == sorted(want)
    for name, value in want.items():
        if isinstance(value, str):
            assert got[name] == value, name
        else:
            np.testing.assert_array_equal(got[name], value, strict=True, err_msg=name)


@pytest.mark.parametrize("case", BLOCKS, ids=way_name)
def test_block_writes_what_lava_dl_writes(case):
    block = build(case)
    if block.shape is None:
        block, _ = run(case)
    with h5py.File(f"{case.name}.net", "w", driver="core", backing_store=False) as file:
        block.export_hdf5(file)
        got = datasets(file)
    want = {k.removeprefix("hdf5/"): case.arrays[k].numpy() for k in case.of_role("hdf5")}
    want = as_lapilli(want, "", case.target.endswith("Input")) | case.hdf5_strings
    assert_same(got, want | norms_of_complex_neurons(case, block))


@pytest.mark.parametrize("case", WRITTEN, ids=way_name)
def test_network_writes_what_lava_dl_writes(case, tmp_path):
    network, _ = run(case)
    save(network.blocks, tmp_path / "net")
    with h5py.File(tmp_path / "net") as file, h5py.File(GOLDEN / case.hdf5) as golden:
        got, want = datasets(file), datasets(golden)
    for k, block in enumerate(case.blocks):
        want = as_lapilli(want, f"layer/{k}/", block["target"].endswith("Input"))
    assert_same(got, want)


@pytest.mark.parametrize("case", WRITTEN, ids=way_name)
def test_files_of_lava_dl_run_as_its_networks(case):
    network = load(GOLDEN / case.hdf5)
    with torch.no_grad():
        y = network(case.arrays["c0/in/x"])
    torch.testing.assert_close(y, case.arrays["c0/out/y"], rtol=0, atol=0)


@pytest.mark.parametrize("case", NETWORKS, ids=way_name)
def test_saved_networks_run_as_before(case, tmp_path):
    network = build(case)
    x = case.arrays["c0/in/x"]
    with torch.no_grad():
        y = network(x)
        save(network.blocks, tmp_path / "net", target="lapilli")
        torch.testing.assert_close(load(tmp_path / "net")(x), y, rtol=0, atol=0)
