"""Networks as graphs of NIR, the Neuromorphic Intermediate Representation, and back.

NIR's neurons are differential equations; with forward Euler steps of ``dt`` they are lapilli's:

    CubaLIF  tau_syn = dt / a_u, w_in = 1 / a_u    u = (1 - a_u) u + x
             tau_mem = dt / a_v, r = 1 / a_v       v = (1 - a_v) v + u + b,  v_leak = b / a_v
             spikes where v > threshold, then v = v_reset = 0
    LIF      the same with a_u = 1;  IF also with a_v = 0, r = 1 / dt, and b in the weights' node
    CubaLI, LI, I   the same without threshold: Affine blocks

The hop of one step between layers and axonal delays are Delay nodes. A recurrent layer feeds its
spikes back one step later.

Imports ``file`` and ``network``. A ``step`` is one node of the chain from Input to Output, ``map_``
a node with weights, ``gain`` what these are multiplied with, ``lost_u`` and ``lost_v`` the shares
a_u and a_v; ``exact`` are weights before they are rounded to the grid of the file.

Source: Pedersen et al., Neuromorphic intermediate representation, Nature Communications 2024.
"""

from .reading import from_nir
from .writing import to_nir

__all__ = ["from_nir", "to_nir"]
