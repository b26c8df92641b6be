"""A neuron with feedback through a synapse.

    x[t] = neuron(z[t] + R x[t-1]),  x[-1] = 0

No gradient flows through the neuron's state from one step to the next, and its decays get
gradients of zero. Where nothing acts step by step (norm, dropout, a hook), it is one kernel:
kernels/recurrences/recurrent_steps.py. The ground truths step the neuron from outside.

Source: lava-dl utils/recurrent.py.
"""

from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from lapilli.blocks.synapse import GenericLayer
from lapilli.neurons.base import FixedPointNeuron
from lapilli.neurons.state import stepping
from torch import Tensor

__all__ = [
    "CustomRecurrent",
    "custom_recurrent",
    "custom_recurrent_ground_truth_1",
    "custom_recurrent_ground_truth_2",
]


def _run(z: Tensor, neuron: torch.nn.Module, feedback: Callable[[Tensor], Tensor]) -> Tensor:
    """Step over ``z`` [N, C, T]; ``feedback`` maps one frame ``[N, C, 1]``."""
    spikes, last = [], torch.zeros_like(z[..., :1])
    with stepping(neuron):
        for frame in z.split(1, -1):
            last = neuron(frame + feedback(last))
            spikes.append(last)
    return torch.cat(spikes, -1)


def _runs_at_once(neuron: torch.nn.Module) -> TypeGuard[FixedPointNeuron]:
    """Whether nothing needs the neuron to be called for each step."""
    return (
        isinstance(neuron, FixedPointNeuron)
        and not neuron.complex
        and neuron.norm is None
        and neuron.drop is None
        and not neuron.is_observed
        and not neuron._replaces_stages
    )


class CustomRecurrent:
    """``custom_recurrent`` with the matrix in place of the synapse: ``CustomRecurrent.apply``.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.cuba.Neuron(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> from lapilli.slayer.utils.recurrent import CustomRecurrent
    >>> CustomRecurrent.apply(torch.rand(4, 2, 10), neuron, torch.eye(2)).shape
    torch.Size([4, 2, 10])
    """

    @staticmethod
    def apply(z: Tensor, neuron: torch.nn.Module, recurrent_mat: Tensor) -> Tensor:
        """Run a neuron with feedback.

        Parameters
        ----------
        z
            Input, ``[N, C, T]``, real units.
        neuron
            Neuron with one input.
        recurrent_mat
            Feedback weights ``[C, C]``: to, from.

        Returns
        -------
        Tensor
            Spikes, ``[N, C, T]``, not delayed.
        """
        if _runs_at_once(neuron):
            return neuron.run_with_feedback(z, recurrent_mat, spikes=None)[0]
        return _run(z, neuron, lambda frame: recurrent_mat @ frame)


def _matrix(recurrent_synapse: Any) -> Tensor:
    """Weight ``[C, C]`` of a synapse, through its hook."""
    return recurrent_synapse.effective_weight().flatten(1)


def custom_recurrent(z: Tensor, neuron: torch.nn.Module, recurrent_synapse: GenericLayer) -> Tensor:
    """Run a neuron with feedback through a synapse.

    Parameters
    ----------
    z
        Input, ``[N, C, T]``, real units.
    neuron
        Neuron with one input. It starts from rest, unless its state persists.
    recurrent_synapse
        ``Dense`` of C inputs and outputs; its weight is used through its hook, its bias is added
        at every step.

    Returns
    -------
    Tensor
        Spikes, ``[N, C, T]``, not delayed.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.cuba.Neuron(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> from lapilli.slayer.utils.recurrent import custom_recurrent
    >>> custom_recurrent(torch.rand(4, 2, 10), neuron, slayer.synapse.Dense(2, 2)).shape
    torch.Size([4, 2, 10])
    """
    return CustomRecurrent.apply(recurrent_synapse.biased(z), neuron, _matrix(recurrent_synapse))


def custom_recurrent_ground_truth_1(
    z: Tensor, neuron: torch.nn.Module, recurrent_synapse: GenericLayer
) -> Tensor:
    """Do as ``custom_recurrent``, step by step through the synapse's own forward.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.cuba.Neuron(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> from lapilli.slayer.utils.recurrent import custom_recurrent_ground_truth_1
    >>> synapse = slayer.synapse.Dense(2, 2)
    >>> custom_recurrent_ground_truth_1(torch.rand(4, 2, 10), neuron, synapse).shape
    torch.Size([4, 2, 10])
    """
    return _run(z, neuron, recurrent_synapse)


def custom_recurrent_ground_truth_2(
    z: Tensor, neuron: torch.nn.Module, recurrent_synapse: GenericLayer
) -> Tensor:
    """Do as ``custom_recurrent``, step by step with the synapse's matrix.

    Examples
    --------
    >>> import torch
    >>> from lapilli import slayer
    >>> neuron = slayer.neuron.cuba.Neuron(threshold=1, current_decay=0.25, voltage_decay=0.1)
    >>> from lapilli.slayer.utils.recurrent import custom_recurrent_ground_truth_2
    >>> synapse = slayer.synapse.Dense(2, 2)
    >>> custom_recurrent_ground_truth_2(torch.rand(4, 2, 10), neuron, synapse).shape
    torch.Size([4, 2, 10])
    """
    matrix = _matrix(recurrent_synapse)
    return _run(recurrent_synapse.biased(z), neuron, lambda frame: matrix @ frame)
