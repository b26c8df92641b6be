"""A neuron is four files and two rows: a plain LIF joins the others, in a copy of the tree.

The files are in ``eighth/``, where they would be in the tree. What every neuron is tested with then
finds it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = Path(__file__).parent / "eighth"
# of each table the line that a row comes behind, and the row
ROWS = {
    "export/file/tables.py": (
        "FAMILIES: dict[str, Family] = {\n",
        '    "lif": Family("LIF", {"vDecay": "voltage_decay"}, states=1),\n',
    ),
    "export/file/netx.py": (
        "CAUSES = (\n",
        '    Cause("netx has no LIF neuron", "cuba", "use cuba with current_decay=1",\n'
        '          lambda l: _of(l, "lif")),\n',
    ),
}
COPIED = ("kernels", "neurons", "blocks", "export", "lapilli", "src", "bench", "tests")

USE = """
import torch
from lapilli import blocks, export
from lapilli.blocks import lif
from lapilli.benchmark.neurons import ARGUMENTS, parts
from lapilli.kernels.proof import catalogue

assert parts("lif") == 1
assert "lif" in ARGUMENTS
assert "lif" in catalogue.names()
torch.manual_seed(0)
net = torch.nn.Sequential(
    lif.Dense(dict(threshold=1, voltage_decay=0.1), 6, 5, weight_scale=3),
    blocks.lif.Dense(dict(threshold=1, voltage_decay=0.1), 5, 4, weight_scale=3),
).eval()
x = (torch.rand(2, 6, 40) < 0.4).float()
spikes = net(x)
assert 0 < spikes.mean() < 1
export.save(net, "network.net", target="lapilli")
assert torch.equal(export.load("network.net")(x), spikes)
(found,) = {f.problem for f in export.check("network.net") if "LIF" in f.problem}
assert found == "netx has no LIF neuron"
assert {layer.states for layer in export.budget("network.net").layers} == {1}
try:
    export.run("network.net", x.numpy())
except ValueError as error:
    assert "LIF, which has no integer form" in str(error)
else:
    raise AssertionError("it ran as another neuron")
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Copy the tree, add the files and the rows."""
    copy = tmp_path_factory.mktemp("tree")
    skipped = shutil.ignore_patterns("__pycache__", "results")
    for name in COPIED:
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=skipped)
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy(ROOT / name, copy / name)
    shutil.copytree(FILES, copy, dirs_exist_ok=True)
    for name, (before, row) in ROWS.items():
        path = copy / name
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1
        path.write_text(text.replace(before, before + row), encoding="utf-8")
    return copy


def python(tree, *arguments, **environment):
    """Run Python in the copy; return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tree, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(tree / "src"), "PYTEST_ADDOPTS": ""} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_the_page_lists_these_rows():
    page = (ROOT / "docs" / "adding-a-neuron.md").read_text(encoding="utf-8")
    section = page.partition("## Rows\n")[2].partition("\n## ")[0]
    tables = re.findall(r"^\| `\w+` of \[(\S+)\]", section, flags=re.M)
    assert tables == [*ROWS]


def test_there_are_four_files():
    assert sorted(p.relative_to(FILES).as_posix() for p in FILES.rglob("*.py")) == [
        "blocks/lif.py", "kernels/recurrences/lif.py", "kernels/reference/lif.py", "neurons/lif.py",
    ]  # fmt: skip


@pytest.mark.slow
def test_it_is_used_as_the_others(tree, tmp_path):
    python(tree, "-c", f"import os; os.chdir({str(tmp_path)!r})\n{USE}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "at_least", "chosen"),
    [
        ("tests/kernels/test_recurrences.py", 60, "lif and not ragged"),
        ("tests/kernels/test_aot.py", 1, "lif and sm_90 and learned and not dynamics"),
        ("tests/kernels/test_catalogue.py", 1, "every_kernel_is_listed"),
        ("tests/neurons", 60, "lif"),
        ("tests/blocks/test_every_block.py", 60, "lif"),
        ("tests/bench/test_measure.py", 3, "lif"),
    ],
)  # fmt: skip
def test_what_tests_all_tests_it(tree, file, at_least, chosen):
    options = "-p", "no:cacheprovider", "--no-header", "-k", chosen
    slow = "0" if file == "tests/neurons" else "1"  # of others few are quick
    printed = python(tree, "-m", "pytest", file, *options, LAPILLI_SLOW=slow, LAPILLI_TURN="")
    passed = re.search(r"(\d+) passed", printed)
    assert passed, printed
    assert int(passed[1]) >= at_least, printed
