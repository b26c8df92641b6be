"""Steps as CUDA graphs: the same results, with a graph that works on the CPU in CUDA's place."""

import contextlib
import functools
from typing import Any

import pytest
import torch
from cells import cells_of, events, make, same
from known import wrong
from lapilli.blocks import cuba
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import lapilli
from lapilli import graphs

NEURON = {"threshold": 0.75, "current_decay": 0.25, "voltage_decay": 0.125}


class _Recording(TorchDispatchMode):
    """Keep what runs, and put back what it wrote into."""

    def __init__(self):
        super().__init__()
        self.work = []
        self.before = {}

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if op._schema.name in ("aten::_local_scalar_dense", "aten::nonzero"):
            raise RuntimeError("operation not permitted when stream is capturing")
        if op._schema.is_mutable:
            for x in tree_leaves((args, kwargs)):
                if isinstance(x, torch.Tensor) and x.data_ptr() not in self.before:
                    self.before[x.data_ptr()] = x, x.detach().clone()
        found = op(*args, **kwargs)
        # what is allocated now is the graph's own for good
        self.work.append((op, tree_map(_held, args), tree_map(_held, kwargs), found))
        return found


def _held(x):
    return x.detach() if isinstance(x, torch.Tensor) else x


class Graph:
    """A graph of operators on fixed memory, captured without effect, run again by ``replay``."""

    made: tuple["Graph", ...] = ()
    work: list[Any]  # what was recorded

    def __init__(self):
        self.calls = ["made"]
        Graph.made = (*Graph.made, self)

    def replay(self):
        self.calls.append("replay")
        with torch.no_grad():
            for op, args, kwargs, found in self.work:
                again = op(*args, **kwargs)
                if op._schema.is_mutable:
                    continue
                for old, new in zip(tree_leaves(found), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.detach().copy_(new)


@contextlib.contextmanager
def _capture(graph, stream, capture_error_mode):
    assert capture_error_mode == "thread_local"
    graph.calls.append("begin")
    with _Recording() as recording:
        yield
    graph.calls.append("end")
    graph.work = recording.work
    for x, value in recording.before.values():
        x.data.copy_(value)


class _Stream:
    log = ()

    def __init__(self, device=None):
        self.name = f"side {id(self)}" if device is not None else "current"

    def wait_stream(self, other):
        _Stream.log += ((self.name.split()[0], "waits for", other.name.split()[0]),)


@pytest.fixture
def on_gpu(monkeypatch):
    """Let the CPU be a device that has graphs."""
    current = _Stream()
    _Stream.log, Graph.made = (), ()
    for name, value in {
        "Stream": _Stream, "CUDAGraph": Graph, "graph": _capture,
        "current_stream": lambda device: current,
        "stream": lambda stream: contextlib.nullcontext(),
        "device": lambda device: contextlib.nullcontext(),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(graphs, "_has_graphs", lambda device: True)


def _training(net, rate=0.3):
    """A step by gradient descent, whose learning rate is large enough to change spikes."""
    learned = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=rate, momentum=0.9, foreach=False)

    def step(spikes, target):
        optimizer.zero_grad()
        loss = (net(spikes).mean(-1) - target).square().mean()
        loss.backward()
        optimizer.step()
        return {"loss": loss, "rate": [spikes.mean()]}

    return step


def _batches(count, shape=(4, 6, 20), outputs=5):
    torch.manual_seed(5)
    return [
        ((torch.rand(shape) < 0.4).float(), torch.rand(shape[0], outputs)) for _ in range(count)
    ]


def _net(**neuron):
    torch.manual_seed(3)
    net = torch.nn.Sequential(
        cuba.Dense(NEURON | neuron, 6, 8, weight_scale=3, delay=True, weight_norm=True),
        cuba.Dense(NEURON | neuron, 8, 5, weight_scale=3),
    )
    net(torch.zeros(1, 6, 3))  # draws the delays
    lapilli.reset_state(net)
    return net


@pytest.mark.parametrize(
    "neuron",
    [{}, {"persistent_state": True}, {"requires_grad": True, "persistent_state": True}],
    ids=["plain", "persistent", "learned"],
)
def test_a_graph_does_what_the_step_does(neuron, on_gpu):
    plain, captured = _net(**neuron), _net(**neuron)
    one, other = _training(plain), lapilli.graphed(_training(captured))
    for number, (spikes, target) in enumerate(_batches(9)):
        want, got = one(spikes, target), other(spikes, target)
        same(got["loss"], want["loss"].detach())
        same(got["rate"][0], want["rate"][0])
        for a, b in zip(captured.parameters(), plain.parameters(), strict=True):
            same(a, b)
        if number == 6:
            for net in (plain, captured):
                lapilli.reset_state(net)
    (graph,) = Graph.made
    assert graph.calls == ["made", "begin", "end", *["replay"] * 6]
    assert _Stream.log == (("side", "waits for", "current"), ("current", "waits for", "side")) * 3
    if neuron.get("persistent_state"):
        pairs: Any = zip(captured, plain, strict=True)
        for a, b in pairs:
            same(a.neuron.voltage_state, b.neuron.voltage_state)


PERSISTS = {"persistent_state": True}


@cells_of["neuron"]
def test_states_of_every_block_go_on(family, kind, on_gpu):
    one, other = (make(family, kind, PERSISTS) for _ in range(2))
    graph = lapilli.graphed(other, warmup=2)
    with torch.no_grad():
        for number in range(7):
            torch.manual_seed(number)
            x = events(kind) * torch.rand(())
            same(graph(x), one(x))
            if number == 4:
                lapilli.reset_state(one)
                lapilli.reset_state(other)
    assert Graph.made[0].calls.count("replay") == 5


def test_a_state_reset_before_every_call_starts_at_rest(on_gpu):
    one, other = (make("cuba", "Dense", PERSISTS) for _ in range(2))
    graph = lapilli.graphed(other, warmup=1)
    with torch.no_grad():
        for number in range(6):
            for net in (one, other):
                if number < 3 or number == 4:
                    lapilli.reset_state(net)
            x = events("Dense")
            same(graph(x), one(x))


def test_a_part_of_the_states_at_rest_is_refused(on_gpu):
    net: Any = torch.nn.Sequential(make("cuba", "Dense", PERSISTS), make("cuba", "Input", PERSISTS))
    net[1].neuron.shape = None
    graph = lapilli.graphed(net, warmup=1)
    with torch.no_grad():
        for _ in range(3):
            graph(events("Dense"))
        lapilli.reset_state(net[1])
        with pytest.raises(ValueError, match=r"some states .* at rest .*reset_state\(net\)"):
            graph(events("Dense"))
        lapilli.reset_state(net)
        graph(events("Dense"))


def test_results_have_memory_of_their_own(on_gpu):
    graph = lapilli.graphed(lambda x: x * 2, warmup=1)
    found = [graph(torch.full((3,), float(k))) for k in range(4)]
    assert [y[0].item() for y in found] == [0.0, 2.0, 4.0, 6.0]


def test_on_a_cpu_it_is_the_step():
    plain, other = _net(), _net()
    one, graph = _training(plain), lapilli.graphed(_training(other))
    for spikes, target in _batches(5):
        found = graph(spikes, target)
        same(found["loss"], one(spikes, target)["loss"].detach())
        assert not found["loss"].requires_grad
    for a, b in zip(other.parameters(), plain.parameters(), strict=True):
        same(a, b)
    assert lapilli.graphed(lambda: 3, device="cpu")() == 3
    graph(*_batches(1, (2, 6, 9))[0])  # any shape


def test_gradient_scaling_runs_on_a_cpu():
    net = _net()
    learned = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=0.01, fused=True)
    scaler = torch.amp.GradScaler("cpu")

    def step(spikes, target):
        optimizer.zero_grad()
        loss = (net(spikes).mean(-1) - target).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss

    graph = lapilli.graphed(step)
    before = [p.detach().clone() for p in learned]
    for batch in _batches(3):
        graph(*batch)
    assert any(not torch.equal(a, b) for a, b in zip(before, learned, strict=True))


def test_other_shapes_are_refused(on_gpu):
    graph = lapilli.graphed(lambda x, y=1: x * y, warmup=1)
    for _ in range(2):
        graph(torch.zeros(4, 3), y=2)
    with pytest.raises(ValueError, match=r"tensor of shape \(4, 3\), .* got \(2, 3\).*drop_last"):
        graph(torch.zeros(2, 3), y=2)
    with pytest.raises(ValueError, match=r"torch\.float32; got \(4, 3\), torch\.float16"):
        graph(torch.zeros(4, 3).half(), y=2)
    with pytest.raises(ValueError, match="captured with 2 in place of which it is given 3"):
        graph(torch.zeros(4, 3), y=3)
    with pytest.raises(ValueError, match="with 2 in place of which it is given a tensor"):
        graph(torch.zeros(4, 3), y=wrong(torch.ones(1)))
    with pytest.raises(ValueError, match="another structure"):
        graph(torch.zeros(4, 3), 2)
    same(graph(torch.ones(4, 3), y=2), torch.full((4, 3), 2.0))


def test_steps_that_look_at_values_are_refused(on_gpu):
    def step(x):
        return x * 2 if x.sum().item() > 0 else x

    graph = lapilli.graphed(step, warmup=1)
    graph(torch.ones(3))
    with pytest.raises(RuntimeError, match=r"cannot be captured .*no \.item\(\)") as found:
        graph(torch.ones(3))
    assert "not permitted when stream is capturing" in str(found.value.__cause__)


def test_a_failed_capture_leaves_states_as_they_were(on_gpu):
    net = make("cuba", "Dense", PERSISTS)

    def step(x):
        y = net(x)
        return y if y.sum().item() > -1 else x

    graph = lapilli.graphed(step, warmup=1)
    graph(events("Dense"))
    before = net.neuron.voltage_state
    with pytest.raises(RuntimeError, match="cannot be captured"):
        graph(events("Dense"))
    assert net.neuron.voltage_state is before


outside = torch.ones(3)


def test_other_tensors_from_outside_are_refused(on_gpu, monkeypatch):
    inside = torch.full((3,), 2.0)

    def step(x):
        return x + inside + outside

    graph = lapilli.graphed(functools.partial(step), warmup=1)
    for _ in range(2):
        same(graph(torch.ones(3)), torch.full((3,), 4.0))
    inside.fill_(5.0)
    same(graph(torch.ones(3)), torch.full((3,), 7.0))
    inside = torch.zeros(3)
    with pytest.raises(RuntimeError, match=r"reads the tensor 'inside'.*inside\.copy_"):
        graph(torch.ones(3))


def test_other_global_tensors_are_refused(on_gpu, monkeypatch):
    graph = lapilli.graphed(lambda x: x + outside, warmup=1)
    for _ in range(2):
        graph(torch.ones(3))
    monkeypatch.setitem(globals(), "outside", torch.zeros(3))
    with pytest.raises(RuntimeError, match="reads the tensor 'outside'"):
        graph(torch.ones(3))


@pytest.mark.parametrize("warmup", [0, -1, 1.5, True, "3"])
def test_warmup_is_checked(warmup):
    with pytest.raises(ValueError, match="warmup must be an integer of at least 1"):
        lapilli.graphed(lambda: 0, warmup=warmup)


def test_what_it_is_given_is_checked():
    with pytest.raises(TypeError, match="step must be a function; got 3"):
        lapilli.graphed(wrong(3))
    with pytest.raises(TypeError, match=r"on CUDA and ROCm devices.*got device 'meta'"):
        lapilli.graphed(lambda x: x)(torch.zeros(1, device="meta"))
    with pytest.raises(TypeError, match="got device 'xpu'"):
        lapilli.graphed(lambda x: x, device="xpu")
    with pytest.raises(ValueError, match=r"no tensors.*device=\.\.\."):
        lapilli.graphed(lambda: 0)()
    with pytest.raises(ValueError, match=r"must not require a gradient.*x\.detach\(\)"):
        lapilli.graphed(lambda x: x)(torch.zeros(1, requires_grad=True))


def test_what_python_adds_up_is_refused(monkeypatch):
    from lapilli.neurons.state import refuse_graph

    class OnDevice(torch.Tensor):
        is_cuda = True

    x = torch.zeros(1).as_subclass(OnDevice)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    refuse_graph(x, "why")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    refuse_graph(torch.zeros(1), "why")
    with pytest.raises(RuntimeError, match="why"):
        refuse_graph(x, "why")
