"""lava-dl's own unit tests and recorded spikes, where its wheel is at hand.

pip download lava-dl==0.6.0 --no-deps --ignore-requires-python
unzip lava_dl-0.6.0-py3-none-any.whl -d FOLDER
LAPILLI_LAVA_DL=FOLDER pytest tests/slayer/test_lava_dl.py
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from known import present

from lapilli import slayer

FOLDER = Path(os.environ.get("LAPILLI_LAVA_DL", "")) / "tests/lava/lib/dl"
pytestmark = pytest.mark.skipif(
    "LAPILLI_LAVA_DL" not in os.environ, reason="needs lava-dl's wheel in LAPILLI_LAVA_DL"
)


def test_unit_tests_of_lava_dl(tmp_path):
    """All but those that run Lava (block) or detect objects, through the alias."""
    for name in ("test_io.py", "test_loss.py", "neuron", "utils"):
        copy = shutil.copytree if (FOLDER / "slayer" / name).is_dir() else shutil.copy
        copy(FOLDER / "slayer" / name, tmp_path / name)
    for package in tmp_path.rglob("__init__.py"):
        package.unlink()
    (tmp_path / "conftest.py").write_text("from lapilli import slayer\nslayer.install_alias()\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "."],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(present(re.search(r"(\d+) passed", done.stdout))[1]) >= 88


def test_ntidigits_gives_the_spikes_that_netx_recorded():
    """Three layers with axonal delays; netx is a step behind, as the file starts with Input."""
    folder = FOLDER / "netx/gts/ntidigits"
    net = slayer.auto.SequentialNetwork(folder / "ntidigits.net")
    spikes = torch.from_numpy(np.load(folder / "input.npy")).float().view(1, 1, 1, 64, -1)
    with torch.no_grad():
        for block in net.blocks[:5]:  # not the average
            spikes = block(spikes)
    recorded = np.load(folder / "output.npy")
    assert recorded.sum() == 22572
    np.testing.assert_array_equal(spikes[0, :, :-1].numpy(), recorded[:, 1:])


@pytest.mark.parametrize(
    "name", ["mnist.net", "tiny.net", "gts/pilotnet_lif/network.net",
             "gts/pilotnet_sdnn/network.net", "gts/pilotnet_sdnn/square_network.net"]
)  # fmt: skip
def test_network_files_of_lava_dl_load_and_run(name):
    net: Any = slayer.auto.SequentialNetwork(FOLDER / "netx" / name)
    output = net(torch.rand(1, *net.blocks[0].shape, 4))
    assert output.shape[-1] == 4
    assert output.isfinite().all()
