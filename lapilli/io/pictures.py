"""Films of spike events, drawn with matplotlib. It is imported when the first one is made."""

import math
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from lapilli.extras import require

_COLOURS = {1: 0, 0: 1, 2: 2}  # channel to red, green, blue


class Drawable(Protocol):
    """Events of one or two dimensions, as ``Event`` holds them."""

    x: np.ndarray
    y: np.ndarray | None
    c: np.ndarray
    t: np.ndarray  # milliseconds
    p: np.ndarray | None  # payload of graded events
    dim: int

    def __len__(self) -> int: ...


def animate(
    event: Drawable,
    fig: Any,
    frame_rate: float,
    pre_compute_frames: bool,
    repeat: bool,
    close: bool,
) -> Any:
    """Make a film, see ``Event.anim``; ``close`` takes its figure from pyplot."""
    if not frame_rate > 0:
        raise ValueError(f"frame_rate is {frame_rate}; expected frames a second, above 0")
    animation = require("matplotlib.animation", "matplotlib")
    pyplot = require("matplotlib.pyplot", "matplotlib")
    if fig is None or isinstance(fig, int):
        fig = pyplot.figure(fig)
    length = 1e3 / frame_rate  # ms of a frame
    number = np.floor(event.t / length).astype(np.int64)
    first, last = (int(number.min()), int(number.max())) if len(event) else (0, 0)
    axes = fig.add_subplot()
    draw = _image(event, axes, number) if event.dim == 2 else _raster(event, axes, length)
    if pre_compute_frames and event.dim == 2:
        images = [_pixels(event, number == n) for n in range(first, last + 1)]
        draw = lambda n: axes.images[0].set_data(images[n - first])  # noqa: E731

    def update(n: int) -> list[Any]:
        draw(n)
        return [*axes.images, *axes.lines, *axes.collections]

    film = animation.FuncAnimation(
        fig, update, frames=range(first, last + 1), interval=length, repeat=repeat
    )
    if close:
        pyplot.close(fig)
    return film


def show(
    event: Drawable, fig: Any, frame_rate: float, pre_compute_frames: bool, repeat: bool
) -> None:
    """Show a film, see ``Event.show``."""
    film = animate(event, fig, frame_rate, pre_compute_frames, repeat, close=False)
    pyplot = require("matplotlib.pyplot", "matplotlib")
    with warnings.catch_warnings():
        # where there is no display
        warnings.filterwarnings("ignore", message=".*non-interactive", category=UserWarning)
        pyplot.show()
    film._fig.canvas.draw_idle()
    film._fig.film = film  # one that nobody holds stops


def _size(places: np.ndarray) -> int:
    return math.ceil(places.max()) + 1 if places.size else 1


def _pixels(event: Drawable, chosen: np.ndarray) -> np.ndarray:
    """Image of the chosen events, ``[height, width, 3]``."""
    assert event.y is not None, "a picture needs events of two dimensions"
    image = np.zeros((_size(event.y), _size(event.x), 3))
    for channel, colour in _COLOURS.items():
        index = chosen & (event.c == channel)
        y, x = (np.round(v[index]).astype(np.int64) for v in (event.y, event.x))
        seen = (x >= 0) & (y >= 0)  # augmentation may move events out of the image
        image[y[seen], x[seen], colour] = 1
    return image


def _image(event: Drawable, axes: Any, number: np.ndarray) -> Callable[[int], None]:
    image = axes.imshow(_pixels(event, np.zeros(len(event), bool)), vmin=0, vmax=1)
    return lambda n: image.set_data(_pixels(event, number == n))


def _raster(event: Drawable, axes: Any, length: float) -> Callable[[int], None]:
    height = _size(event.x)
    start, end = (float(event.t.min()), float(event.t.max())) if len(event) else (0.0, 1.0)
    margin = 0.1 * (end - start) or length
    axes.set(xlim=(start - margin, end + margin), ylim=(-0.1 * height, 1.1 * height))
    axes.set(xlabel="time in ms", ylabel="neuron")
    (line,) = axes.plot([], [], color="tab:orange")
    strength = np.ones(len(event))
    if event.p is not None and np.ptp(event.p):
        strength = (event.p - event.p.min()) / np.ptp(event.p)
    dots = axes.scatter([], [], color="tab:blue")

    def draw(n: int) -> None:
        now = (n + 1) * length
        seen = event.t < now
        dots.set_offsets(np.stack([event.t[seen], event.x[seen]], 1))
        if event.p is not None:
            dots.set_sizes(50 * strength[seen])
            dots.set_alpha(strength[seen])
        else:
            dots.set_sizes([8.0])
        line.set_data([now, now], [0, height])

    return draw
