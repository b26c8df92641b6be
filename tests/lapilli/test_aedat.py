"""AEDAT 2.0 and 3.1: files written here, bit by bit, and files that are damaged."""

import re
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from aedat_files import (
    CHIPS,
    HEADER_3,
    JAER_2015,
    JAER_2023,
    SIZES,
    address,
    file_2,
    header_2,
    packet,
)
from hypothesis import given
from hypothesis import strategies as st
from known import present

from lapilli.program.cli import main
from lapilli.recordings import aedat
from lapilli.recordings.errors import RecordingError, SmallerCameraWarning
from lapilli.recordings.formats import read
from lapilli.recordings.own import Options, Own


@pytest.fixture
def parsed(tmp_path):
    def parse(content, camera=None):
        path = tmp_path / "a.aedat"
        path.write_bytes(content)
        return {name: values.tolist() for name, values in aedat.read(path, camera).items()}

    return parse


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Give one file to all draws of a property."""
    return tmp_path_factory.mktemp("aedat") / "a.aedat"


def test_a_dvs128_by_hand(parsed):
    # 0x0103: y 1 from below, x 1 from the right, bit 0 set: darker
    content = header_2(CHIPS["DVS128"]) + bytes.fromhex("00000103 00000005  00007ffe 0000000a")
    assert parsed(content) == {"x": [126, 0], "y": [126, 0], "p": [False, True], "t": [5, 10]}


def test_a_davis_by_hand(parsed):
    # y 2 << 22 | x 5 << 12 | on 1 << 11
    content = header_2(CHIPS["DAVIS240"]) + bytes.fromhex("00805800 00000005")
    assert parsed(content) == {"x": [234], "y": [177], "p": [True], "t": [5]}


def test_a_packet_by_hand(parsed):
    head = bytes.fromhex("0100 0000 08000000 04000000 02000000 01000000 01000000 01000000")
    # x 3 << 17 | y 7 << 2 | on 1 << 1 | valid 1; two overflows of 2^31 us
    content = HEADER_3 + head + bytes.fromhex("1f000600 05000000")
    assert parsed(content) == {"x": [3], "y": [7], "p": [True], "t": [5 + 2 * 2**31]}


def events_of(camera):
    width, height = SIZES[camera]
    pixel = st.tuples(
        st.integers(0, width - 1), st.integers(0, height - 1), st.booleans(), st.integers(0, 10**9)
    )
    return st.lists(pixel, max_size=8)


@pytest.mark.parametrize("end", [b"", b"#End Of ASCII Header\r\n"])
@pytest.mark.parametrize("camera", SIZES)
@given(data=st.data())
def test_each_camera_round_trips(camera, end, data, path):
    steps = data.draw(events_of(camera))
    t = data.draw(st.integers(0, 2**32 - 1)) + np.cumsum([0] + [step for *_, step in steps])[1:]
    records = [(address(camera, *e[:3]), int(time)) for e, time in zip(steps, t, strict=True)]
    path.write_bytes(file_2(records, camera, end))
    got = aedat.read(path)
    columns = list(zip(*steps, strict=True)) or [(), (), (), ()]
    assert [got[name].tolist() for name in "xyp"] == [list(column) for column in columns[:3]]
    assert np.diff(got["t"]).tolist() == [step for *_, step in steps[1:]]
    assert got["t"].dtype == np.int64


PIXEL_3 = st.tuples(
    st.booleans(), st.integers(0, 4095), st.integers(0, 4095), st.booleans(),
    st.integers(0, 2**31 - 1),
)  # fmt: skip
PACKETS = st.lists(
    st.tuples(st.sampled_from([0, 1, 1, 1, 2, 3, 100]), st.lists(PIXEL_3, max_size=4),
              st.integers(0, 3)),
    max_size=5,
)  # fmt: skip


@given(packets=PACKETS)
def test_packets_round_trip(packets, path):
    packets = [(kind, sorted(events, key=lambda e: e[-1]), room) for kind, events, room in packets]
    content, expected = HEADER_3.replace(b"DVS128", b"Unknown"), []
    for overflow, (kind, events, room) in enumerate(packets):
        capacity = len(events) + room
        content += packet(events, kind, overflow=overflow, capacity=capacity)
        if kind == 1:
            expected += [(x, y, p, (overflow << 31) + t) for good, x, y, p, t in events if good]
    path.write_bytes(content)
    kinds = {kind for kind, *_ in packets}
    if kinds and 1 not in kinds:
        with pytest.raises(ValueError, match="none of type 1, polarity"):
            aedat.read(path)
        return
    got = aedat.read(path)
    assert list(zip(*(got[n].tolist() for n in "xypt"), strict=True)) == expected


SMALL = {
    "2.0": file_2([(address("DVS128", 3, 1, True), 5), (address("DVS128", 4, 2, False), 900)]),
    "3.1": HEADER_3 + packet([(1, 3, 1, 1, 5)]) + packet([(1, 4, 2, 0, 9), (0, 5, 5, 1, 10)]),
}
BODY = {"2.0": len(header_2(CHIPS["DVS128"])), "3.1": len(HEADER_3)}


@pytest.mark.parametrize("kind", SMALL)
def test_a_cut_off_file_raises_or_ends_with_a_whole_event(kind, parsed):
    whole = parsed(SMALL[kind])
    assert len(whole["t"]) == 2
    ends = []
    for length in range(BODY[kind], len(SMALL[kind])):
        try:
            part = parsed(SMALL[kind][:length])
        except ValueError as error:
            assert re.search("cut off", str(error))  # noqa: PT017
        else:
            assert all(part[name] == whole[name][: len(part[name])] for name in whole)
            ends.append(length - BODY[kind])
    assert ends == ([0, 8] if kind == "2.0" else [0, 36])


@pytest.mark.parametrize("kind", SMALL)
@given(data=st.data())
def test_damaged_files_raise_plain_errors(kind, data, path):
    content = bytearray(SMALL[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        got = aedat.read(path, "DVS128")
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert all((got[name] >= 0).all() and (got[name] < 2**15).all() for name in "xy")


def test_what_is_no_polarity_event_is_left_out(parsed):
    event = address("DAVIS346", 3, 4, True)
    others = [1 << 31 | event, 1 << 10 | event, 1 << 31 | 3 << 10]  # a frame, a pin, IMU
    content = file_2([(event, 1), *((other, 2) for other in others), (event, 3)], "DAVIS346")
    assert parsed(content)["t"] == [1, 3]
    event = address("DVS128", 3, 4, True)
    assert parsed(file_2([(event | 1 << 15, 1), (event, 2)]))["t"] == [2]


def test_an_event_that_starts_like_a_line_of_text(parsed):
    # 0x23 is the byte of a #: y 142 and 143 from below
    for event in (0x230A0000, 0x230D0800, 0x23410800):
        content = file_2([(event, 0x0D0A), (event, 0x0D0B)], "DAVIS346")
        assert parsed(content)["t"] == [0x0D0A, 0x0D0B]
    event = address("DVS128", 3, 4, True)
    bare = file_2([(event, 1)]).replace(b"\r\n", b"\n")
    assert parsed(bare)["t"] == [1]


def test_times_pass_the_wrap_and_may_shake_a_little(parsed):
    event = address("DVS128", 0, 0, True)
    t = parsed(file_2([(event, 2**32 - 5), (event, 3), (event, 1), (event, 2**32 - 2)]))["t"]
    assert t == [2**32 - 5, 2**32 + 3, 2**32 + 1, 2**32 - 2]


def test_a_camera_that_contradicts_a_file_without_a_name(parsed):
    for rows, words in ((100, "which a {} .* or of another camera"), (1, "none .* event of a {};")):
        of_dvs = [(address("DVS128", 5 + k % 100, 9 + k % rows, True), k) for k in range(2000)]
        for camera in ("DAVIS240", "DAVIS346", "DAVIS640"):
            with pytest.raises(ValueError, match=words.format(camera)):
                parsed(header_2() + b"".join(struct.pack(">II", *r) for r in of_dvs), camera)
    of_240 = [(address("DAVIS240", 5 + k % 100, 9, True), k) for k in range(2000)]
    nameless = header_2() + b"".join(struct.pack(">II", *record) for record in of_240)
    assert parsed(nameless, "DAVIS240")["x"][:2] == [5, 6]
    for camera in ("DAVIS346", "DAVIS640"):
        with pytest.warns(UserWarning, match=f"240 x 180 .* a DAVIS240, .* given as {camera}"):
            parsed(nameless, camera)


def nameless_of(records):
    return header_2() + b"".join(struct.pack(">II", *record) for record in records)


def test_few_events_warn_of_a_smaller_camera_too(parsed):
    edge = 346 - 240, 260 - 180  # the pixel up to which a DAVIS240 lies in the corner
    inside = nameless_of([(address("DAVIS346", *edge, True), 5)])
    with pytest.warns(SmallerCameraWarning, match="all 1 events are within 240 x 180"):
        parsed(inside, "DAVIS346")
    for x, y in ((edge[0] - 1, edge[1]), (edge[0], edge[1] - 1)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parsed(nameless_of([(address("DAVIS346", x, y, True), 5)]), "DAVIS346")


def test_a_folder_warns_once_and_of_all_its_files_together(tmp_path):
    def data_set(corner):
        for label in ("a", "b"):
            for k in range(4):
                path = tmp_path / label / f"{k}.aedat"
                path.parent.mkdir(exist_ok=True)
                at = corner if (label, k) == ("b", 3) else (300, 200)
                pixel = address("DAVIS346", at[0], at[1], True)
                path.write_bytes(nameless_of([(pixel, 5), (pixel, 90_000)]))
        return Own(tmp_path, Options(camera="DAVIS346"))

    def read_all(corner):
        data_set(corner).open().train.take(torch.tensor([0, 1]))

    with pytest.warns(SmallerCameraWarning, match="all 16 events .* a DAVIS240") as found:
        read_all((200, 150))
    assert len(found) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_all((3, 200))


def test_the_command_says_it_in_a_line(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for label in ("a", "b"):
        for k in range(4):
            path = tmp_path / "films" / label / f"{k}.aedat"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = [(address("DAVIS346", 340 + j, 250, True), 9000 * j) for j in range(6)]
            path.write_bytes(nameless_of(pixels))
    command = ["train", "films", "--camera", "DAVIS346", "--steps", "8", "--epochs", "1"]
    assert main([*command, "--shrink", "16", "--no-plots"]) == 0
    lines = capfd.readouterr().err.splitlines()
    found = [
        line for line in lines if line.startswith("lapilli: warning: all 48 events are within")
    ]
    assert len(found) == 1
    assert not any("Warning" in line for line in lines)


@pytest.mark.parametrize("mark", [b"\n", b"\r\n"])
@pytest.mark.parametrize(("header", "camera"), [(JAER_2015, "DAVIS240"), (JAER_2023, "DAVIS346")])
def test_headers_that_jaer_wrote(header, camera, mark, parsed):
    event = struct.pack(">II", address(camera, 3, 4, True), 7)
    got = parsed(header.replace(b"\n", mark) + event)
    assert got == {"x": [3], "y": [4], "p": [True], "t": [7]}


def test_paths_may_be_text(tmp_path):
    path = tmp_path / "a.aedat"
    path.write_bytes(file_2([(address("DVS128", 3, 4, True), 7)]))
    assert aedat.version(str(path)) == aedat.version(path) == "2.0"
    assert aedat.read(str(path))["x"] == aedat.read(path)["x"] == [3]
    assert read(str(path)).x == read(path).x == [3]


def test_a_clock_that_was_set_back(parsed):
    event = address("DVS128", 0, 0, True)
    with pytest.raises(ValueError, match=r"goes back by 1\.5 s after event 1.* cut the recording"):
        parsed(file_2([(event, 0), (event, 2_000_000), (event, 500_000)]))
    with pytest.raises(ValueError, match="goes back by 2 s after event 0"):
        parsed(HEADER_3 + packet([(1, 0, 0, 0, 3_000_000)]) + packet([(1, 0, 0, 0, 1_000_000)]))


def test_the_camera_is_named_or_given(parsed):
    event = address("DAVIS346", 3, 4, True)
    nameless = header_2() + struct.pack(">II", event, 7)
    assert parsed(nameless, "DAVIS346")["x"] == [3]
    for content, camera, words in (
        (nameless, None, "names no camera .*--camera DVS128, DAVIS240, DAVIS346, DAVIS640"),
        (nameless, "DVS128", "address 0x3fd56800, which a DVS128 with its 128 x 128 pixels"),
        (nameless, "DVS", "unknown camera 'DVS'; there are: DVS128"),
        (header_2("org.CochleaAMS1c"), None, "camera 'org.CochleaAMS1c'; of AEDAT 2.0, the cam"),
        (
            file_2([(event, 7)], "DAVIS346"),
            "DAVIS240",
            "names .*Davis346blue, and --camera says DAVIS240; leave",
        ),
        (file_2([(240 << 12, 7)], "DAVIS240"), None, "address 0x000f0000, which a DAVIS240"),
        (file_2([(180 << 22, 7)], "DAVIS240"), None, "address 0x2d000000, which a DAVIS240"),
    ):
        with pytest.raises(ValueError, match=words):
            parsed(content, camera)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not start with #!AER-DAT"),
        (b"\0\1\0\0\0\5", "so it is AEDAT 1.0 or no AEDAT; expected AEDAT 2.0, 3.1 or 4.0"),
        (b"#!AER-DAT3.0\r\n" + HEADER_3[14:], "it is AEDAT 3.0; expected"),
        (HEADER_3.replace(b"#!END-HEADER\r\n", b""), "has no line #!END-HEADER"),
        (HEADER_3.replace(b"RAW", b"Compressed"), "have the form #Format: Compressed; expected"),
        (HEADER_3.replace(b"#Format: RAW\r\n", b""), "the form that no line names"),
        (HEADER_3 + packet([(1, 0, 0, 0, 1)], size=16), "16 bytes with the time at byte 4"),
        (HEADER_3 + packet([(1, 0, 0, 0, 1)], offset=0), "8 bytes with the time at byte 0"),
        (HEADER_3 + packet([], capacity=-1), "has the header 1, 1, 8, 4, 0, -1, 0, 0; expected"),
        (HEADER_3 + packet([], kind=2, size=-8), "header 2, 1, -8"),
        (HEADER_3 + packet([], overflow=-1), "header 1, 1, 8, 4, -1"),
        (HEADER_3 + packet([(1, 0, 0, 0, 1)], valid=2), "none more than the one before"),
        (HEADER_3 + packet([(1, 0, 0, 0, 1)], capacity=0), "none more than the one before"),
        (HEADER_3 + packet([], capacity=3)[:28], "takes 52 bytes and the file has 28 there"),
        (HEADER_3 + packet([], kind=2, size=2**31 - 1, capacity=0)[:20], "has 20 bytes, its"),
        (HEADER_3 + packet([(1, 0, 0, 0, -1)]), "an event at a time below 0"),
        (HEADER_3 + packet([(1, 128, 3, 0, 1)]), "column 128 and row 3; .* 128 x 128 pixels of a"),
        (HEADER_3 + packet([(1, 3, 128, 0, 1)]), "column 3 and row 128"),
        (
            HEADER_3.replace(b"DVS128", b"New") + packet([(1, 4096, 3, 0, 1)]),
            "pixels of any camera",
        ),
        (HEADER_3 + packet([]) + packet([], source=2), r"2 cameras \(sources \[1, 2\]\)"),
    ],
)
def test_what_is_refused(content, words, parsed):
    with pytest.raises(ValueError, match=words):
        parsed(content)


def test_as_a_recording(tmp_path):
    path = tmp_path / "a.aedat"
    path.write_bytes(SMALL["3.1"])
    event = read(path)
    assert (event.x.tolist(), present(event.y).tolist()) == ([3, 4], [1, 2])
    assert event.c.tolist() == [1, 0]
    assert event.t.tolist() == pytest.approx([0.0, 0.004])
    path.write_bytes(header_2() + struct.pack(">II", address("DAVIS240", 3, 4, True), 7))
    assert read(path, camera="DAVIS240").x.tolist() == [3]
    with pytest.raises(RecordingError, match=r"a\.aedat cannot be read as \.aedat: it is AEDAT 2"):
        read(path)
    with pytest.raises(ValueError, match="unknown camera 'DVS'; there are: DVS128"):
        Options(camera="DVS")


def test_the_page_names_the_cameras():
    page = (Path(__file__).parents[2] / "docs/own-data.md").read_text()
    for camera in aedat.CAMERAS:
        assert camera in page
