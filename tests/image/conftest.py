"""Fixtures for pictures: small photographs, files of every format, and colour profiles built byte by byte."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Encoder = Callable[..., bytes]


@pytest.fixture(scope="session")
def levels(photo_file: Callable[[str], Any]) -> NDArray[np.uint8]:
    """Return a photograph as (40, 56, 3), uint8."""
    with Image.open(photo_file("chelsea")) as image:
        return np.asarray(image.convert("RGB").resize((56, 40), Image.Resampling.LANCZOS))


@pytest.fixture(scope="session")
def encoded() -> Encoder:
    """Return `encoded(image, "PNG", **options)`, the file as bytes."""

    def encode(image: Image.Image, file_format: str, **options: Any) -> bytes:
        out = io.BytesIO()
        image.save(out, file_format, **options)
        return out.getvalue()

    return encode


def _tag(kind: bytes, body: bytes) -> bytes:
    return (kind + bytes(4) + body).ljust((len(kind + body) + 4 + 3) // 4 * 4, b"\0")


def _s15(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def _profile(space: bytes, device: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Build an ICC profile of version 2 (ICC.1:2001-04)."""
    text = b"test\0"
    description = _tag(b"desc", struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67))
    tags = {
        b"desc": description,
        b"cprt": _tag(b"text", b"none\0"),
        b"wtpt": _tag(b"XYZ ", _s15(0.9642, 1.0, 0.8249)),
        **tags,
    }
    at = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    head = struct.pack(
        ">I4sI4s4s4s6H4s", at + len(body), b"none", 0x02400000, device, space, connection, *(0,) * 6, b"acsp"
    )
    head = head.ljust(68, b"\0") + _s15(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + table + body


def _gamma(value: float) -> bytes:
    return _tag(b"curv", struct.pack(">IH", 1, round(value * 256)))


@pytest.fixture(scope="session")
def display_profile() -> bytes:
    """Build the profile of a display with gamma 2.2.

    Its primaries are sRGB's with red and green exchanged: red comes out green.
    """
    red, green, blue = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
    tags = {
        b"rXYZ": _tag(b"XYZ ", _s15(*green)),
        b"gXYZ": _tag(b"XYZ ", _s15(*red)),
        b"bXYZ": _tag(b"XYZ ", _s15(*blue)),
    }
    curves = {name: _gamma(2.2) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return _profile(b"RGB ", b"mntr", b"XYZ ", {**tags, **curves})


@pytest.fixture(scope="session")
def grey_profile() -> bytes:
    """Build a grey profile with gamma 1: linear light."""
    return _profile(b"GRAY", b"mntr", b"XYZ ", {b"kTRC": _gamma(1.0)})


@pytest.fixture(scope="session")
def cmyk_profile() -> bytes:
    """Build the profile of a printer whose inks all make the paper bluish grey.

    L = 100 - 25 per unit of ink, b = -10.
    """
    corners = np.stack(np.meshgrid(*[(0, 1)] * 4, indexing="ij"), -1).reshape(-1, 4).sum(1)
    lab = np.stack((255 - corners * 63.75, np.full(16, 128), np.full(16, 118)), 1).round().astype(np.uint8)
    identity = bytes(range(256))
    table = (
        struct.pack(">BBBB", 4, 3, 2, 0) + _s15(1, 0, 0, 0, 1, 0, 0, 0, 1) + identity * 4 + lab.tobytes() + identity * 3
    )
    lut = _tag(b"mft1", table)
    return _profile(b"CMYK", b"prtr", b"Lab ", {b"A2B0": lut, b"A2B1": lut, b"A2B2": lut})
