"""Lists of spike events, and tensors of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from . import pictures

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.figure import Figure

AnyTensor = TypeVar("AnyTensor", np.ndarray, Tensor)


def _array(name: str, values: Any) -> np.ndarray:
    """Return a sequence, array or tensor as a one-dimensional array."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.size == 0:
        array = array.reshape(0)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension; got shape {array.shape}")
    return array


def _whole(name: str, values: Any) -> np.ndarray:
    """Return whole numbers; fractions are cut off."""
    array = _array(name, values)
    return array if np.issubdtype(array.dtype, np.integer) else array.astype(np.int64)


def _within(shape: Sequence[int], *at: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Return the entries of an index that lie within a shape, and which they are."""
    inside = np.ones(len(at[0]), bool)
    for bins, size in zip(at, shape, strict=True):
        inside &= (bins >= 0) & (bins < size)
    return tuple(bins[inside] for bins in at), inside


class Event:
    """Spike events: where, which polarity, when, and how strong.

    Parameters
    ----------
    x_event, y_event
        Place of each event, rounded toward zero; ``y_event`` None for one dimension.
    c_event
        Channel of each event, usually its polarity.
    t_event
        Time of each event in milliseconds; in any order.
    payload
        Value of each event; None: events are binary.
    shift_channel
        Count the channels from the smallest one, as lava-dl does: a recording of polarity 1 alone
        has channel 0.

    Attributes
    ----------
    x, y, c, t, p : numpy.ndarray
        The arguments, one entry an event; ``y`` is None in one dimension, ``p`` for binary events.
        ``x`` and ``y`` may be replaced by fractions, which ``fill_tensor`` rounds.
    dim : int
        1 or 2.
    graded : bool
        Whether there is a payload.

    Raises
    ------
    ValueError
        If the arguments have different lengths or more than one dimension.

    Examples
    --------
    >>> from lapilli.slayer import io
    >>> event = io.Event([3, 5], None, [0, 1], [1.0, 4.0])  # two spikes, at 1 and at 4 ms
    >>> import torch
    >>> event.fill_tensor(torch.zeros(2, 1, 8, 6)).sum()  # [channels, 1, places, steps]
    tensor(2.)
    """

    def __init__(
        self,
        x_event: ArrayLike,
        y_event: ArrayLike | None,
        c_event: ArrayLike,
        t_event: ArrayLike,
        payload: ArrayLike | None = None,
        *,
        shift_channel: bool = True,
    ) -> None:
        self.dim = 1 if y_event is None else 2
        self.graded = payload is not None
        self.x = _whole("x_event", x_event)
        self.y = None if y_event is None else _whole("y_event", y_event)
        self.c = _whole("c_event", c_event)
        self.t = _array("t_event", t_event)
        self.p = None if payload is None else _array("payload", payload)
        sizes = {n: len(v) for n, v in vars(self).items() if isinstance(v, np.ndarray)}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"events need as many entries of each kind; got {sizes}")
        if shift_channel and self.c.size:
            self.c = self.c - self.c.min()

    def __len__(self) -> int:
        return len(self.t)

    def _places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return whole channel, row and column of each event."""
        y = np.zeros(len(self)) if self.y is None else self.y
        c, y, x = (np.round(v).astype(np.int64) for v in (self.c, y, self.x))
        return c, y, x

    def _steps(self, sampling_time: float) -> np.ndarray:
        """Return the time step of each event."""
        return np.round(self.t / sampling_time).astype(np.int64)

    def bins(self, shape: Sequence[int], sampling_time: float = 1) -> tuple[np.ndarray, ...]:
        """Return where the events are in a tensor: channel, row, column and step of each.

        Parameters
        ----------
        shape
            ``(C, H, W, T)`` of the tensor; events outside are left out.
        sampling_time
            Milliseconds a step.
        """
        return _within(shape, *self._places(), self._steps(sampling_time))[0]

    def fill_tensor(
        self,
        empty_tensor: AnyTensor,
        sampling_time: float = 1,
        random_shift: bool = False,
        binning_mode: Literal["OR", "SUM"] = "OR",
    ) -> AnyTensor:
        """Write the events into a tensor.

        Parameters
        ----------
        empty_tensor
            ``[C, H, W, T]`` array or tensor, written in place; events outside are left out. Events
            of one dimension go to row 0.
        sampling_time
            Milliseconds a step.
        random_shift
            Move the events in time at random: those that are longer than the tensor to earlier
            times, the others to later ones within it. Uses NumPy's global generator.
        binning_mode
            ``OR`` writes ``1 / sampling_time`` wherever there is an event; ``SUM`` adds it for each
            event to what is there. Graded events add their payload in either mode.

        Returns
        -------
        numpy.ndarray or Tensor
            ``empty_tensor``.

        Raises
        ------
        ValueError
            If the tensor does not have 4 dimensions, or the mode is unknown.
        """
        mode = binning_mode.upper()
        if mode not in ("OR", "SUM"):
            raise ValueError(f"binning_mode is {binning_mode!r}; expected 'OR' or 'SUM'")
        if empty_tensor.ndim != 4:
            raise ValueError(
                "fill_tensor needs a tensor [channels, height, width, time]; got shape "
                f"{tuple(empty_tensor.shape)}"
            )
        steps, T = self._steps(sampling_time), empty_tensor.shape[-1]
        if random_shift and len(self):
            steps = steps + self._random_steps(sampling_time, T, int(steps.max()))
        at, inside = _within(empty_tensor.shape, *self._places(), steps)
        values = np.full(len(at[0]), 1 / sampling_time) if self.p is None else self.p[inside]
        add = self.graded or mode == "SUM"
        if isinstance(empty_tensor, Tensor):
            index = tuple(torch.from_numpy(bins).to(empty_tensor.device) for bins in at)
            values = torch.from_numpy(values).to(empty_tensor)
            empty_tensor.index_put_(index, values, accumulate=add)
        elif add:
            np.add.at(empty_tensor, at, values.astype(empty_tensor.dtype))
        else:
            empty_tensor[at] = values
        return empty_tensor

    def _random_steps(self, sampling_time: float, T: int, last: int) -> int:
        """Draw the steps to move by, so that something is left of the events."""
        if last < T:
            return np.random.randint(T - last)
        early, late = (int(t / sampling_time) for t in (self.t.min(), self.t.max()))
        return -np.random.randint(max(early, late - T, 1))

    def to_tensor(self, sampling_time: float = 1, dim: tuple[int, ...] | None = None) -> np.ndarray:
        """Turn the events into a tensor.

        Parameters
        ----------
        sampling_time
            Milliseconds a step.
        dim
            Shape: ``(C, W, T)``, for two dimensions ``(C, H, W, T)``. None: what the events need.

        Returns
        -------
        numpy.ndarray
            float64, ``1 / sampling_time`` or the payload where there are events.

        Raises
        ------
        ValueError
            If ``dim`` has another length.
        """
        if dim is None:
            at = (*self._places(), self._steps(sampling_time))
            c, h, w, T = (int(v.max()) + 1 if len(self) else 0 for v in at)
            dim = (c, w, T) if self.dim == 1 else (c, h, w, T)
        if len(dim) != self.dim + 2:
            raise ValueError(
                f"dim must have {self.dim + 2} entries for events of {self.dim} dimensions; got "
                f"{dim}"
            )
        shape = (dim[0], 1, *dim[1:]) if self.dim == 1 else tuple(dim)
        return self.fill_tensor(np.zeros(shape), sampling_time).reshape(dim)

    def anim(
        self,
        fig: "Figure | int | None" = None,
        frame_rate: float = 24,
        pre_compute_frames: bool = True,
        repeat: bool = True,
    ) -> "FuncAnimation":
        """Make a film of the events, in real time.

        One dimension: a raster that grows behind a line; graded events are the larger and the more
        opaque the larger their payload. Two dimensions: an image, channel 0 green, 1 red, 2 blue.

        Parameters
        ----------
        fig
            Figure of matplotlib or its number; None for a new one. It is closed.
        frame_rate
            Frames a second.
        pre_compute_frames
            Make all images at once, for a smooth display.
        repeat
            Start again at the end.

        Returns
        -------
        matplotlib.animation.FuncAnimation
            With its methods ``save`` and ``to_jshtml``.
        """
        return pictures.animate(self, fig, frame_rate, pre_compute_frames, repeat, close=True)

    def show(
        self,
        fig: "Figure | int | None" = None,
        frame_rate: float = 24,
        pre_compute_frames: bool = True,
        repeat: bool = False,
    ) -> None:
        """Show the film of ``anim`` in a window, where there is a display."""
        pictures.show(self, fig, frame_rate, pre_compute_frames, repeat)


def tensor_to_event(spike_tensor: np.ndarray | Tensor, sampling_time: float = 1) -> Event:
    """List the entries of a tensor that are not zero as events.

    Parameters
    ----------
    spike_tensor
        Array or tensor ``[C, W, T]`` or ``[C, H, W, T]`` of any type, on any device.
    sampling_time
        Milliseconds a step.

    Returns
    -------
    Event
        In the order of the tensor's memory; binary if all entries are ``1 / sampling_time``,
        otherwise with payload ``entry * sampling_time``.

    Raises
    ------
    ValueError
        For another number of dimensions.

    Examples
    --------
    >>> import torch
    >>> from lapilli.slayer import io
    >>> event = io.tensor_to_event(torch.eye(3).view(1, 1, 3, 3))  # [channels, rows, places, steps]
    >>> event.t.tolist()
    [0, 1, 2]
    """
    if isinstance(spike_tensor, Tensor):
        spike_tensor = spike_tensor.detach().cpu().numpy()
    if spike_tensor.ndim not in (3, 4):
        raise ValueError(
            "expected a tensor [channels, width, time] or [channels, height, width, time]; got "
            f"shape {spike_tensor.shape}"
        )
    c, *places, step = at = np.nonzero(spike_tensor)
    y, x = (None, places[0]) if len(places) == 1 else places
    payload = spike_tensor[at] * sampling_time
    if np.abs(payload - 1).sum() < 1e-6:
        payload = None
    return Event(x, y, c, step * sampling_time, payload)
