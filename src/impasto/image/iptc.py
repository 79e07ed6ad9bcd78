"""IPTC metadata (Information Interchange Model, version 4): captions, credits and keywords of news agencies.

A record is a sequence of data sets: 0x1C, record number, data set number, length, value. A JPEG holds it in Photoshop's
resource 0x0404, a PNG in hexadecimal in ImageMagick's text `Raw profile type iptc`.
"""

import struct
from typing import Any

from PIL import Image

TIFF_TAG = 33723
RESOURCE = 0x0404
PNG_KEY = "Raw profile type iptc"
JPEG_HEADER = b"Photoshop 3.0\0"
RECORDS = (1, 2)
"""The envelope and the application record; other records hold the picture itself."""
PREVIEW = (200, 201, 202)
"""Data sets of record 2 that hold previews of the original photograph."""
HEX_LINE = 72


def iptc_of(image: Image.Image) -> bytes:
    """Return an image's IPTC record, without previews, or b""."""
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        value = tags.get(TIFF_TAG, b"")
        if isinstance(value, tuple) and all(isinstance(v, int) for v in value):  # as 32-bit numbers
            order = "<" if tags.prefix == b"II" else ">"
            value = struct.pack(f"{order}{len(value)}I", *(v & 0xFFFFFFFF for v in value))
        return kept(value) if isinstance(value, bytes) else b""
    resources = image.info.get("photoshop")
    if isinstance(resources, dict):
        return kept(resources.get(RESOURCE) or b"")
    text = image.info.get(PNG_KEY)
    if not isinstance(text, str):
        return b""
    try:
        data = bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""
    return kept(_in_resources(data) if data.startswith(b"8BIM") else data)


def kept(data: bytes) -> bytes:
    """Return the data sets worth keeping, up to the first invalid one."""
    found, at = b"", 0
    while data[at : at + 1] == b"\x1c" and at + 5 <= len(data):
        record, number, length = data[at + 1], data[at + 2], int.from_bytes(data[at + 3 : at + 5], "big")
        start = at + 5
        if length & 0x8000:  # an extended data set: this is the number of bytes of its length
            more = length & 0x7FFF
            length = int.from_bytes(data[start : start + more], "big")
            start += more
        if start + length > len(data):
            break
        if record in RECORDS and not (record == 2 and number in PREVIEW):
            found += data[at : start + length]
        at = start + length
    return found


def _in_resources(data: bytes) -> bytes:
    """Return the IPTC record in a sequence of Photoshop resources, or b""."""
    at = 0
    while data[at : at + 4] == b"8BIM" and at + 12 <= len(data):
        code = int.from_bytes(data[at + 4 : at + 6], "big")
        start = at + 6 + (data[at + 6] // 2 + 1) * 2  # after a Pascal string, padded to an even length
        length = int.from_bytes(data[start : start + 4], "big")
        if code == RESOURCE:
            return data[start + 4 : start + 4 + length]
        at = start + 4 + length + length % 2
    return b""


def as_resource(data: bytes) -> bytes:
    """Return a record as a Photoshop resource."""
    return b"8BIM" + struct.pack(">HHI", RESOURCE, 0, len(data)) + data + bytes(len(data) % 2)


def as_jpeg_segment(data: bytes) -> bytes:
    """Return a record as the APP13 segment of a JPEG, which holds less than 64 KB."""
    body = JPEG_HEADER + as_resource(data)
    return b"\xff\xed" + struct.pack(">H", 2 + len(body)) + body


def as_png_text(data: bytes) -> str:
    """Return a record as the text of a PNG's `Raw profile type iptc`."""
    resource = as_resource(data)
    digits = resource.hex()
    lines = [digits[i : i + HEX_LINE] for i in range(0, len(digits), HEX_LINE)]
    return "\n".join(["", "iptc", f"{len(resource):8d}", *lines, ""])
