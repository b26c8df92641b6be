"""Operators that stand one behind the other in a compiled graph, called as one.

The path of a call through torch's dispatcher takes longer than a loop over a small layer. Of the
forward or backward pass of a network, most or all operators of a compiled graph are lapilli's, and
what torch computes between them can stand before or behind them. So once a graph is final, a pass
of Inductor's takes each run of them for one operator, ``lapilli::sequence``, which runs their
launch functions in the same order. Its last argument is their text, which is compiled at the first
call, so that graphs that torch keeps on disk need nothing else.
"""

import functools
import math
import operator
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.utils import _pytree

from .operators import BEFORE_TRACES, OPERATORS, define_sequence

# Bytes of a tensor whose loops take so much longer than a call that its memory matters more: within
# a sequence no input is given back before the end.
_LARGE = 1 << 22
_VIEWS: dict[Any, str] = {
    torch.ops.aten.view.default: "view",
    torch.ops.aten.reshape.default: "reshape",
    torch.ops.aten.permute.default: "permute",
    torch.ops.aten.unsqueeze.default: "unsqueeze",
}


@functools.cache
def _compiled(text: str) -> Callable[..., list[Tensor]]:
    """Turn the text of a sequence into a function of the list of tensors and that of sizes."""
    scope: dict[str, Any] = {"inf": math.inf, "nan": math.nan, "torch": torch}
    scope |= {name: known.launch for name, known in OPERATORS.items()}
    exec(compile(text, "<lapilli::sequence>", "exec"), scope)
    return scope["sequence"]


def sequence(tensors: Sequence[Tensor], sizes: Sequence[int], text: str) -> list[Tensor]:
    """Run the operators of ``text`` and return what of their outputs is used elsewhere."""
    return _compiled(text)(tensors, sizes)


def install() -> None:
    """Let Inductor join operators from now on, unless a user has given it a pass of their own."""
    if "torch._inductor" not in sys.modules:  # nobody compiles with it
        return
    from torch._inductor import config

    if getattr(config, "post_grad_custom_post_pass", sequence) is not None:
        return
    try:
        from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
    except ImportError:  # this torch has no such passes
        return

    class JoinOperators(CustomGraphPass):
        def __call__(self, graph: Graph) -> None:
            join(graph)

        def uuid(self) -> Any:
            return get_hash_for_files((__file__,))

    config.post_grad_custom_post_pass = JoinOperators()


def join(graph: Graph) -> None:
    """Replace each run of lapilli's operators in a final graph by one operator, in place."""
    run = _run_of_operators(graph)
    while run:
        _replace(graph, *run)
        run = _run_of_operators(graph)


def _joins(node: Node) -> bool:
    """Whether a node is an operator of lapilli's, over tensors that are not large."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "lapilli":
        return False
    if target._overloadname != "bare":
        return False
    values = [n.meta["val"] for n in node.all_input_nodes] + [node.meta["val"]]
    return all(_bytes(v) < _LARGE for v in _pytree.tree_leaves(values))


def _bytes(value: Any) -> int:
    if not isinstance(value, Tensor):
        return 0
    entries: Any = value.numel()
    if isinstance(entries, torch.SymInt):  # as many as in the call that the graph is made for
        entries = entries.node.hint or 0
    return entries * value.element_size()


def _run_of_operators(graph: Graph) -> tuple[list[Node], list[Node]] | None:
    """Return the first run of two or more operators, and what has to stand behind it.

    With the operators go the views of what they return. Whatever else stands among them either
    depends on none of them, and stays where it is, or no later one depends on it.
    """
    run: dict[Node, None] = {}
    behind: dict[Node, None] = {}
    found: tuple[list[Node], list[Node]] | None = None
    operators = 0
    for node in graph.nodes:
        inputs = node.all_input_nodes
        waits = any(n in behind for n in inputs)
        if _joins(node):
            if waits:
                if found:
                    return found
                run.clear()
                behind.clear()
                operators = 0
            run[node] = None
            operators += 1
            if operators > 1:
                found = list(run), list(behind)
        elif not waits and inputs and inputs[0] in run and _is_part(node):
            run[node] = None
        elif waits or any(n in run for n in inputs):
            behind[node] = None
    return found


def _is_part(node: Node) -> bool:
    return node.target is operator.getitem or node.target in _VIEWS


def _replace(graph: Graph, run: list[Node], behind: list[Node]) -> None:
    every = dict.fromkeys(run)
    for node in run:  # what an operator returns is unpacked with it
        every |= dict.fromkeys(u for u in node.users if u.target is operator.getitem)
    members, within = list(every), set(every)
    tensors: dict[Node, int] = {}
    sizes: dict[Node, int] = {}
    names: dict[Node, str] = {}

    def written(argument: Any) -> str:
        if isinstance(argument, (list, tuple)):
            return f"[{', '.join(map(written, argument))}]"
        if not isinstance(argument, Node):
            return repr(argument)
        if argument in names:
            return names[argument]
        value = argument.meta["val"]
        place, kind = (tensors, "tensors") if isinstance(value, Tensor) else (sizes, "sizes")
        return f"{kind}[{place.setdefault(argument, len(place))}]"

    lines = ["def sequence(tensors, sizes):"]
    last_use = {n: node for node in members for n in node.all_input_nodes if n in within}
    wanted = {n: None for node in members for n in _bases_used_outside(node, within)}
    for k, node in enumerate(members):
        first, *rest = node.args
        if node.target is operator.getitem:
            value = f"{written(first)}[{rest[0]}]"
            like = node.meta["val"]
            if like.shape == (0,):  # stands for None, see ``Operator.implementation``
                value += f"\n if v{k} is None: v{k} = tensors[0].new_empty(0, dtype={like.dtype})"
        elif node.target in _VIEWS:
            value = f"{written(first)}.{_VIEWS[node.target]}({', '.join(map(written, rest))})"
        else:
            assert isinstance(node.target, torch._ops.OpOverload)
            name, ordered = node.target._opname, OPERATORS[node.target._opname].in_order
            given = [
                written(a) + ".contiguous()" * (i in ordered and isinstance(a, Node))
                for i, a in enumerate(node.args)
            ]
            value = f"{name}({', '.join(given)})"
        names[node] = f"v{k}"
        lines.append(f" v{k} = {value}")
        done = [names[n] for n, use in last_use.items() if use is node and n not in wanted]
        if done:  # memory is free for the next operator
            lines.append(f" del {', '.join(done)}")
    lines.append(f" return [{', '.join(names[n] for n in wanted)}]")
    with graph.inserting_after(run[-1]):
        call = graph.call_function(
            torch.ops.lapilli.sequence.default,
            (list(tensors), list(sizes), "\n".join(lines)),
        )
    call.meta["val"] = [n.meta["val"] for n in wanted]
    after = [call]

    def add(target: Any, arguments: tuple[Any, ...], like: Node) -> Node:
        with graph.inserting_after(after[-1]):
            after.append(graph.call_function(target, arguments))
        after[-1].meta["val"] = like.meta["val"]
        return after[-1]

    outside = {n: add(operator.getitem, (call, k), n) for k, n in enumerate(wanted)}

    def seen_outside(node: Node) -> Node:
        """Make a view again: an operator must not return the same memory twice."""
        if node not in outside:
            source, *arguments = node.args
            assert isinstance(source, Node)
            outside[node] = add(node.target, (seen_outside(source), *arguments), node)
        return outside[node]

    used = {n: [u for u in n.users if u not in within] for n in members}
    new = {n: seen_outside(n) for n, users in used.items() if users}
    for node in behind:
        after[-1].append(node)
        after.append(node)
    for node, output in new.items():
        for user in used[node]:
            user.replace_input_with(node, output)
    for node in reversed(members):
        graph.erase_node(node)
    graph.lint()


def _bases_used_outside(node: Node, within: set[Node]) -> list[Node]:
    """Return the node, or what it is a view of, if a node that is not in a run uses it."""
    if all(user in within for user in node.users):
        return []
    while node.target in _VIEWS:
        source = node.args[0]
        assert isinstance(source, Node)
        node = source
    return [node]


define_sequence(sequence)
BEFORE_TRACES.append(install)
