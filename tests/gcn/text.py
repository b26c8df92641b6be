"""AMD assembly as instructions: one regular grammar, and an error for all that does not fit it."""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

# registers with names lie behind the numbered ones
VCC, M0, EXEC = 106, 124, 126


class Operand(NamedTuple):
    """A register, or several from it on, or a constant."""

    kind: str  # s, v, constant, off
    number: int  # of the first register; bits of a constant
    count: int = 1
    negated: bool = False
    absolute: bool = False
    is_float: bool = False  # a constant with a point


@dataclass(frozen=True)
class Instruction:
    """One instruction; ``modifiers`` are what stands behind the operands."""

    op: str
    operands: tuple[Operand, ...]
    modifiers: dict[str, tuple[int, ...]]
    target: str  # of a branch
    text: str
    source: str  # file and line of the Triton code it comes from

    def __str__(self) -> str:
        return f"{self.text}  ({self.source})"


@dataclass
class Kernel:
    """A kernel of an assembly text."""

    name: str
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    settings: dict[str, int] = field(default_factory=dict)  # .amdhsa_ directives
    arguments: list[tuple[int, int]] = field(default_factory=list)  # offset and size in bytes


class GcnError(Exception):
    """What the executor does not know; nothing is guessed."""


_INSTRUCTION = re.compile(r"\s+([a-z]+_\w+)(?:\s+(.*))?")
_REGISTERS = re.compile(r"(-?)(\|?)([sv])(?:(\d+)|\[(\d+):(\d+)\])\|?")
_MODIFIER = re.compile(r"\b([a-z]\w*):(?:\[([\d,]+)\]|(0x[0-9a-f]+|\d+))")
_WAIT = re.compile(r"(vmcnt|lgkmcnt)\((\d+)\)")
_NAMED = {"vcc": (VCC, 2), "exec": (EXEC, 2), "m0": (M0, 1)}
_FLOATS = {
    "0.5": 0x3F000000, "-0.5": 0xBF000000, "1.0": 0x3F800000, "-1.0": 0xBF800000,
    "2.0": 0x40000000, "-2.0": 0xC0000000, "4.0": 0x40800000, "-4.0": 0xC0800000,
}  # fmt: skip


def parse(text: str) -> Kernel:
    """Parse the assembly of one kernel, as Triton makes it.

    Raises
    ------
    GcnError
        For anything else.
    """
    names = re.findall(r"^\t\.type\t(\w+),@function", text, re.M)
    if len(names) != 1:
        raise GcnError(f"expected one kernel; found {names}")
    kernel = Kernel(names[0])
    kernel.settings = {n: int(v) for n, v in re.findall(r"^\s+\.amdhsa_(\w+) (\d+)$", text, re.M)}
    description = text.partition("amdhsa.kernels:")[2]
    kernel.arguments = [
        (int(offset), int(size))
        for offset, size in re.findall(r"\.offset:\s+(\d+)\s+\.size:\s+(\d+)", description)
    ]
    files = dict(re.findall(r'^\s*\.file\s+(\d+)\s+"[^"]*"\s+"([^"]+)"', text, re.M))
    source = ""
    body = text.partition(f"\n{kernel.name}:")[2].partition("\t.section")[0]
    for line in body.splitlines()[1:]:
        line = line.partition(";")[0].partition("//")[0].rstrip()
        if found := re.match(r"\s+\.loc\s+(\d+) (\d+)", line):
            source = f"{files.get(found[1], 'file ' + found[1])}:{found[2]}"
        elif found := re.fullmatch(r"(\.L\w+):", line):
            kernel.labels[found[1]] = len(kernel.code)
        elif line.strip() and not re.match(r"\s+\.(file|p2align|cfi_\w+|fill)\b", line):
            kernel.code.append(_instruction(line, source))
    return kernel


def _instruction(line: str, source: str) -> Instruction:
    found = _INSTRUCTION.fullmatch(line)
    if not found:
        raise GcnError(f"no instruction: {line.strip()}")
    op, rest = found[1], found[2] or ""
    text = " ".join(line.split())
    if op == "s_waitcnt":
        counts = {name: (int(n),) for name, n in _WAIT.findall(rest)}
        if not counts or _WAIT.sub("", rest).strip(" &"):
            raise GcnError(f"operands of: {text}")
        return Instruction(op, (), counts, "", text, source)
    if op.startswith(("s_branch", "s_cbranch")):
        return Instruction(op, (), {}, rest.strip(), text, source)
    modifiers = {
        name: tuple(int(n) for n in several.split(",")) if several else (int(one, 0),)
        for name, several, one in _MODIFIER.findall(rest)
    }
    pieces = _MODIFIER.sub("", rest).strip()
    operands = [_operand(p.strip(), text) for p in pieces.split(",")] if pieces else []
    return Instruction(op, tuple(operands), modifiers, "", text, source)


def _operand(piece: str, text: str) -> Operand:
    if found := _REGISTERS.fullmatch(piece):
        minus, bar, kind, one, first, last = found.groups()
        number = int(one or first)
        count = 1 if one else int(last) - number + 1
        return Operand(kind, number, count, bool(minus), bool(bar))
    if piece in _NAMED:
        return Operand("s", *_NAMED[piece])
    if piece == "off":
        return Operand("off", 0)
    if piece in _FLOATS:
        return Operand("constant", _FLOATS[piece], is_float=True)
    if re.fullmatch(r"-?(\d+|0x[0-9a-f]+)", piece):
        return Operand("constant", int(piece, 0))
    raise GcnError(f"operand {piece!r} of: {text}")
