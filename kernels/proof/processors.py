"""What can be known of a CPU loop on a processor that is not here: its machine code.

    code = compile_for(intermediate, "aarch64")
    code.vectorised, code.fused, code.calls

LLVM compiles for any processor on any other. ``compile_for`` takes a loop as Numba hands it to
LLVM, the ``inspect_llvm`` of a process with ``SETTINGS``, and does what Numba does with it on a
processor: the same passes with the same options, down to assembly. Nothing is run.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm

# Numba's environment: compile for no processor in particular, and leave the code as it is written
SETTINGS = {
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_CPU_FEATURES": "",
    "NUMBA_OPT": "0",
    "NUMBA_LOOP_VECTORIZE": "0",
}


@dataclass(frozen=True)
class Processor:
    """A kind of processor, by the names that LLVM has for it."""

    triple: str
    cpu: str


PROCESSORS = {
    "aarch64": Processor("aarch64-unknown-linux-gnu", "generic"),  # every one: ARMv8-A with NEON
    "x86-64": Processor("x86_64-unknown-linux-gnu", "x86-64"),  # every one: SSE2
    "haswell": Processor("x86_64-unknown-linux-gnu", "haswell"),  # AVX2
    "znver2": Processor("x86_64-unknown-linux-gnu", "znver2"),  # AVX2, of AMD
    "x86-64-v4": Processor("x86_64-unknown-linux-gnu", "x86-64-v4"),  # AVX-512
}

# instructions by what they do; what only moves, as loads and shuffles do, is none of them
_PACKED = {
    "aarch64": re.compile(
        r"(?:f(?:add|sub|mul|div|sqrt|abs|neg|cm\w+|min\w*|max\w*|ml[as]|cvt\w+|rint\w+)|[su]cvtf"
        r"|add|sub|mul|ml[as]|neg|abs|cm\w+|[su]?shl\w*|[su]shr\w*|[su](?:min|max)|[su]addw\d?|cnt)"
        r"\s+v\d+\.\d+[bhsd]"
    ),
    "x86_64": re.compile(
        r"v?(?:(?:add|sub|mul|div|sqrt|min|max|cmp\w*|round|rndscale|fn?m(?:add|sub)\d+)p[sd]"
        r"|cvt(?:t?p[sd]2\w+|dq2p[sd])|p(?:add|sub|mul|min|max|cmp|sll|srl|sra|abs)\w*)\s"
    ),
}
_SINGLE = {
    "aarch64": re.compile(r"f(?:n?mul|add|sub|div|sqrt|min\w*|max\w*|n?m(?:add|sub))\s+[sd]\d"),
    "x86_64": re.compile(r"v?(?:add|sub|mul|div|sqrt|min|max|fn?m(?:add|sub)\d+)s[sd]\s"),
}
_FUSED = {
    "aarch64": re.compile(r"(?:fn?m(?:add|sub)|fml[as])\s"),
    "x86_64": re.compile(r"vfn?m(?:add|sub)\w*\s"),
}
_CALL = {
    "aarch64": re.compile(r"bl?\s+([A-Za-z_][\w.$]*)$"),
    "x86_64": re.compile(r"(?:callq?|jmpq?)\s+\*?([A-Za-z_][\w.$]*)(?:@[\w]+(?:\(%rip\))?)?$"),
}
_BRANCH = {
    "aarch64": re.compile(r"(?:b(?:\.\w+)?|cbn?z|tbn?z)\s+(?:[^,]+,\s*)*(\.L\w+)$"),
    "x86_64": re.compile(r"j\w+\s+(\.L\w+)$"),
}


@dataclass(frozen=True)
class Loop:
    """An innermost loop of machine code: how many instructions of each sort it has."""

    packed: int  # arithmetic on several numbers at once
    single: int  # arithmetic on one float


@dataclass(frozen=True)
class Code:
    """The machine code of a CPU loop.

    Attributes
    ----------
    assembly
        Its text.
    vectorised
        How many loops LLVM made work on several numbers at once, before it chose instructions.
    loops
        The innermost loops of the machine code.
    fused
        How many instructions multiply and add with one rounding.
    calls
        Names of the functions that are called.
    """

    assembly: str
    vectorised: int
    loops: tuple[Loop, ...]
    fused: int
    calls: frozenset[str]

    @property
    def vector_loops(self) -> int:
        """How many innermost loops compute on several numbers at once, and on no float alone."""
        return sum(loop.packed > 0 and loop.single == 0 for loop in self.loops)


@functools.cache
def _machine(processor: Processor) -> Any:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(processor.triple)
    return target.create_target_machine(
        cpu=processor.cpu, opt=3, reloc="pic", codemodel="default"
    )  # fmt: skip


def compile_for(intermediate: str, name: str) -> Code:
    """Compile a loop for one of ``PROCESSORS``, of its intermediate code in LLVM's language.

    It needs llvmlite 0.44 or later, which Numba 0.61 brings.
    """
    # not at the top: lapilli runs with Numba 0.60, and imports every module with it
    from llvmlite.binding.newpassmanagers import PassBuilder, PipelineTuningOptions

    processor = PROCESSORS[name]
    machine = _machine(processor)
    module = llvm.parse_assembly(_retargeted(intermediate, processor.triple, machine.target_data))
    module.verify()
    # as Numba's CPUCodeLibrary does: inline, drop counts of references, then all of O3
    for level in (0, 3):
        options = PipelineTuningOptions(speed_level=level)
        options.loop_vectorization = level > 0
        options.slp_vectorization = False
        builder = PassBuilder(machine, options)
        passes = builder.getModulePassManager()
        if level == 0:
            passes.add_loop_rotate_pass()
            passes.add_instruction_combine_pass()
            passes.add_jump_threading_pass()
        passes.add_refprune_pass()
        passes.run(module, builder)
    module.verify()
    vectorised = len(re.findall(r"^vector\.body[^:\n]*:", str(module), re.MULTILINE))
    return read(machine.emit_assembly(module), processor.triple.partition("-")[0], vectorised)


def without_contraction(intermediate: str) -> str:
    """Return the code without leave to fuse any product with a sum."""
    return re.sub(r"\bcontract ", "", intermediate)


def _retargeted(intermediate: str, triple: str, layout: Any) -> str:
    """Return the code for another target, less the wrapper by which Python calls the loop."""
    for name, value in (("triple", triple), ("datalayout", layout)):
        line = rf'^target {name} = ".*"$'
        intermediate = re.sub(line, f'target {name} = "{value}"', intermediate, flags=re.MULTILINE)
    return re.sub(r"^define (?=ptr @_ZN7cpython)", "define internal ", intermediate, flags=re.M)


def read(assembly: str, architecture: str, vectorised: int = 0) -> Code:
    """Read assembly of the architecture ``aarch64`` or ``x86_64``."""
    lines = [re.split(r"\s*(?:#|//)", line)[0].strip() for line in assembly.splitlines()]
    lines = [line.replace("\t", " ") for line in lines]
    labels = {line[:-1]: k for k, line in enumerate(lines) if line.endswith(":")}
    spans = set()
    for k, line in enumerate(lines):
        branch = _BRANCH[architecture].match(line)
        start = labels.get(branch[1], k) if branch else k
        if start < k:
            spans.add((start, k))
    inner = [s for s in spans if not any(o != s and s[0] <= o[0] and o[1] <= s[1] for o in spans)]

    def count(sort: dict[str, re.Pattern[str]], span: tuple[int, int]) -> int:
        return sum(sort[architecture].match(line) is not None for line in lines[slice(*span)])

    whole = 0, len(lines)
    called = filter(None, map(_CALL[architecture].match, lines))
    return Code(
        assembly,
        vectorised,
        tuple(Loop(count(_PACKED, span), count(_SINGLE, span)) for span in sorted(inner)),
        count(_FUSED, whole),
        frozenset(call[1] for call in called),
    )
