"""Network files against lava-dl: the same datasets, and its files run as its networks do."""

import h5py
import numpy as np
import pytest
import torch
from golden_cases import GOLDEN, build, cases, run, way_name
from lapilli.export import load, save

pytestmark = pytest.mark.filterwarnings("ignore::lapilli.export.NetxCompatibilityWarning")

WRITTEN = [c for c in cases("block") if any(c.of_role("hdf5"))]
FILES = [c for c in cases("export") if c.hdf5]


def datasets(group: h5py.Group) -> dict[str, np.ndarray | str]:
    """Datasets below a group by path; strings of every kind as str."""
    found = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            value = np.asarray(item[()])
            found[name] = value if value.dtype.kind in "fib" else value.item().decode()

    group.visititems(visit)
    return found


def same_datasets(got: dict, want: dict) -> None:
    assert sorted(got) == sorted(want)
    for name, value in want.items():
        if isinstance(value, str):
            assert got[name] == value, name
        else:
            np.testing.assert_array_equal(got[name], value, strict=True, err_msg=name)


def scalars(datasets: dict, layer: str) -> dict:
    """Weight and bias of an Input, which lava-dl writes with shape (1,), as netx needs them."""
    names = (f"{layer}weight", f"{layer}bias")
    return {k: v.reshape(()) if k in names else v for k, v in datasets.items()}


@pytest.mark.parametrize("case", WRITTEN, ids=way_name)
def test_block_writes_what_lava_dl_writes(case):
    block, _ = run(case)
    with h5py.File(f"{case.name}.net", "w", driver="core", backing_store=False) as file:
        block.export_hdf5(file)
        got = datasets(file)
    want = {k.removeprefix("hdf5/"): case.arrays[k].numpy() for k in case.of_role("hdf5")}
    if case.target.endswith("Input"):
        want = scalars(want, "")
    same_datasets(got, want | case.hdf5_strings)


@pytest.mark.parametrize("case", FILES, ids=way_name)
def test_network_writes_what_lava_dl_writes(case, tmp_path):
    network, _ = run(case)
    save(network.blocks, tmp_path / "net")
    with h5py.File(tmp_path / "net") as file, h5py.File(GOLDEN / case.hdf5) as golden:
        got, want = datasets(file), datasets(golden)
    for k, block in enumerate(case.blocks):
        if block["target"].endswith("Input"):
            want = scalars(want, f"layer/{k}/")
    same_datasets(got, want)


@pytest.mark.parametrize("case", FILES, ids=way_name)
def test_files_of_lava_dl_run_as_its_networks(case):
    network = load(GOLDEN / case.hdf5)
    with torch.no_grad():
        y = network(case.arrays["c0/in/x"])
    torch.testing.assert_close(y, case.arrays["c0/out/y"], rtol=0, atol=0)


@pytest.mark.parametrize("case", FILES, ids=way_name)
def test_saved_networks_run_as_before(case, tmp_path):
    network = build(case)
    x = case.arrays["c0/in/x"]
    with torch.no_grad():
        y = network(x)
        save(network.blocks, tmp_path / "net")
        torch.testing.assert_close(load(tmp_path / "net")(x), y, rtol=0, atol=0)
