"""Tests of EXIF blocks: what a painting keeps of its photograph's."""

import io
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from impasto.image import exif


def photograph_block(orientation: int = 6) -> bytes:
    """Return a block like a phone's, in the byte order that Pillow chooses."""
    tags = Image.Exif()
    tags[274], tags[271], tags[33432] = orientation, "Maker", "(c) somebody"
    photo = tags.get_ifd(exif.EXIF_IFD)
    photo[33434] = 0.01  # exposure time
    photo[exif.MAKER_NOTE] = b"secret of the maker"
    photo[exif.PIXEL_WIDTH], photo[exif.PIXEL_HEIGHT], photo[exif.COLOUR_SPACE] = 4000, 3000, 65535
    gps = tags.get_ifd(exif.GPS_IFD)
    gps[1], gps[2] = "N", (52.0, 31.0, 12.0)
    return tags.tobytes()


def test_what_is_read() -> None:
    block = exif.parse(photograph_block())
    assert block is not None
    assert block.orientation == 6
    assert block.main[271] == (2, 6, b"Maker\0")
    assert 33434 in block.photo
    assert exif.MAKER_NOTE not in block.photo
    assert set(block.gps) == {1, 2}


def test_what_is_kept() -> None:
    kept = exif.kept(photograph_block())
    block = exif.parse(kept)
    assert block is not None
    assert block.orientation == 1
    assert block.gps
    assert b"secret" not in kept


def test_a_thumbnail_is_not_kept(encoded: Any) -> None:
    thumbnail = encoded(Image.new("RGB", (16, 16)), "JPEG")
    first = exif.pack(exif.Exif("<", {271: (2, 6, b"Maker\0")}))
    second = struct.pack("<H", 2) + struct.pack("<HHII", 513, 4, 1, len(first) + 30)
    second += struct.pack("<HHII", 514, 4, 1, len(thumbnail)) + struct.pack("<I", 0)
    # The pointer to the second directory stands behind the one entry of the first.
    block = first[:22] + struct.pack("<I", len(first)) + first[26:] + second + thumbnail
    with Image.open(io.BytesIO(encoded(Image.new("RGB", (8, 8)), "JPEG", exif=b"Exif\0\0" + block))) as image:
        assert 513 in image.getexif().get_ifd(ExifTags.IFD.IFD1), "the test's block is wrong"
    assert thumbnail[:20] not in exif.kept(block)
    assert b"Maker" in exif.kept(block)


@pytest.mark.parametrize("keep_gps", [False, True])
def test_what_a_painting_gets(keep_gps: bool) -> None:
    block = exif.adapted(photograph_block(), (300, 400), keep_gps=keep_gps)
    assert block is not None
    tags = Image.Exif()
    tags.load(exif.pack(block))
    assert tags[274] == 1
    assert tags[271] == "Maker"
    photo = tags.get_ifd(exif.EXIF_IFD)
    assert (photo[exif.PIXEL_WIDTH], photo[exif.PIXEL_HEIGHT], photo[exif.COLOUR_SPACE]) == (400, 300, 1)
    assert float(photo[33434]) == 0.01
    assert bool(tags.get_ifd(exif.GPS_IFD)) == keep_gps
    assert (34853 in tags) == keep_gps


def test_bytes_are_carried_over_untouched() -> None:
    text = "Émile Münch\0".encode()
    block = exif.pack(exif.Exif(">", {315: (2, len(text), text)}))
    again = exif.adapted(block, (1, 1), keep_gps=False)
    assert again is not None
    assert again.order == ">"
    assert again.main[315] == (2, len(text), text)


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"II*\0", b"II*\0\x08\0\0\0", b"MM\0*\xff\xff\xff\xff", b"noise" * 9]
)
def test_nothing_worth_keeping(block: bytes) -> None:
    assert exif.kept(block) == b""
    assert exif.adapted(block, (1, 1), keep_gps=True) is None


@given(st.binary(max_size=200))
def test_noise_never_fails(noise: bytes) -> None:
    for head in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        exif.kept(head + noise)
        exif.adapted(head + noise, (1, 1), keep_gps=True)


entries = st.dictionaries(st.integers(36864, 42000), st.binary(min_size=1, max_size=20).map(lambda b: (7, len(b), b)))


@given(order=st.sampled_from("<>"), photo=entries, gps=entries, title=st.binary(min_size=1, max_size=9))
def test_round_trip(order: str, photo: dict[int, exif.Entry], gps: dict[int, exif.Entry], title: bytes) -> None:
    photo = {k: v for k, v in photo.items() if k not in exif.LEFT_OUT}
    block = exif.Exif(order, {270: (2, len(title), title)}, photo, gps)
    assert exif.parse(exif.pack(block)) == block
