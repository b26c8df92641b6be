import time
import warnings
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from known import present, wrong
from matplotlib import pyplot
from matplotlib.animation import FuncAnimation, PillowWriter
from PIL import Image

from lapilli import io
from lapilli.io import Event, tensor_to_event

ONE = {"x": [0, 199, 255], "p": [0, 1, 1], "t": [0.3, 1.5, 8388.607]}
TWO = {"x": [0, 33, 255], "y": [1, 2, 255], "p": [0, 1, 1], "t": [0, 1.2345, 299.9996]}


# events


def test_arguments_of_any_kind_become_arrays():
    for kind in (list, tuple, np.array, torch.tensor, lambda v: torch.tensor(v).float()):
        event = Event(kind([1, 2]), kind([3, 4]), kind([1, 2]), kind([5, 6]))
        assert (event.dim, event.graded, event.p, len(event)) == (2, False, None, 2)
        for name, want in (("x", [1, 2]), ("y", [3, 4]), ("c", [0, 1]), ("t", [5, 6])):
            array = getattr(event, name)
            assert isinstance(array, np.ndarray)
            assert array.tolist() == want
        assert np.issubdtype(event.x.dtype, np.integer)
    event = Event([1.9, -1.9], None, [0, 0], torch.tensor([0.5, 1.5], requires_grad=True), [2, 3])
    assert (event.dim, event.y, event.graded, present(event.p).tolist()) == (1, None, True, [2, 3])
    assert event.x.tolist() == [1, -1]
    assert event.t.dtype == np.float32


def test_channels_count_from_the_smallest_and_the_callers_array_stays():
    c = np.array([1, 1, 3])
    assert Event([0] * 3, None, c, [0] * 3).c.tolist() == [0, 0, 2]
    assert c.tolist() == [1, 1, 3]
    assert Event([0] * 3, None, c, [0] * 3, shift_channel=False).c.tolist() == [1, 1, 3]


def test_no_events_are_legal():
    for event in (Event([], None, [], []), Event([], [], [], [])):
        assert len(event) == 0
        assert event.to_tensor().size == 0
        shape = (2, 3, 4) if event.dim == 1 else (2, 3, 4, 5)
        assert not event.to_tensor(dim=shape).any()
    assert len(tensor_to_event(np.zeros((1, 2, 3)))) == 0


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"'x': 2, .*'c': 1"):
        Event([1, 2], None, [1], [1, 2])
    with pytest.raises(ValueError, match=r"t_event must have one dimension; got shape \(1, 2\)"):
        Event([1, 2], None, [1, 1], [[1, 2]])


# tensors


@pytest.fixture(params=["numpy", "torch", "strided"])
def zeros(request):
    return {
        "numpy": np.zeros,
        "torch": lambda shape: torch.zeros(shape),
        "strided": lambda shape: torch.zeros(shape[::-1]).permute(3, 2, 1, 0),
    }[request.param]


def events_in(tensor):
    return {tuple(int(i) for i in at): float(tensor[tuple(at)]) for at in np.argwhere(tensor != 0)}


def as_numpy(tensor):
    return tensor.numpy() if isinstance(tensor, torch.Tensor) else tensor


def test_bins_of_lava_dl(zeros):
    event = Event([0, 1, 0], [1, 0, 1], [0, 1, 0], [0.5, 1.5, 2.6])
    empty = zeros((2, 2, 2, 4))
    assert event.fill_tensor(empty) is empty
    assert events_in(as_numpy(empty)) == {(0, 1, 0, 0): 1, (1, 0, 1, 2): 1, (0, 1, 0, 3): 1}
    finer = as_numpy(event.fill_tensor(zeros((2, 2, 2, 6)), sampling_time=0.5))
    assert events_in(finer) == {(0, 1, 0, 1): 2, (1, 0, 1, 3): 2, (0, 1, 0, 5): 2}


def test_modes(zeros):
    event = Event([0, 0, 1, 9], None, [0, 0, 0, 0], [1, 1, 2, 3])  # the last is outside
    full = zeros((1, 1, 3, 4)) + 5
    assert events_in(as_numpy(event.fill_tensor(full)) - 5) == {(0, 0, 0, 1): -4, (0, 0, 1, 2): -4}
    full = zeros((1, 1, 3, 4)) + 5
    assert events_in(as_numpy(event.fill_tensor(full, binning_mode=wrong("sum"))) - 5) == {
        (0, 0, 0, 1): 2, (0, 0, 1, 2): 1,
    }  # fmt: skip
    graded = Event([0, 0, 1], None, [0, 0, 0], [1, 1, 2], np.array([0.5, 2, -3]))
    assert events_in(as_numpy(graded.fill_tensor(zeros((1, 1, 3, 4))))) == {
        (0, 0, 0, 1): 2.5, (0, 0, 1, 2): -3,
    }  # fmt: skip
    with pytest.raises(ValueError, match="'MAX'; expected 'OR' or 'SUM'"):
        event.fill_tensor(full, binning_mode=wrong("MAX"))
    with pytest.raises(ValueError, match=r"got shape \(3, 4\)"):
        event.fill_tensor(full[0, 0])


def test_places_may_become_fractions(zeros):
    event = Event([0, 1], [0, 1], [0, 0], [0, 0])
    event.x, event.y = event.x + 0.6, present(event.y) - 0.6  # augmentation
    assert events_in(as_numpy(event.fill_tensor(zeros((1, 2, 3, 1))))) == {(0, 0, 2, 0): 1}


def test_random_shift_of_lava_dl(zeros):
    np.random.seed(0)
    event = Event([0] * 3, None, [0] * 3, [10, 12, 30])
    bins = []
    for _ in range(4):
        tensor = as_numpy(event.fill_tensor(zeros((1, 1, 1, 20)), random_shift=True))
        bins.append(np.nonzero(tensor)[3].tolist())
    assert bins == [[5, 7], [10, 12], [7, 9], [7, 9]]


def test_random_shift_keeps_a_short_sample():
    event = Event([0, 0], None, [0, 0], [1, 4])
    starts = set()
    for _ in range(50):
        tensor = event.fill_tensor(np.zeros((1, 1, 1, 8)), random_shift=True)
        first, last = np.nonzero(tensor)[3]
        assert last - first == 3
        starts.add(int(first))
    assert starts == {1, 2, 3, 4}
    Event([], None, [], []).fill_tensor(np.zeros((1, 1, 1, 8)), random_shift=True)


def test_to_tensor():
    event = Event([2, 0], None, [0, 1], [0, 3.5])
    assert event.to_tensor().dtype == np.float64
    assert events_in(event.to_tensor()) == {(0, 2, 0): 1, (1, 0, 4): 1}
    assert event.to_tensor().shape == (2, 3, 5)
    assert event.to_tensor(dim=(2, 4, 9)).shape == (2, 4, 9)
    # the last event counts where the last time lies between two steps
    assert Event([0], None, [0], [1.5]).to_tensor().shape == (1, 1, 3)
    assert Event([0], [4], [0], [1.5]).to_tensor(0.5).shape == (1, 5, 1, 4)
    with pytest.raises(ValueError, match="dim must have 3 entries for events of 1"):
        event.to_tensor(dim=(1, 2, 3, 4))


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool, np.int16, np.uint8])
def test_a_tensor_comes_back(shape, dtype):
    tensor = (np.random.rand(*shape) < 0.4).astype(dtype)
    tensor[0].flat[0] = tensor[1].flat[0] = 1
    event = tensor_to_event(tensor)
    assert not event.graded
    assert event.dim == len(shape) - 2
    assert (event.to_tensor(dim=shape) == tensor).all()
    if dtype != np.int16:
        same = tensor_to_event(torch.from_numpy(tensor))
        assert same.t.tolist() == event.t.tolist()
    values = tensor * np.float64(0.25)
    values[0].flat[0] = 3
    graded = tensor_to_event(torch.tensor(values, requires_grad=True))
    assert graded.graded
    assert (graded.to_tensor(dim=shape) == values).all()


def test_sampling_time_of_tensor_to_event():
    tensor = np.array([[[0, 0.5, 0, 0.5]]])
    event = tensor_to_event(tensor, sampling_time=2)
    assert not event.graded
    assert event.t.tolist() == [2, 6]
    event = tensor_to_event(2 * tensor, sampling_time=2)
    assert event.graded
    assert present(event.p).tolist() == [2, 2]
    with pytest.raises(ValueError, match=r"got shape \(3, 4\)"):
        tensor_to_event(np.zeros((3, 4)))


# files


def test_bytes_of_lava_dl(tmp_path):
    file = tmp_path / "events"
    io.encode_1d_spikes(file, Event(ONE["x"], None, ONE["p"], ONE["t"]))
    assert file.read_bytes().hex() == "000000012c00c78005dc00ffffffff"
    event = io.read_1d_spikes(file)
    assert (event.dim, event.x.tolist(), event.c.tolist()) == (1, ONE["x"], ONE["p"])
    assert event.t.tolist() == ONE["t"]
    io.encode_2d_spikes(file, Event(TWO["x"], TWO["y"], TWO["p"], TWO["t"]))
    assert file.read_bytes().hex() == "000100000021028004d2ffff8493e0"
    event = io.read_2d_spikes(str(file))
    assert (event.dim, event.x.tolist(), present(event.y).tolist()) == (2, TWO["x"], TWO["y"])
    assert (event.c.tolist(), event.t.tolist()) == (TWO["p"], [0, 1.234, 300])
    io.encode_1d_spikes(file, Event([300], None, [0], [0]))
    assert file.read_bytes()[:2].hex() == "012c"


@given(st.data(), st.sampled_from([1, 2]))
def test_every_legal_event_comes_back(tmp_path_factory, data, dim):
    place = st.integers(0, 255 if dim == 2 else 65535)
    record = st.tuples(place, place, st.integers(0, 1), st.integers(0, 2**23 - 1))
    x, y, c, micros = np.array(data.draw(st.lists(record, max_size=20)), int).reshape(-1, 4).T
    event = Event(x, y if dim == 2 else None, c, micros / 1000)
    file = tmp_path_factory.mktemp("files") / "events"
    write, read = ((io.encode_1d_spikes, io.read_1d_spikes),
                   (io.encode_2d_spikes, io.read_2d_spikes))[dim - 1]  # fmt: skip
    write(file, event)
    assert file.stat().st_size == 5 * len(x)
    again = read(file)
    for name in "xyct":
        np.testing.assert_array_equal(getattr(again, name), getattr(event, name))


@pytest.mark.parametrize(
    ("event", "match"),
    [
        (Event([256], [0], [0], [0]), r"x is 256\.\.256; the file holds 0\.\.255"),
        (Event([0], [-1], [0], [0]), r"y is -1\.\.-1"),
        (Event([0, 0], [0, 0], [0, 2], [0, 0]), r"c is 0\.\.2; the file holds 0\.\.1"),
        (Event([0], [0], [0], [-1]), "1000 t is -1000"),
        (Event([0], [0], [0], [8388.608]), "1000 t is 8388608"),
        (Event([0], None, [0], [0]), "binary events of 2 dimensions; got binary ones of 1"),
        (Event([0], [0], [0], [0], [2]), "got graded ones"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(tmp_path, event, match):
    with pytest.raises(ValueError, match=match):
        io.encode_2d_spikes(tmp_path / "events", event)
    assert not list(tmp_path.iterdir())


def test_limits_of_one_dimension(tmp_path):
    with pytest.raises(ValueError, match=r"x is 65536\.\.65536; the file holds 0\.\.65535"):
        io.encode_1d_spikes(tmp_path / "events", Event([65536], None, [0], [0]))


def test_a_cut_off_file_is_refused(tmp_path):
    (tmp_path / "events").write_bytes(bytes(12))
    for read in (io.read_1d_spikes, io.read_2d_spikes):
        with pytest.raises(ValueError, match="12 bytes; expected a multiple of 5"):
            read(tmp_path / "events")
    (tmp_path / "events").write_bytes(b"")
    assert len(io.read_2d_spikes(tmp_path / "events")) == 0


@pytest.mark.slow
def test_a_million_events_are_read_at_once(tmp_path):
    raw = np.random.randint(0, 256, 5_000_000, np.uint8)
    raw.tofile(tmp_path / "events")
    seconds = []
    for _ in range(3):
        start = time.process_time()  # others may be at work
        assert len(io.read_2d_spikes(tmp_path / "events")) == 1_000_000
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.3


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.uint16])
def test_npy(tmp_path, dtype):
    file = tmp_path / "events.npy"
    np.save(file, np.array([[1, 2, 1, 1000], [3, 4, 0, 2000]], dtype))
    event = io.read_np_spikes(file, time_unit=1e-6)
    assert (event.x.tolist(), present(event.y).tolist()) == ([1, 3], [2, 4])
    assert event.c.tolist() == [1, 0]
    assert event.t.tolist() == [1, 2]
    io.encode_np_spikes(tmp_path / "again", event, time_unit=1e-6)
    again = np.load(tmp_path / "again.npy")
    assert again.dtype == np.float64
    assert again.tolist() == [[1, 2, 1, 1000], [3, 4, 0, 2000]]
    flat = Event([7], None, [0], [1.5])
    io.encode_np_spikes(file, flat)
    assert np.load(file).tolist() == [[7, 0, 1.5]]
    assert io.read_np_spikes(file).dim == 1


def test_npy_refuses(tmp_path):
    file = tmp_path / "events.npy"
    np.save(file, np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"has shape \(3, 5\)"):
        io.read_np_spikes(file)
    for call in (
        io.read_np_spikes,
        lambda f, **o: io.encode_np_spikes(f, Event([], None, [], []), **o),
    ):
        with pytest.raises(ValueError, match="'txyp'; expected 'xypt'"):
            call(file, fmt="txyp")
    with pytest.raises(ValueError, match="graded"):
        io.encode_np_spikes(file, Event([0], None, [0], [0], [2]))
    np.save(file, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        io.read_np_spikes(file)


# pictures

RNG = np.random.default_rng(0)


def some(dim, graded, n=60):
    y = RNG.integers(0, 12, n) if dim == 2 else None
    payload = RNG.random(n) if graded else None
    return Event(RNG.integers(0, 10, n), y, RNG.integers(0, 3, n), RNG.random(n) * 200, payload)


@pytest.fixture(autouse=True)
def _no_display(monkeypatch):
    matplotlib.use("Agg")
    yield
    pyplot.close("all")


def inked(image, of):
    """Share of the pixels of the last frame that are far from grey."""
    image.seek(of)
    pixels = np.asarray(image.convert("RGB"), float)
    return float((np.ptp(pixels, axis=-1) > 60).mean())


@pytest.mark.parametrize(("dim", "graded"), [(1, False), (1, True), (2, False)])
def test_films_show_the_events(tmp_path, dim, graded):
    film = some(dim, graded).anim(frame_rate=20)
    assert isinstance(film, FuncAnimation)
    assert pyplot.get_fignums() == []  # closed
    film.save(tmp_path / "film.gif", PillowWriter(10))
    with Image.open(tmp_path / "film.gif") as image:
        assert image.n_frames == 4  # 200 ms of 50 ms each
        first, last = inked(image, 0), inked(image, 3)
    assert first > 0.001
    assert (last > 1.5 * first) == (dim == 1)  # a raster grows, an image shows what is new


def test_an_image_has_colours_of_channels():
    event = Event([0, 1, 2], [0, 0, 1], [0, 1, 2], [1, 2, 3])
    film: Any = event.anim(frame_rate=1)
    film._draw_frame(0)
    image = film._fig.axes[0].images[0].get_array()
    assert np.asarray(image).tolist() == [
        [[0, 1, 0], [1, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0], [0, 0, 1]],
    ]  # fmt: skip
    film.to_jshtml()


def test_precomputed_images_are_the_same():
    event = some(2, False)
    for n in range(2):
        images = []
        for before in (True, False):
            film: Any = event.anim(frame_rate=10, pre_compute_frames=before)
            film._draw_frame(n)
            film._draw_was_started = True  # or matplotlib warns that nothing was rendered
            images.append(np.asarray(film._fig.axes[0].images[0].get_array()))
        np.testing.assert_array_equal(*images)


ODD = {
    "none, 1-D": Event([], None, [], []),
    "none, 2-D": Event([], [], [], []),
    "all at one time": Event([1, 2], None, [0, 0], [0, 0]),
    "all at one time, 2-D": Event([1, 2], [0, 1], [0, 0], [7, 7]),
    "equal payloads": Event([1, 2], None, [0, 0], [1, 2], [5, 5]),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("before", [True, False])
def test_odd_films(name, before):
    film: Any = ODD[name].anim(pre_compute_frames=before)
    film._draw_frame(0)
    assert len(film.to_jshtml()) > 1000


def test_fractional_places_after_augmentation():
    event = some(2, False)
    event.x, event.y = event.x - 1.3, present(event.y) + 0.4
    event.anim(frame_rate=10).to_jshtml()


def test_figures():
    figure = pyplot.figure()
    other = pyplot.figure()
    film: Any = some(1, False).anim(figure)
    assert film._fig is figure
    assert not other.axes, "drawn on the figure that was given, not on the current one"
    film.to_jshtml()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert some(2, False).show(fig=7) is None
    assert pyplot.figure(7).axes
    with pytest.raises(ValueError, match="frame_rate is 0"):
        some(1, False).anim(frame_rate=0)
