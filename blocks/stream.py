"""A step a call: a Dense or Recurrent block on memory that stays from one call to the next.

A network that runs as its input comes calls each block with a single step, without gradient and
with a state that persists. What the calls do is then always the same, and takes far less time than
all that leads to it. So the first such call records the loops of the neuron with their memory, and
the calls after it run them again: each weight is quantised and multiplied in one loop
(kernels/synapses/frame.py), that of a Recurrent block with the spikes of the call before; the state
is written where it lies, the hop of one step hands out those spikes, and the axonal delay reads a
line of rows that only grows.

Whatever makes a difference is looked at in each call: where the weight, the parameters and the
states lie, hooks, attributes that were set, and the input. Then, or for sums that are not exact
integers, the block does as ever; results are the same bits.
"""

import math
from typing import Any

import numpy as np
import torch
from lapilli.kernels.executors.dispatch import LoopCalls, array_of, runs_loops
from lapilli.kernels.executors.layout import from_rows, neurons_a_parameter
from lapilli.kernels.executors.operators import is_observed
from lapilli.kernels.synapses.frame import frame_cpu, line_cpu
from lapilli.kernels.synapses.normalize import normalized_8bit
from lapilli.kernels.synapses.quantize import WEIGHT_BITS
from lapilli.neurons.limits import confined
from torch import Tensor
from torch.nn.modules import module as of_modules

from .delay import Delay
from .synapse import Dense

# of all modules; torch's own question after them is younger than the oldest torch that is supported
_GLOBAL_HOOKS = (
    of_modules._global_forward_hooks, of_modules._global_forward_pre_hooks,
    of_modules._global_backward_hooks, of_modules._global_backward_pre_hooks,
)  # fmt: skip
_SAMPLES = 8  # beyond, the usual way is quicker: it quantises the weight once for all
_LEAST_ROWS = 64  # of a delay line, that are written before the kept ones move to its start


class _Tap:
    """A synapse of the block, and where its weight lies."""

    def __init__(self, synapse: Dense):
        self.synapse = synapse
        self.changes = synapse._changes
        self.hooks = len(synapse._forward_pre_hooks)
        stored = {n: p for n, p in synapse._parameters.items() if p is not None}
        self.stored = [(name, weight, weight.data_ptr()) for name, weight in stored.items()]
        with LoopCalls() as recorded:
            if synapse.weight_norm_enabled:  # computed in each call
                scale = synapse._scale_of_8_bits
                self.weight = normalized_8bit(synapse.weight_v, synapse.weight_g, scale)
            else:
                self.weight = synapse.weight.detach()
        self.calls = recorded.calls
        matrix = self.weight.flatten(1)
        self.matrix = array_of(matrix), array_of(matrix.view(torch.int32))
        step = synapse._step
        self.numbers = np.float32(1 / step), np.float32(step), np.int32(1 << WEIGHT_BITS)

    @staticmethod
    def suits(synapse: Any) -> bool:
        """Whether nothing but 8-bit weights of compiled loops is at work."""
        return (
            type(synapse) is Dense
            and not synapse._takes_image
            and synapse.bias is None
            and synapse.is_plain
            and synapse._step > 0
            and synapse._scale_of_8_bits > 0
            and all(
                p is None or (runs_loops(p) and p.is_contiguous())
                for p in synapse._parameters.values()
            )
        )

    def is_as_before(self) -> bool:
        """Whether the synapse is what it was, up to the values of its weight."""
        synapse = self.synapse
        if (
            synapse._changes != self.changes
            or synapse._forward_hooks
            or len(synapse._forward_pre_hooks) != self.hooks
        ):
            return False
        stored = synapse._parameters
        for name, weight, place in self.stored:
            if stored.get(name) is not weight or weight.data_ptr() != place:
                return False
        return True

    def add(self, frame: Any, x: Any, z: Any) -> bool:
        """Multiply ``x`` into ``z``; False where the sums are not exact."""
        for loop, tiles, _, given in self.calls:
            loop(0, tiles, *given)
        return bool(frame(0, 1, x, *self.matrix, z, *self.numbers))


class Stream:
    """What a block needs to take a step, see the module's docstring."""

    def __init__(self, block: Any, x: Tensor):
        self.shape = x.shape
        self.neuron, self.delay = block.neuron, block.delay
        with torch.inference_mode(False), torch.no_grad():
            self.taps = [_Tap(synapse) for synapse in block._synapses()]
        self.changes = self._count(block)
        self.shifts = block.delay_shift
        # where the block keeps the last spikes, before the hop
        self.kept_spikes = ["delay_buffer"] * self.shifts + ["spike_state"] * (len(self.taps) > 1)
        self.delays = None if self.delay is None else self.delay.shape
        self.tail: Tensor | None = None  # once there is a line
        with torch.inference_mode(False), torch.no_grad():
            self.works = self._record(x.shape[0], self.taps[0].synapse.out_channels)

    @staticmethod
    def of(block: Any, x: Tensor) -> "Stream | None":
        """Prepare a block that was just called with ``x``; None where it goes the usual way."""
        neuron, delay = block.neuron, block.delay
        if (
            not getattr(neuron, "persistent_state", False)
            or not type(neuron).__module__.startswith("lapilli.neurons.")
            or neuron.complex
            or neuron.norm is not None
            or neuron.drop is not None
            or neuron.is_observed
            or neuron._replaces_stages
            or getattr(neuron, "count_overflows", False)
            or neuron.rests
            or (delay is not None and (type(delay) is not Delay or delay.max_delay is None))
            or x.ndim != 3
            or x.shape[0] > _SAMPLES
            or is_observed((x,))
            or not runs_loops(x)
            or getattr(block, "mask", None) is not None
            or getattr(block, "bias", None) is not None
            or not all(_Tap.suits(synapse) for synapse in block._synapses())
        ):
            return None
        return Stream(block, x)

    def _count(self, block: Any) -> tuple[int, ...]:
        """Return how often attributes were set that make a difference."""
        delay = self.delay
        return block._changes, self.neuron._changes, 0 if delay is None else delay._changes

    def _record(self, batch: int, channels: int) -> bool:
        """Record the neuron's loops; False where they are not all that it does."""
        neuron = self.neuron
        self.z = torch.zeros(batch, 1, channels)
        self.z_array = array_of(self.z)
        self.frame, self.frame_added = (frame_cpu.specialise((False,) * 7, (a,)) for a in (0, 1))
        kept, left = dict(neuron._kept), {}
        states = {name: state.clone() for name, state in kept.items()}
        neuron._kept.update(states)
        neuron.__dict__["_keep_state"] = lambda **last: left.update(last)
        try:
            with LoopCalls() as recorded:
                spikes = neuron.forward(from_rows(self.z, torch.Size((channels,))))
        finally:
            del neuron.__dict__["_keep_state"]
            neuron._kept.update(kept)
        self.parameters = [p.data_ptr() for p in neuron._parameters_used()]
        self.spikes = spikes.movedim(-1, 1)
        self.last = self.spikes.view(batch, channels)
        self.last_array = array_of(self.last.unsqueeze(-1))
        self.calls = recorded.calls  # with the tensors, to whose memory the arrays point
        if left.keys() != states.keys():
            return False
        known = {self.z.data_ptr(), self.spikes.data_ptr(), *self.parameters}
        places = {t.data_ptr(): name for part in (states, left) for name, t in part.items()}
        self.places: dict[str, list[tuple[list[Any], int]]] = {name: [] for name in states}
        found = set()
        for _, _, args, given in recorded.calls:
            for k, a in enumerate(args):
                if not isinstance(a, Tensor):
                    continue
                found.add(a.data_ptr())
                name = places.get(a.data_ptr())
                if name is not None:
                    self.places[name].append((given, k))
                elif a.data_ptr() not in known:
                    return False
        self.states: dict[str, Tensor] = states  # to be replaced at the first step
        return found >= {*known, *places}

    def _adopt_states(self) -> bool:
        """Go on from the states that the neuron keeps, which others may hold as well."""
        neuron = self.neuron
        kept = neuron._kept
        for name, state in self.states.items():
            if kept[name] is not state:
                break
        else:
            return True
        if neuron.rests:
            return False
        if any(state.shape != self.last.shape for state in neuron._kept.values()):
            return False
        with torch.inference_mode(False):
            for name, state in neuron._kept.items():
                own = self.states[name] = neuron._kept[name] = state.detach().clone()
                for given, k in self.places[name]:
                    given[k] = own.data_ptr() if isinstance(given[k], int) else array_of(own)
        neuron.__dict__["_writes_in_place"] = True
        return True

    def _adopt_spikes(self, block: Any) -> bool:
        """Go on from the last spikes that the block keeps."""
        kept = block._kept
        for name in self.kept_spikes:
            if kept[name] is not self.last:
                break
        else:
            return True
        spikes = [kept[name] for name in self.kept_spikes]
        if any(s is None or s.shape != self.last.shape for s in spikes):
            return False
        if not all(torch.equal(s, spikes[0]) for s in spikes[1:]):
            return False  # somebody wrote one of them
        self.last.copy_(spikes[0])
        kept.update(dict.fromkeys(self.kept_spikes, self.last))
        block.__dict__["_writes_in_place"] = True
        return True

    def _adopt_line(self) -> bool:
        """Go on from the last steps that the delay keeps."""
        delay, (N, C) = self.delay, self.last.shape
        tail = delay._kept["tail"]
        if tail is not None and tail is self.tail:
            return True
        steps = math.floor(delay.max_delay / delay.sampling_time)
        if not delay.persistent_state or tail is None or tail.shape != (N, C, steps) or not steps:
            return False
        self.steps, self.row = steps, steps
        with torch.inference_mode(False):
            self.line = torch.zeros(N, 2 * steps + _LEAST_ROWS, C)
            self.line[:, :steps] = tail.movedim(-1, 1)
        self.line_array = array_of(self.line)
        self.run_line = line_cpu.specialise((False,) * 6, ())
        per = neurons_a_parameter(C, delay.delay)
        self.per = np.int32(per), np.float32(delay.sampling_time)
        self.tail = delay._kept["tail"] = self._tail()
        delay.__dict__["_writes_in_place"] = True
        return True

    def _tail(self) -> Tensor:
        N, rows, C = self.line.shape
        start = (self.row - self.steps) * C
        return self.line.as_strided((N, C, self.steps), (rows * C, 1, C), start)

    def __call__(self, block: Any, x: Tensor) -> Any:
        """Take a step; None, and nothing done, where the block has to do as ever."""
        neuron, delay = self.neuron, self.delay
        if (
            x.shape != self.shape
            or self._count(block) != self.changes
            or neuron._forward_hooks
            or neuron._forward_pre_hooks
            or (delay is not None and (delay._forward_hooks or delay._forward_pre_hooks))
        ):
            return self._end(block)
        for tap in self.taps:
            if not tap.is_as_before():
                return self._end(block)
        if (
            not self.works
            or x.dtype is not torch.float32
            or not x.is_cpu
            or is_observed((x,))
            or any(_GLOBAL_HOOKS)
            or torch._C._current_graph_task_id() != -1
        ):
            return None
        for parameter, place in zip(neuron._parameters_used(), self.parameters, strict=True):
            if parameter.data_ptr() != place:
                return self._end(block)
        if delay is not None:
            delays = confined(delay, "delay", 0, delay.max_delay)
            if delays.shape != self.delays:
                return self._end(block)
        x = x.contiguous()  # a step of a sequence is not, and quick to copy
        if not self.taps[0].add(self.frame, array_of(x), self.z_array):
            return None
        if not (self._adopt_states() and self._adopt_spikes(block)):
            return None
        if delay is not None and not self._adopt_line():
            return None
        for tap in self.taps[1:]:
            if not tap.add(self.frame_added, self.last_array, self.z_array):
                return None
        if self.shifts:
            rows = self.spikes.clone()  # of the call before
        for loop, tiles, _, given in self.calls:
            loop(0, tiles, *given)
        neuron._last_call["began_at_rest"] = False
        if not self.shifts:
            rows = self.spikes.clone()
        if delay is not None:
            self._pass_line(rows, delays)
        return block._counted(rows.movedim(1, -1))

    @staticmethod
    def _end(block: Any) -> None:
        """Let the block do as ever, and prepare anew."""
        block.__dict__["_stream"] = None

    def _pass_line(self, rows: Tensor, delays: Tensor) -> None:
        """Delay the rows in place, and keep them."""
        line, steps = self.line, self.steps
        if self.row == line.shape[1]:
            line[:, :steps] = line[:, self.row - steps :]
            self.row = steps
        self.run_line(
            0, 1, array_of(rows), self.line_array, array_of(delays), np.int32(self.row), *self.per
        )
        self.row += 1
        self.tail = self.delay._kept["tail"] = self._tail()
