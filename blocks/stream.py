"""A step a call: a fully connected block on memory that stays from one call to the next.

A network that runs as its input comes calls each block with a single step, without gradient and
with a state that persists. What the calls do is then always the same, and takes far less time than
all that leads to it. So the first such call records the loops of the neuron with their memory, and
the calls after it run them again: the weight is quantised and multiplied in one loop
(kernels/frame.py), the state is written where it lies, the hop of one step hands out the spikes
of the call before, and the axonal delay reads a line of rows that only grows.

Whatever makes a difference is looked at in each call: where the weight, the parameters and the
states lie, hooks, attributes that were set, and the input. Then, or for sums that are not exact
integers, the block does as ever; results are the same bits.
"""

import math
from typing import Any

import numpy as np
import torch
from lapilli.kernels.dispatch import LoopCalls, array_of, is_observed, runs_loops
from lapilli.kernels.frame import frame_cpu, line_cpu
from lapilli.kernels.layout import from_rows, neurons_a_parameter
from lapilli.kernels.normalize import normalized_8bit
from lapilli.kernels.quantize import WEIGHT_BITS
from lapilli.neurons.limits import confined
from torch import Tensor
from torch.nn.modules.module import _has_any_global_hook

from .delay import Delay
from .synapse import Dense

_SAMPLES = 8  # beyond, the usual way is quicker: it quantises the weight once for all
_LEAST_ROWS = 64  # of a delay line, that are written before the kept ones move to its start


class Stream:
    """What a block needs to take a step, see the module's docstring."""

    def __init__(self, block: Any, x: Tensor):
        self.shape = x.shape
        self.neuron, self.synapse, self.delay = block.neuron, block.synapse, block.delay
        self.changes = self._count(block)
        self.weights = [
            (name, weight, weight.data_ptr())
            for name, weight in self.synapse._parameters.items()
            if weight is not None
        ]
        self.matrix = None
        if len(self.weights) == 1:  # else it is normalised first
            self.matrix = array_of(self.weights[0][1].detach().flatten(1))
        self.pre_hooks = len(self.synapse._forward_pre_hooks)
        self.shifts = block.delay_shift
        self.tail: Tensor | None = None  # once there is a line
        with torch.inference_mode(False), torch.no_grad():
            self.works = self._record(x.shape[0], self.synapse.out_channels)

    @staticmethod
    def of(block: Any, x: Tensor) -> "Stream | None":
        """Prepare a block that was just called with ``x``; None where it goes the usual way."""
        neuron, synapse, delay = block.neuron, block.synapse, block.delay
        weights = (
            () if synapse is None else [p for p in synapse._parameters.values() if p is not None]
        )
        if (
            type(synapse) is not Dense
            or not getattr(neuron, "persistent_state", False)
            or not type(neuron).__module__.startswith("lapilli.neurons.")
            or synapse._takes_image
            or synapse.bias is not None
            or not synapse.is_plain
            or not (synapse._step and synapse._scale_of_8_bits)
            or neuron.complex
            or neuron.norm is not None
            or neuron.drop is not None
            or neuron.is_observed
            or neuron._replaces_stages
            or block.mask is not None
            or (delay is not None and (type(delay) is not Delay or delay.max_delay is None))
            or x.ndim != 3
            or x.shape[0] > _SAMPLES
            or is_observed((x, *weights))
            or not all(runs_loops(w) and w.is_contiguous() for w in (x, *weights))
            or neuron.rests
        ):
            return None
        return Stream(block, x)

    def _count(self, block: Any) -> tuple[int, ...]:
        """Return how often attributes were set that make a difference."""
        delay = self.delay
        return (
            block._changes,
            self.synapse._changes,
            self.neuron._changes,
            0 if delay is None else delay._changes,
        )

    def _record(self, batch: int, channels: int) -> bool:
        """Record the neuron's loops; False where they are not all that it does."""
        neuron, step = self.neuron, self.synapse._step
        self.z = torch.zeros(batch, 1, channels)
        self.z_array = array_of(self.z)
        self.frame = frame_cpu.specialise((False,) * 6, ())
        self.step = np.float32(1 / step), np.float32(step), np.int32(1 << WEIGHT_BITS)
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
        self.memory = [a for call in recorded.calls for a in call[2]]  # that the arrays point to
        self.calls = [(loop, tiles, given) for loop, tiles, _, given in recorded.calls]
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
        self.states: dict[str, Tensor | None] = dict.fromkeys(states)
        return found >= {*known, *places}

    def _adopt(self) -> bool:
        """Go on from the states that the neuron keeps, which others may hold as well."""
        neuron = self.neuron
        if neuron.rests:
            return False
        if any(state.shape != self.last.shape for state in neuron._kept.values()):
            return False
        with torch.inference_mode(False):
            for name, state in neuron._kept.items():
                own = self.states[name] = neuron._kept[name] = state.detach().clone()
                for given, k in self.places[name]:
                    given[k] = array_of(own)
        neuron.__dict__["_writes_in_place"] = True
        return True

    def _adopt_shift(self, block: Any) -> bool:
        """Go on from the last output before the hop."""
        kept = block._kept["delay_buffer"]
        if kept is self.last:
            return True
        if kept is None or kept.shape != self.last.shape:
            return False
        self.last.copy_(kept)
        block._kept["delay_buffer"] = self.last
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
        neuron, synapse, delay = self.neuron, self.synapse, self.delay
        if x.shape != self.shape or self._count(block) != self.changes:
            block.__dict__["_stream"] = None
            return None
        if (
            not self.works
            or x.dtype is not torch.float32
            or not runs_loops(x)
            or not x.is_contiguous()
            or is_observed((x,))
            or _has_any_global_hook()
            or torch._C._current_graph_task_id() != -1
            or synapse._forward_hooks
            or len(synapse._forward_pre_hooks) != self.pre_hooks
            or neuron._forward_hooks
            or neuron._forward_pre_hooks
            or (delay is not None and (delay._forward_hooks or delay._forward_pre_hooks))
        ):
            return None
        for name, weight, place in self.weights:
            if synapse._parameters.get(name) is not weight or weight.data_ptr() != place:
                block.__dict__["_stream"] = None
                return None
        for parameter, place in zip(neuron._parameters_used(), self.parameters, strict=True):
            if parameter.data_ptr() != place:
                block.__dict__["_stream"] = None
                return None
        if delay is not None:
            delays = confined(delay, "delay", 0, delay.max_delay)
        matrix = self.matrix
        if matrix is None:
            w = normalized_8bit(synapse.weight_v, synapse.weight_g, synapse._scale_of_8_bits)
            matrix = array_of(w.flatten(1))
        if not self.frame(0, 1, array_of(x), matrix, self.z_array, *self.step):
            return None
        kept = neuron._kept
        for name, state in self.states.items():
            if kept[name] is not state or state is None:
                if not self._adopt():
                    return None
                break
        if self.shifts and not self._adopt_shift(block):
            return None
        if delay is not None and not self._adopt_line():
            return None
        if self.shifts:
            rows = self.spikes.clone()  # of the call before
        for loop, tiles, given in self.calls:
            loop(0, tiles, *given)
        neuron._last_call["began_at_rest"] = False
        if not self.shifts:
            rows = self.spikes.clone()
        if delay is not None:
            self._pass_line(rows, delays)
        return block._counted(rows.movedim(1, -1))

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
