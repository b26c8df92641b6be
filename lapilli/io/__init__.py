"""Spike events: lists of them, tensors and files.

Files are records of 5 bytes, big-endian: place, polarity p and time t in microseconds.

    1-D (.bs1)    x 16 bits               p 1 bit   t 23 bits
    2-D (.bin)    x 8 bits   y 8 bits     p 1 bit   t 23 bits

``x, y, p, t`` are the same in an ``Event``, and ``c`` is the channel of a tensor, which p becomes.

Source: lava-dl io.py.
"""

from .event import Event, tensor_to_event
from .files import (
    encode_1d_spikes,
    encode_2d_spikes,
    encode_np_spikes,
    read_1d_spikes,
    read_2d_spikes,
    read_np_spikes,
)

__all__ = [
    "Event",
    "encode_1d_spikes",
    "encode_2d_spikes",
    "encode_np_spikes",
    "read_1d_spikes",
    "read_2d_spikes",
    "read_np_spikes",
    "tensor_to_event",
]
