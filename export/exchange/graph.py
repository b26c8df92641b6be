"""A NIR graph as a chain of nodes: nested graphs opened, feedback set aside."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any


def load_nir() -> ModuleType:
    """Return the package nir.

    Raises
    ------
    ImportError
        If it is not installed; says how to get it.
    """
    try:
        import nir
    except ModuleNotFoundError:
        raise ImportError("nir is not installed; get it with: pip install nir") from None
    return nir


@dataclass
class Step:
    """One node of the chain, and the node through which it feeds itself, if there is one."""

    name: str
    node: Any
    feedback: tuple[str, Any] | None = None

    @property
    def kind(self) -> str:
        """Name of the node's class."""
        return type(self.node).__name__

    @property
    def where(self) -> str:
        """How errors call the node."""
        return f"node {self.name} ({self.kind})"


def chain(graph: Any) -> list[Step]:
    """Return the nodes from Input to Output, nested graphs opened.

    Raises
    ------
    ValueError
        If the graph is no chain: names the node where it branches or ends, or what is left out.
    NotImplementedError
        For a node that the tool which wrote the graph left empty.
    """
    nir = load_nir()
    nodes, edges = _opened(graph)
    starts = [name for name, node in nodes.items() if isinstance(node, nir.Input)]
    if len(starts) != 1:
        raise ValueError(f"expected a graph with one Input; got {len(starts)}")
    after, before = _neighbours(edges), _neighbours((b, a) for a, b in edges)
    # a node that only one other leads to, and that leads only there, feeds that one back to itself
    loops = {
        name: after[name][0]
        for name in nodes
        if len(after.get(name, ())) == 1 and before.get(name) == after[name] != [name]
    }
    steps = [Step(starts[0], nodes[starts[0]])]
    order = {starts[0]}
    while True:
        last = steps[-1]
        forward = [name for name in after.get(last.name, ()) if name not in loops]
        feedback = [name for name, owner in loops.items() if owner == last.name]
        if len(feedback) > 1:
            raise ValueError(
                f"expected one way back to {last.where}; got {', '.join(feedback)}: add up their "
                f"weights in one Linear"
            )
        if feedback:
            last.feedback = (feedback[0], nodes[feedback[0]])
        if not forward:
            break
        if len(forward) > 1 or forward[0] in order:
            raise ValueError(
                f"expected a chain of nodes; {last.name} leads to {', '.join(forward)}"
            )
        steps.append(Step(forward[0], nodes[forward[0]]))
        order.add(forward[0])
    if not isinstance(last.node, nir.Output):
        raise ValueError(f"the chain from the Input ends at {last.name}, which is no Output")
    left = set(nodes) - order - {step.feedback[0] for step in steps if step.feedback}
    if left:
        raise ValueError(f"the chain from Input to Output leaves out {', '.join(sorted(left))}")
    return steps


def _neighbours(edges: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for source, target in edges:
        found.setdefault(source, []).append(target)
    return found


def _opened(graph: Any, prefix: str = "") -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return nodes and edges with every nested graph put in the place of its node."""
    nir = load_nir()
    nodes: dict[str, Any] = {}
    edges = [(f"{prefix}{a}", f"{prefix}{b}") for a, b in graph.edges]
    for short, node in graph.nodes.items():
        name = f"{prefix}{short}"
        if node is None:
            raise NotImplementedError(
                f"node {name} is empty: the tool that wrote the graph has no NIR node for it"
            )
        if not isinstance(node, nir.NIRGraph):
            nodes[name] = node
            continue
        inner, inner_edges = _opened(node, f"{name}.")
        ends = [
            [n for n, of in inner.items() if isinstance(of, k)] for k in (nir.Input, nir.Output)
        ]
        if any(len(end) != 1 for end in ends):
            raise ValueError(f"node {name} (NIRGraph): expected one Input and one Output inside")
        (start,), (end,) = ends
        if set(inner) & (set(nodes) | {f"{prefix}{n}" for n in graph.nodes}):
            raise ValueError(f"node {name} (NIRGraph): a node of the same name is outside")
        nodes |= inner
        edges = [(end if a == name else a, start if b == name else b) for a, b in edges]
        edges += inner_edges
        for port in (start, end):
            del nodes[port]
            edges = _bridged(edges, port)
    unknown = {name for edge in edges for name in edge} - set(nodes)
    if unknown:
        raise ValueError(f"an edge names {', '.join(sorted(unknown))}, which is no node")
    return nodes, list(dict.fromkeys(edges))


def _bridged(edges: list[tuple[str, str]], port: str) -> list[tuple[str, str]]:
    """Return the edges with those into and out of ``port`` joined."""
    into = [a for a, b in edges if b == port]
    out = [b for a, b in edges if a == port]
    return [e for e in edges if port not in e] + [(a, b) for a in into for b in out]
