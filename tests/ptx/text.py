"""PTX as instructions: one regular grammar, and an error for all that does not fit it."""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

SIZES = {"pred": 1, "b8": 1, "b16": 2, "b32": 4, "b64": 8, "u32": 4, "u64": 8, "f32": 4, "f64": 8}


class Address(NamedTuple):
    """``[base + offset]``; the base is a register or a name."""

    base: str
    offset: int


Operand = str | int | Address | tuple["Operand", ...]


@dataclass(frozen=True)
class Instruction:
    """One instruction; ``guard`` is the predicate without which a thread leaves it out."""

    op: str
    operands: tuple[Operand, ...]
    guard: str | None
    negated: bool
    text: str
    source: str  # file and line of the Triton code it comes from

    def __str__(self) -> str:
        return f"{self.text}  ({self.source})"


@dataclass
class Kernel:
    """An entry of a PTX module."""

    name: str
    params: list[tuple[str, str]]  # (name, type)
    threads: int
    classes: dict[str, str] = field(default_factory=dict)  # type of the registers of a prefix
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)

    def register_type(self, name: str) -> str:
        """Return the type that a register is declared with."""
        return self.classes[re.sub(r"\d+$", "", name)]


class PtxError(Exception):
    """What the executor does not know; nothing is guessed."""


_ENTRY = re.compile(r"\.visible \.entry (\w+)\(\n(.*?)\n\)\n(.*?)\n\{\n(.*?)\n\}\n", re.S)
_PARAM = re.compile(r"\.param \.(\w+)(?: \.ptr \.global \.align \d+)? (\w+)")
_HEADER = re.compile(
    r"\s*(\.version .*|\.target .*|\.address_size 64|\.extern \.shared \.align 16 \.b8 \w+\[\];"
    r"|\.global \.align 1 \.b8 [\w$]+\[\d+\] = \{.*\};)?\s*"
)
_STATEMENT = re.compile(r"(?:@(!?)(%\w+)\s+)?([a-z][\w.:]*)(?:\s+(.*))?", re.S)
_OPERAND = re.compile(
    r"\s*(?:\{(?P<vector>[^}]*)\}|\[\s*(?P<base>[%\w.$]+)\s*(?:\+\s*(?P<offset>-?\d+))?\s*\]"
    r"|(?P<float>0[fF][0-9A-Fa-f]{8})|(?P<integer>-?(?:0x[0-9A-Fa-f]+|\d+)U?)"
    r"|(?P<name>[%$\w.]+(?:\|%\w+)?))\s*(?:,|$)"
)


def parse(ptx: str) -> Kernel:
    """Parse a module with one entry, as Triton makes it.

    Raises
    ------
    PtxError
        For anything else.
    """
    files = dict(re.findall(r'^\s*\.file\s+(\d+)\s+"(?:[^"]*/)?([^"/]+)"', ptx, re.M))
    ptx = ptx.partition("\n\t.file")[0].partition("\n\t.section")[0]
    text = re.sub(r"//[^\n]*", "", ptx) + "\n"
    text = re.sub(r"[ \t]+\n", "\n", text)
    entries = list(_ENTRY.finditer(text))
    if len(entries) != 1:
        raise PtxError(f"expected one entry; found {len(entries)}")
    (entry,) = entries
    for line in (text[: entry.start()] + text[entry.end() :]).splitlines():
        if not _HEADER.fullmatch(line):
            raise PtxError(f"outside of the entry: {line.strip()}")
    params = [(name, kind) for kind, name in _PARAM.findall(entry[2])]
    if len(params) != entry[2].count(".param"):
        raise PtxError(f"parameters: {entry[2]}")
    directives = entry[3].split("\n")
    known = [re.fullmatch(r"\.(reqntid|maxnreg) (\d+)", d) for d in directives]
    if not all(known):
        raise PtxError(f"directives: {entry[3]}")
    sizes = {d[1]: int(d[2]) for d in known if d}
    kernel = Kernel(entry[1], params, sizes["reqntid"])
    _read_body(kernel, entry[4], files)
    return kernel


def _read_body(kernel: Kernel, body: str, files: dict[str, str]) -> None:
    source = ""
    for piece in re.split(r";|\n(?=\s*\.loc)|(?<=:)\n", body):
        lines = []
        for line in piece.split("\n"):
            if found := re.match(r"\s*\.loc\s+(\d+) (\d+)", line):
                source = f"{files.get(found[1], 'file ' + found[1])}:{found[2]}"
            elif found := re.fullmatch(r"\s*(\$\w+):", line):
                kernel.labels[found[1]] = len(kernel.code)
            elif line.strip():
                lines.append(line.strip())
        statement = " ".join(lines)
        if not statement:
            continue
        if found := re.fullmatch(r"\.reg \.(\w+)\s+(%\w+)<\d+>", statement):
            kernel.classes[found[2]] = found[1]
        elif statement.startswith(".pragma"):
            continue
        else:
            kernel.code.append(_instruction(statement, source))


def _instruction(statement: str, source: str) -> Instruction:
    found = _STATEMENT.fullmatch(statement)
    if not found:
        raise PtxError(f"no instruction: {statement}")
    negated, guard, op, rest = found.groups()
    operands = tuple(_operands(rest or "", statement))
    return Instruction(op, operands, guard, negated == "!", " ".join(statement.split()), source)


def _operands(text: str, statement: str) -> list[Operand]:
    found: list[Operand] = []
    at = 0
    while at < len(text.rstrip()):
        one = _OPERAND.match(text, at)
        if not one:
            raise PtxError(f"operands of: {statement}")
        at = one.end()
        if one["vector"] is not None:
            found.append(tuple(_operands(one["vector"], statement)))
        elif one["base"]:
            found.append(Address(one["base"], int(one["offset"] or 0)))
        elif one["float"]:
            found.append(int(one["float"][2:], 16))
        elif one["integer"]:
            found.append(int(one["integer"].rstrip("U"), 0))
        else:
            found.append(one["name"])
    return found
