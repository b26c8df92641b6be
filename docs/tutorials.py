"""Turn the scripts of ``examples/tutorials`` into pages, with what they print and draw.

A script is plain Python: its docstring is the title and an introduction, a comment that starts
with ``# %%`` is text in Markdown, and what follows is code. It writes its pictures into the
current folder. Each script runs in a process of its own; a page is made again when its script or
the library changes.
"""

import concurrent.futures
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lapilli.extras import MissingExtraError

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "examples" / "tutorials"
PAGES = ROOT / "docs" / "tutorials"
_LIBRARY = ("kernels", "neurons", "blocks", "export", "lapilli")


@dataclass
class Tutorial:
    """A script taken apart: ``cells`` are texts and the code below each."""

    title: str
    introduction: str
    cells: list[tuple[str, str]]


def read(script: Path) -> Tutorial:
    """Take a script apart; code keeps the line numbers of the file."""
    source = script.read_text(encoding="utf-8")
    found = re.match(r'"""(.*?)"""\n', source, flags=re.S)
    if found is None:
        raise ValueError(f"{script} has no docstring; its first line is the title of the page")
    title, _, introduction = found[1].partition("\n")
    line = found[0].count("\n")
    cells: list[tuple[str, str]] = []
    for part in re.split(r"(?m)^(?=# %%)", source[found.end() :]):
        lines = part.split("\n")
        texts = 0
        if part.startswith("# %%"):
            texts = next((i for i, a in enumerate(lines) if not a.startswith("#")), len(lines))
        text = "\n".join(a.removeprefix("# %%").removeprefix("#").strip() for a in lines[:texts])
        code = "\n" * (line + texts) + "\n".join(lines[texts:])
        if text.strip() or code.strip():
            cells.append((text.strip(), code))
        line += len(lines) - 1
    return Tutorial(title.rstrip("."), introduction.strip(), cells)


def execute(script: Path) -> list[dict]:
    """Run a script in the current folder; returns what each cell printed and drew."""
    names = {"__name__": "__main__", "__file__": str(script)}
    found = []
    before: dict[Path, int] = {}
    for _, code in read(script).cells:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, str(script), "exec"), names)
        now = {path: path.stat().st_mtime_ns for path in sorted(Path().glob("*.png"))}
        drawn = [path.name for path in now if before.get(path) != now[path]]
        found.append({"printed": printed.getvalue(), "drawn": drawn})
        before = now
    return found


def page(script: Path, found: list[dict] | None, lacking: str = "") -> str:
    """Write a tutorial as Markdown, with its output; without, it says what was lacking."""
    tutorial = read(script)
    parts = [f"# {tutorial.title}", tutorial.introduction]
    if found is None:
        parts.append(f"**This page was built without running its script**: {lacking}.")
        found = [{"printed": "", "drawn": []}] * len(tutorial.cells)
    for (text, code), output in zip(tutorial.cells, found, strict=True):
        parts.append(text)
        if code.strip():
            parts.append(f"```python\n{code.strip()}\n```")
        if output["printed"].strip():
            parts.append(
                f"```{{code-block}} text\n:class: output\n\n{output['printed'].rstrip()}\n```"
            )
        parts += [f"![{name}]({script.stem}/{name})" for name in output["drawn"]]
    where = f"../../{script.relative_to(ROOT)}"
    parts.append(f"This page is the script [{script.name}]({where}) and what it printed and drew.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _key(script: Path) -> str:
    files = [script, Path(__file__)]
    for folder in _LIBRARY:
        files += sorted((ROOT / folder).rglob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def make(script: Path, folder: Path = PAGES) -> Path:
    """Run a script, if it has not been run since something changed, and write its page.

    Where the script needs a package that is not installed, the page says so and has no output.

    Raises
    ------
    RuntimeError
        If the script fails, with what it said.
    """
    target, key = folder / f"{script.stem}.md", _key(script)
    made = folder / script.stem / "key"
    if target.exists() and made.exists() and made.read_text() == key:
        return target
    shutil.rmtree(made.parent, ignore_errors=True)
    made.parent.mkdir(parents=True)
    # one thread: the last bits of sums, and so the numbers on the page, depend on their number
    done = subprocess.run(
        [sys.executable, __file__, str(script)], cwd=made.parent, capture_output=True, text=True,
        encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    last = done.stderr.rstrip().rpartition("\n")[2]
    lacking = done.returncode != 0 and MissingExtraError.__name__ in last.partition(":")[0]
    if done.returncode and not lacking:
        raise RuntimeError(f"{script} failed:\n{done.stderr}")
    found = None if lacking else json.loads(done.stdout.splitlines()[-1])
    text = page(script, found, last.partition(": ")[2])
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")
    if not lacking:
        made.write_text(key)
    return target


def make_all() -> None:
    """Make the pages of all scripts, several at a time."""
    scripts = sorted(SCRIPTS.glob("*.py"))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(make, scripts))


if __name__ == "__main__":
    print(json.dumps(execute(Path(sys.argv[1]))))  # noqa: T201 (read by ``make``)
