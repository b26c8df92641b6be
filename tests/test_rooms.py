"""The order of the rooms, circles between modules, and the length of files."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("kernels", "neurons", "blocks", "export", "lapilli")  # the last without links to others
LONGEST = 400

# From the bottom up: a module imports from its own room and from lines above it. Rooms of one line
# do not import from each other. What no line names, a module right in lapilli/, is in USERS.
USERS = "lapilli"
ORDER = (
    ("lapilli.moved", "lapilli.errors", "lapilli.extras"),
    ("lapilli.kernels.numbers",),
    ("lapilli.kernels.executors",),
    ("lapilli.kernels.synapses",),
    ("lapilli.kernels.toolkit",),
    ("lapilli.kernels.recurrences",),
    ("lapilli.kernels.proof", "lapilli.kernels.reference"),
    ("lapilli.kernels",),
    ("lapilli.neurons",),
    ("lapilli.blocks",),
    ("lapilli.export.file",),
    ("lapilli.export.network", "lapilli.export.machine"),
    ("lapilli.export.exchange", "lapilli.export.deployment"),
    ("lapilli.export",),
    (USERS,),
    ("lapilli.recordings", "lapilli.slayer", "lapilli.benchmark"),
    ("lapilli.program",),
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}

# imports upward, each with its reason
UPWARD = {
    ("lapilli.kernels.synapses.frame", "lapilli.kernels.recurrences.delay"): (
        "one step of a layer begins with spikes that their delay hands on"
    ),
    ("lapilli.kernels.proof.standin", "lapilli.blocks.tensor_cores"): (
        "a GPU that is not there has no tensor cores either"
    ),
    ("lapilli.blocks.block", "lapilli.export"): "``export_hdf5`` is a method of lava-dl's blocks",
    ("lapilli.export.file.writer", "lapilli"): "the file says which version wrote it",
    ("lapilli.__main__", "lapilli.program.cli"): "it is the program",
}


def files():
    """Every module's file by the module's name."""
    found = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            inner = path.relative_to(ROOT)
            if folder == "lapilli" and inner.parts[1] in FOLDERS:
                continue  # a link
            name = ".".join(inner.with_suffix("").parts).removesuffix(".__init__")
            found[name if folder == "lapilli" else f"lapilli.{name}"] = path
    return found


FILES = files()


@cache
def imports():
    """Of each module the modules that it imports, anywhere in it, type checking included."""
    found = {}
    for name, path in FILES.items():
        if name == "lapilli":  # names everything, when it is asked for
            found[name] = set()
            continue
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                wanted = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                start = package.split(".")[: len(package.split(".")) + 1 - node.level]
                module = ".".join([*(start if node.level else []), *filter(None, [node.module])])
                wanted = [
                    full if (full := f"{module}.{alias.name}") in FILES else module
                    for alias in node.names
                ]
            else:
                continue
            found[name] |= {module for module in wanted if module in FILES} - {name}
    return found


def room(module):
    while module not in RANK:
        module = module.rpartition(".")[0]
    return module


def test_rooms_import_downwards():
    wrong = [
        f"{name} imports {other}"
        for name, others in imports().items()
        for other in others
        if room(name) != room(other)
        and RANK[room(other)] >= RANK[room(name)]
        and (name, other) not in UPWARD
    ]
    assert not wrong


def test_the_exceptions_are_needed():
    assert [pair for pair in UPWARD if pair[1] not in imports()[pair[0]]] == []


def test_the_reference_shares_no_code():
    """But for a setting and for what a name of a surrogate stands for."""
    reference = "lapilli.kernels.reference"
    assert {
        other
        for name, others in imports().items()
        if room(name) == reference
        for other in others
        if room(other) != reference
    } == {"lapilli.kernels.recurrences.decays", "lapilli.kernels.numbers.surrogate"}


def test_no_circles():
    """Modules that import nothing that is left are taken away, until all are gone."""
    left = {
        name: {other for other in others if (name, other) not in UPWARD}
        for name, others in imports().items()
    }
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


def test_files_are_short_or_say_why():
    others = [p for folder in ("tests", "bench") for p in (ROOT / folder).rglob("*.py")]
    paths = FILES | {p.relative_to(ROOT).as_posix(): p for p in others}
    wrong = set()
    for name, path in paths.items():
        text = path.read_text(encoding="utf-8")
        lines = len(text.splitlines())
        says_why = "lines, since" in (ast.get_docstring(ast.parse(text)) or "")
        if lines > LONGEST and not says_why:
            wrong.add(name)
    assert not wrong, "split them by theme, or say in the docstring why they are long"
