"""The wheel holds every module, and works without the source tree."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from checkers import check_scripts

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings it
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# src holds a link to lapilli/, and that links to the other folders
FOLDERS = ("src", "lapilli", *(p.name for p in (ROOT / "lapilli").iterdir() if p.is_symlink()))

IMPORT_ALL = """
import importlib, json, pkgutil
import lapilli
names = ["lapilli"] + [m.name for m in pkgutil.walk_packages(lapilli.__path__, "lapilli.")]
print(json.dumps({name: importlib.import_module(name).__file__ for name in names}))
"""


def modules_in_the_tree():
    """Dotted names of all modules, from the folders."""
    names = set()
    for folder, _, files in os.walk(ROOT / "src", followlinks=True):
        for path in (Path(folder, file) for file in files if file.endswith(".py")):
            parts = path.relative_to(ROOT / "src").with_suffix("").parts
            names.add(".".join(parts).removesuffix(".__init__"))
    return names


def call(*command, cwd):
    done = subprocess.run(
        [str(c) for c in command],
        cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("wheel")
    source = tmp / "source"  # a copy: building leaves files in the tree
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignore)
    # a source distribution, and the wheel from that
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp, cwd=source)
    (file,) = tmp.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """Environment with the wheel and nothing else of lapilli; its requirements are borrowed."""
    root = tmp_path_factory.mktemp("environment")
    venv.create(root, with_pip=False)
    scripts = root / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    call(*pip, wheel, cwd=root)
    # written afterwards, or pip would take the borrowed lapilli for an older version to remove.
    # Files of type .pth in a borrowed folder do not run: an editable lapilli stays out of sight.
    site = Path(sysconfig.get_path("purelib", vars={"base": str(root), "platbase": str(root)}))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python, scripts, site


@pytest.mark.slow
def test_every_module_is_in_the_wheel_and_imports(environment, tmp_path):
    python, _, site = environment
    files = json.loads(call(python, "-P", "-c", IMPORT_ALL, cwd=tmp_path).splitlines()[-1])
    assert set(files) == modules_in_the_tree()
    outside = {n: f for n, f in files.items() if not Path(f).is_relative_to(site)}
    assert not outside
    assert (site / "lapilli" / "py.typed").is_file()
    assert (site / "lapilli" / "kernels" / "numbers" / "language.pyi").is_file()


@pytest.mark.slow
def test_command_is_installed(environment, tmp_path):
    _, scripts, _ = environment
    assert PROJECT["project"]["version"] in call(scripts / "lapilli", "info", cwd=tmp_path)


@pytest.mark.slow
def test_a_type_checker_finds_mistakes_with_the_wheel(environment, tmp_path):
    python, _, _ = environment
    check_scripts("pyright", tmp_path, python)
