"""PNGs with texts and profiles too large for Pillow are still read, and what is skipped is logged."""

import io
import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from impasto.image.read import read_image, read_record
from impasto.image.reduced import read_reduced
from impasto.image.write import write_image

MEGABYTE = 2**20


def with_chunk(png: bytes, kind: bytes, data: bytes, at_end: bool = False) -> bytes:
    """Return the file with one more chunk, after its header or before its end."""
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    at = len(png) - 12 if at_end else 33
    return png[:at] + chunk + png[at:]


@pytest.fixture
def png(levels: NDArray[np.uint8], encoded: Any) -> bytes:
    return encoded(Image.fromarray(levels), "PNG")


LARGE = {
    "a compressed text": (b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * (2 * MEGABYTE))),
    "an international text": (b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(b"x" * (2 * MEGABYTE))),
    "a plain text": (b"tEXt", b"prompt\0" + b"x" * (65 * MEGABYTE)),
    "a profile": (b"iCCP", b"printer\0\0" + zlib.compress(b"x" * (2 * MEGABYTE))),
}


@pytest.mark.parametrize("what", LARGE)
@pytest.mark.parametrize("at_end", [False, True])
def test_it_is_skipped_and_said(
    png: bytes, levels: NDArray[np.uint8], what: str, at_end: bool, caplog: pytest.LogCaptureFixture
) -> None:
    kind, data = LARGE[what]
    file = with_chunk(png, kind, data, at_end and kind != b"iCCP")
    with caplog.at_level(logging.WARNING):
        picture = read_image(io.BytesIO(file))
    assert np.array_equal((picture.tensor[0].permute(1, 2, 0) * 255).round().numpy(), levels)
    (said,) = caplog.messages
    assert said.startswith("the picture: skipping its " + ("colour profile" if kind == b"iCCP" else "text"))
    assert read_record(io.BytesIO(file)) is None
    assert np.array_equal(read_reduced(io.BytesIO(file), 1000), levels)


def test_many_texts_are_too_many_together(png: bytes, caplog: pytest.LogCaptureFixture) -> None:
    for i in range(3):
        png = with_chunk(png, b"tEXt", b"part %d\0" % i + b"x" * (30 * MEGABYTE))
    with caplog.at_level(logging.WARNING):
        assert read_image(io.BytesIO(png)).size == (40, 56)
    assert len(caplog.messages) == 1


def test_16_bits(levels: NDArray[np.uint8], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("pyvips")
    from impasto.image.read import to_picture

    write_image(to_picture(levels.astype(np.uint16) * 257), tmp_path / "a.png", bits=16)
    file = with_chunk((tmp_path / "a.png").read_bytes(), *LARGE["a compressed text"])
    with caplog.at_level(logging.WARNING):
        assert read_image(io.BytesIO(file)).metadata.bits == 16
    assert "skipping its text" in caplog.text


def test_small_ones_are_nothing_to_speak_of(
    png: bytes, display_profile: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = with_chunk(png, b"iCCP", b"display\0\0" + zlib.compress(display_profile))
    file = with_chunk(file, b"zTXt", b"comment\0\0" + zlib.compress(b"x" * (MEGABYTE - 1)))
    with caplog.at_level(logging.WARNING):
        swapped, plain = read_image(io.BytesIO(file)), read_image(io.BytesIO(png))
    assert not caplog.messages
    assert (swapped.tensor - plain.tensor).abs().mean() > 0.01, "the profile is heeded"
