"""Files of AEDAT 2.0 and 3.1, written bit by bit, and the headers of real ones."""

import struct

CHIPS = {
    "DVS128": "ch.unizh.ini.jaer.chip.retina.DVS128",
    "DAVIS240": "eu.seebetter.ini.chips.davis.DAVIS240C",
    "DAVIS346": "eu.seebetter.ini.chips.davis.Davis346blue",
    "DAVIS640": "eu.seebetter.ini.chips.davis.Davis640",
}
SIZES = {"DVS128": (128, 128), "DAVIS240": (240, 180), "DAVIS346": (346, 260)}
SIZES["DAVIS640"] = (640, 480)


def address(camera, x, y, on):
    width, height = SIZES[camera]
    x, y = width - 1 - x, height - 1 - y
    return y << 8 | x << 1 | (not on) if camera == "DVS128" else y << 22 | x << 12 | on << 11


def header_2(chip=None):
    lines = ["#!AER-DAT2.0", "# This is a raw AE data file - do not edit"]
    lines += [f"# AEChip: {chip}"] if chip else []
    return "".join(line + "\r\n" for line in lines).encode()


def file_2(records, camera="DVS128", end=b""):
    """Write pairs of an address and a time."""
    body = b"".join(struct.pack(">II", a, t % 2**32) for a, t in records)
    return header_2(CHIPS[camera]) + end + body


HEADER_3 = (
    b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n"
    b"#Start-Time: 2016-09-20 10:15:00 (TZ+0200)\r\n#!END-HEADER\r\n"
)


def packet(events, kind=1, source=1, size=8, offset=4, overflow=0, capacity=None, valid=None):
    """Write a packet of events, each of them valid, x, y, on and a time."""
    body = b"".join(
        struct.pack("<Ii", x << 17 | y << 2 | on << 1 | good, t) for good, x, y, on, t in events
    )
    n = len(events)
    capacity = n if capacity is None else capacity
    valid = sum(bool(event[0]) for event in events) if valid is None else valid
    head = struct.pack("<hhiiiiii", kind, source, size, offset, overflow, capacity, n, valid)
    return head + body + bytes(max(capacity - n, 0) * 8)


# The headers of two recordings, as jAER wrote them, without the preferences of the camera
JAER_2015 = b"""\
#!AER-DAT2.0
# This is a raw AE data file - do not edit
# Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event
# Timestamps tick is 1 us
# created Fri Sep 18 09:50:42 CEST 2015
# HardwareInterface: DAVIS FX2 84010032
# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C
#Start of Preferences for this AEChip
#<?xml version="1.0" encoding="UTF-8" standalone="no"?>
#<!DOCTYPE preferences SYSTEM "http://java.sun.com/dtd/preferences.dtd">
#<preferences EXTERNAL_XML_VERSION="1.0">
#  <root type="user">
#    <map/>
#  </root>
#</preferences>
#End of Preferences for this AEChip
"""
JAER_2023 = b"""\
#!AER-DAT2.0
# This is a raw AE data file - do not edit
# Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event
# Timestamps tick: 1 us
# Creation date: Fri Sep 22 14:06:27 AEST 2023
# Creation time: System.currentTimeMillis() 1695355587880
# AEChip: eu.seebetter.ini.chips.davis.Davis346red
#Start of Preferences for this AEChip (search for "End of Preferences" to find end of this block)
#<?xml version="1.0" encoding="UTF-8" standalone="no"?>
#End of Preferences for this AEChip
# DataStartTime: System.currentTimeMillis() 1695355588001
#End Of ASCII Header
"""
