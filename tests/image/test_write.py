"""Tests of writing: formats, alpha, profile, metadata, and files that are complete or absent."""

import io
import logging
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, IptcImagePlugin

from impasto.errors import OptionError, PictureError
from impasto.image import exif
from impasto.image.picture import Metadata, Picture
from impasto.image.profiles import srgb_profile
from impasto.image.read import read_image, read_record, to_picture
from impasto.image.write import check_target, write_image

SUFFIXES = ("png", "jpg", "webp", "tif", "avif")
LOSSLESS = ("png", "tif")

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:e="http://ns.adobe.com/exif/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    b'e:GPSLatitude="52,31N" dc:format="a cat"/></rdf:RDF></x:xmpmeta>'
)


@pytest.fixture
def picture(levels: NDArray[np.uint8]) -> Picture:
    tags = Image.Exif()
    tags[274], tags[271] = 6, "Maker"
    tags.get_ifd(exif.EXIF_IFD)[33434] = 0.01
    tags.get_ifd(exif.GPS_IFD)[1] = "N"
    metadata = Metadata("photo.jpg", "JPEG", 8, exif.kept(tags.tobytes()), XMP)
    return replace(to_picture(levels), metadata=metadata)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(picture: Picture, tmp_path: Path, suffix: str) -> None:
    write_image(picture, tmp_path / f"a.{suffix}")
    again = read_image(tmp_path / f"a.{suffix}")
    if suffix in LOSSLESS:
        assert again.tensor.equal(picture.tensor)
    else:
        assert (again.tensor - picture.tensor).abs().mean() < 0.02
    assert again.alpha is None
    assert os.listdir(tmp_path) == [f"a.{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("keep_gps", [False, True])
def test_metadata(picture: Picture, tmp_path: Path, suffix: str, keep_gps: bool) -> None:
    path = tmp_path / f"a.{suffix}"
    write_image(picture, path, keep_gps=keep_gps)
    with Image.open(path) as image:
        tags = image.getexif()
        assert tags.get(274, 1) == 1
        assert tags[271] == "Maker"
        assert float(tags.get_ifd(exif.EXIF_IFD)[33434]) == 0.01
        assert bool(tags.get_ifd(exif.GPS_IFD)) == keep_gps
        assert image.info["icc_profile"] == srgb_profile()
    again = read_image(path).metadata
    assert b'dc:format="a cat"' in again.xmp
    assert (b"GPSLatitude" in again.xmp) == keep_gps
    assert (b"52,31N" in path.read_bytes()) == keep_gps
    block = exif.parse(again.exif)
    assert block is not None
    assert bool(block.gps) == keep_gps


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("keep_gps", [False, True])
def test_metadata_at_16_bits(picture: Picture, tmp_path: Path, suffix: str, keep_gps: bool) -> None:
    pytest.importorskip("pyvips")
    path = tmp_path / f"a.{suffix}"
    write_image(picture, path, bits=16, keep_gps=keep_gps, record={"a": [1]})
    assert read_record(path) == {"a": [1]}
    with Image.open(path) as image:
        image.load()
        assert image.getexif()[271] == "Maker"
        assert image.info["icc_profile"] == srgb_profile()
    again = read_image(path).metadata
    assert again.bits == 16
    assert b'dc:format="a cat"' in again.xmp
    assert (b"GPSLatitude" in again.xmp) == keep_gps
    assert b"Maker" in again.exif


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(levels: NDArray[np.uint8], tmp_path: Path, order: str) -> None:
    block = exif.pack(exif.Exif(order, {315: (2, 7, "Émile\0".encode())}, {33437: (5, 1, bytes(8))}))
    for bits in (8, 16):
        for suffix in SUFFIXES if bits == 8 else LOSSLESS:
            picture = replace(to_picture(levels), metadata=Metadata(exif=block))
            path = tmp_path / f"{bits}.{suffix}"
            write_image(picture, path, bits=bits)
            again = read_image(path)
            found = exif.parse(again.metadata.exif)
            assert found is not None
            assert found.main[315] == (2, 7, "Émile\0".encode()), suffix
            assert 33437 in found.photo
            if suffix in LOSSLESS:
                assert torch.allclose(again.tensor, picture.tensor, atol=1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_record(picture: Picture, tmp_path: Path, suffix: str) -> None:
    record = {"method": "optimize", "style": "nächtlich <&>", "steps": [1, 2.5], "none": None}
    path = tmp_path / f"a.{suffix}"
    write_image(picture, path, record=record)
    assert read_record(path) == record
    assert read_record(io.BytesIO(path.read_bytes())) == record
    assert b'dc:format="a cat"' in read_image(path).metadata.xmp
    # A painting painted over again has the record of its own making only.
    write_image(read_image(path), path)
    assert read_record(path) is None
    write_image(to_picture(np.zeros((8, 8, 3), np.uint8)), path, record=record)
    assert read_record(path) == record


def test_no_record(tmp_path: Path, encoded: Any) -> None:
    with pytest.raises(PictureError, match="does not exist"):
        read_record(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"words")
    with pytest.raises(PictureError, match="not a picture of a known format, so it holds no record"):
        read_record(tmp_path / "a.png")
    heic, tiff = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"II*\0\x08\0\0\0\0\0"
    assert read_record(io.BytesIO(heic)) is None
    assert read_record(io.BytesIO(tiff)) is None
    for kind in ("PNG", "JPEG", "BMP"):
        assert read_record(io.BytesIO(encoded(Image.new("RGB", (8, 8)), kind))) is None


def test_a_record_that_is_no_json(picture: Picture, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is not valid JSON"):
        write_image(picture, tmp_path / "a.png", record={"a": object()})
    assert not os.listdir(tmp_path)


def test_what_a_jpeg_cannot_hold(picture: Picture, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    long_xmp = XMP.replace(b"a cat", b"cat" * 30_000)
    block = exif.pack(exif.Exif("<", {270: (2, 70_000, b"x" * 70_000)}))
    full = replace(picture, metadata=replace(picture.metadata, xmp=long_xmp, exif=block))
    with caplog.at_level(logging.WARNING):
        write_image(full, tmp_path / "a.jpg", record={"a": 1})
    assert read_record(tmp_path / "a.jpg") == {"a": 1}
    assert [m.partition(": ")[2].split(" is")[0] for m in caplog.messages] == [
        "the photograph's EXIF",
        "the photograph's XMP",
    ]
    with caplog.at_level(logging.WARNING):
        write_image(picture, tmp_path / "a.jpg", record={"a": "b" * 70_000})
    assert "the record of how it was made is too long for a JPEG" in caplog.text
    assert read_record(tmp_path / "a.jpg") is None
    write_image(full, tmp_path / "a.webp", record={"a": "b" * 70_000})
    assert read_record(tmp_path / "a.webp") == {"a": "b" * 70_000}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_alpha(picture: Picture, tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    alpha = torch.ones(1, 1, *picture.size)
    alpha[..., :20] = 0
    with caplog.at_level(logging.WARNING):
        write_image(replace(picture, alpha=alpha), tmp_path / f"a.{suffix}")
    again = read_image(tmp_path / f"a.{suffix}")
    if suffix == "jpg":
        assert "filling transparent areas with white" in caplog.text
        assert again.alpha is None
        assert again.tensor[..., :12].min() > 0.98
    else:
        assert again.alpha is not None
        assert again.alpha.equal(alpha)
        if suffix in LOSSLESS:
            assert again.tensor.equal(picture.tensor), "what is transparent keeps its colour"


def test_opaque_alpha_is_no_matter_in_a_jpeg(
    picture: Picture, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        write_image(replace(picture, alpha=torch.ones(1, 1, *picture.size)), tmp_path / "a.jpg")
    assert not caplog.messages


def test_quality(picture: Picture, tmp_path: Path) -> None:
    for suffix in ("jpg", "webp", "avif"):
        sizes = []
        for quality in (20, 60, 95):
            write_image(picture, tmp_path / f"a.{suffix}", quality=quality)
            sizes.append((tmp_path / f"a.{suffix}").stat().st_size)
        assert sizes == sorted(set(sizes))
    write_image(picture, tmp_path / "a.webp", quality=100)
    assert read_image(tmp_path / "a.webp").tensor.equal(picture.tensor)
    for quality in (0, 101, 9.5, True):
        with pytest.raises(OptionError, match=f"--quality is {quality}"):
            write_image(picture, tmp_path / "b.jpg", quality=quality)  # type: ignore[arg-type]


def test_numbers_out_of_range_are_clamped(tmp_path: Path) -> None:
    tensor = torch.tensor([-0.5, 0.5, 1.5]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    write_image(Picture(tensor), tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png").tensor[0, :, 0, 0] * 255).round().tolist() == [0, 128, 255]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none(tmp_path: Path, value: float) -> None:
    with pytest.raises(PictureError, match="not finite; it was not written"):
        write_image(Picture(torch.full((1, 3, 2, 2), value)), tmp_path / "a.png")
    assert not os.listdir(tmp_path)


def test_sides_too_long_for_a_format(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"WEBP holds no side longer than 16383 pixels, and this picture is 1x17000"):
        write_image(Picture(torch.zeros(1, 3, 17000, 1)), tmp_path / "a.webp")
    with pytest.raises(PictureError, match="JPEG holds no side"):
        write_image(Picture(torch.zeros(1, 3, 1, 66000)), tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("a.xyz", "pictures cannot be written as .xyz; use one of .avif, .jpeg"),
        ("a.heic", "pictures cannot be written as .heic"),
        ("a", "its name has no suffix"),
        ("-", "the format for standard output is not given"),
    ],
)
def test_formats_that_are_none(target: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        check_target(target)


def test_formats() -> None:
    assert check_target("-", format="png") == "PNG"
    assert check_target(io.BytesIO(), format=".JPG") == "JPEG"
    assert check_target("a.TIFF") == "TIFF"
    assert check_target("a.jpg", format="webp") == "WEBP"
    with pytest.raises(OptionError, match="pictures cannot be written as 'gif'"):
        check_target("a.png", format="gif")


def test_places_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PictureError, match=r"there is no folder .*nowhere; create it first"):
        check_target(tmp_path / "nowhere" / "a.png")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(PictureError, match=r"b\.png is a folder"):
        check_target(tmp_path / "b.png")
    (tmp_path / "file").touch()
    with pytest.raises(PictureError, match="there is no folder"):
        check_target(tmp_path / "file" / "a.png")
    with pytest.raises(PictureError, match=r"cannot be written|no folder"):
        check_target("x" * 300 + "/a.png")
    with pytest.raises(PictureError, match="cannot be written"):
        check_target("a\0b.png")
    (tmp_path / "c.png").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("c.png"))
    with pytest.raises(PictureError, match="is write-protected"):
        check_target(tmp_path / "c.png")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PictureError, match="is not writable"):
        check_target(tmp_path / "d.png")


def test_standard_output_and_files(picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdout:
        buffer = io.BytesIO()

    out = io.BytesIO()
    write_image(picture, out, format="png")
    monkeypatch.setattr(sys, "stdout", Stdout)
    write_image(picture, "-", format="png")
    write_image(picture, tmp_path / "a.png")
    assert out.getvalue() == Stdout.buffer.getvalue() == (tmp_path / "a.png").read_bytes()
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(PictureError, match="standard output is not available here"):
        write_image(picture, "-", format="png")
    with pytest.raises(PictureError, match="cannot be written"):
        write_image(picture, io.StringIO(), format="png")  # type: ignore[arg-type]


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="needs a device")
def test_a_device_is_written_to_and_stays_one(picture: Picture) -> None:
    write_image(picture, "/dev/null", format="png")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def fail(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("failing", ["write", "encode"])
def test_a_failure_leaves_the_old_file(
    picture: Picture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full_disk: Callable[[], AbstractContextManager[None]],
    failing: str,
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"old")
    if failing == "encode":
        monkeypatch.setattr(Image.Image, "save", fail)
    with full_disk(), pytest.raises(PictureError, match=r"a\.jpg.*(File too large|No space left)"):
        write_image(picture, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.jpg"]


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_permissions(picture: Picture, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    old = os.umask(0o027)
    try:
        write_image(picture, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write_image(picture, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(old)


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_a_link_is_followed(picture: Picture, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    write_image(picture, tmp_path / "a.png")
    assert (tmp_path / "a.png").is_symlink()
    assert read_image(tmp_path / "elsewhere" / "b.png").size == picture.size


def test_the_same_picture_gives_the_same_bytes(picture: Picture, tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        for name in ("a", "b"):
            write_image(picture, tmp_path / f"{name}.{suffix}", record={"a": 1})
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


shapes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from((3, 4)))


@given(array=shapes.flatmap(lambda s: arrays(np.uint8, s)), file_format=st.sampled_from(("png", "tiff", "webp")))
def test_8_bits_come_back(array: NDArray[np.uint8], file_format: str) -> None:
    out = io.BytesIO()
    write_image(to_picture(array), out, format=file_format, quality=100)
    again = read_image(io.BytesIO(out.getvalue()))
    found = to_picture(array)
    assert again.tensor.equal(found.tensor)
    if found.alpha is not None and (again.alpha is not None or file_format != "webp"):  # WebP drops an opaque alpha
        assert again.alpha is not None
        assert again.alpha.equal(found.alpha)


@given(array=shapes.flatmap(lambda s: arrays(np.uint16, s)), file_format=st.sampled_from(("png", "tiff")))
def test_16_bits_come_back(array: NDArray[np.uint16], file_format: str) -> None:
    pytest.importorskip("pyvips")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{file_format}"
        write_image(to_picture(array), path, bits=16)
        again, found = read_image(path), to_picture(array)
    assert (again.tensor * 65535).round().equal((found.tensor * 65535).round())
    if found.alpha is not None:
        assert again.alpha is not None
        assert (again.alpha * 65535).round().equal((found.alpha * 65535).round())


IPTC = b"\x1c\x01\x5a\0\x03\x1b%G" + b"\x1c\x02\x78\0\x05a cat" + b"\x1c\x02\x50\0\x05Emile"


def iptc_in(path: Path) -> bytes:
    """Return the IPTC record of a file, as Pillow finds it."""
    with Image.open(path) as image:
        image.load()
        found = IptcImagePlugin.getiptcinfo(image) or {}
        if image.format == "PNG":
            lines = image.info["Raw profile type iptc"].split("\n")
            data = bytes.fromhex("".join(lines[3:]))
            assert int(lines[2]) == len(data)
            assert data.startswith(b"8BIM\x04\x04\0\0")
            found = {(2, 120): data[data.index(b"\x1c\x02\x78") + 5 :][:5]}
    caption = found.get((2, 120), b"")
    assert isinstance(caption, bytes)
    return caption


@pytest.mark.parametrize("source", ["jpg", "tif", "png"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("bits", [8, 16])
def test_iptc(
    levels: NDArray[np.uint8], tmp_path: Path, source: str, suffix: str, bits: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Captions and credits of news agencies pass from every format that holds them to every other one."""
    if bits == 16 and suffix not in LOSSLESS:
        pytest.skip("it has 8 bits")
    preview = b"\x1c\x02\xca\0\x07preview"
    photo = replace(to_picture(levels), metadata=Metadata(iptc=IPTC + preview))
    write_image(photo, tmp_path / f"photo.{source}")
    picture = read_image(tmp_path / f"photo.{source}")
    assert picture.metadata.iptc == IPTC, "without what shows the photograph as it was"
    with Image.open(tmp_path / f"photo.{source}") as image:
        assert to_picture(image).metadata.iptc == IPTC
    with caplog.at_level(logging.WARNING):
        write_image(picture, tmp_path / f"out.{suffix}", bits=bits)
    if suffix in ("webp", "avif"):
        assert "has no IPTC metadata; leaving the photograph's out" in caplog.text
        return
    assert iptc_in(tmp_path / f"out.{suffix}") == b"a cat"
    assert read_image(tmp_path / f"out.{suffix}").metadata.iptc == IPTC
    assert not caplog.messages


def test_iptc_that_is_damaged_or_too_long(
    levels: NDArray[np.uint8], tmp_path: Path, encoded: Any, caplog: pytest.LogCaptureFixture
) -> None:
    long = IPTC + b"\x1c\x02\x78\x80\x04" + (70_000).to_bytes(4, "big") + b"x" * 70_000
    photo = replace(to_picture(levels), metadata=Metadata(iptc=long))
    write_image(photo, tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif").metadata.iptc == long
    with caplog.at_level(logging.WARNING):
        write_image(photo, tmp_path / "a.jpg")
    assert "IPTC is too long for a JPEG; leaving it out" in caplog.text
    for i in range(len(IPTC)):
        segment = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + i.to_bytes(4, "big") + IPTC[:i] + b"\0" * (i % 2)
        extra = b"\xff\xed" + (2 + len(segment)).to_bytes(2, "big") + segment
        found = read_image(io.BytesIO(encoded(Image.fromarray(levels), "JPEG", extra=extra))).metadata.iptc
        assert IPTC.startswith(found)


@pytest.mark.parametrize("source", ["JPEG", "PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_resolution_is_kept(
    levels: NDArray[np.uint8], encoded: Any, tmp_path: Path, source: str, suffix: str
) -> None:
    """The resolution is read from wherever a format stores it: JFIF's header, PNG's pHYs, TIFF's directory."""
    data = encoded(Image.fromarray(levels), source, dpi=(300, 150))
    for i, photo in enumerate((read_image(io.BytesIO(data)), to_picture(Image.open(io.BytesIO(data))))):
        for bits in (8, 16) if suffix in LOSSLESS else (8,):
            path = tmp_path / f"{i}-{bits}.{suffix}"
            write_image(photo, path, bits=bits)
            with Image.open(path) as image:
                tags = image.getexif()
                assert (float(tags[282]), float(tags[283])) == pytest.approx((300, 150), abs=0.02)
                assert tags[296] == 2
                if suffix not in ("webp", "avif"):
                    assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)


def test_a_photograph_on_its_side_has_its_resolution_turned(levels: NDArray[np.uint8], encoded: Any) -> None:
    tags = Image.Exif()
    tags[274] = 6
    picture = read_image(io.BytesIO(encoded(Image.fromarray(levels), "JPEG", dpi=(300, 150), exif=tags)))
    found = exif.parse(picture.metadata.exif)
    assert found is not None
    assert found.dpi == pytest.approx((150, 300))


def test_no_resolution_is_made_up(levels: NDArray[np.uint8], encoded: Any) -> None:
    tags = Image.Exif()
    tags[271] = "Maker"
    for options in ({}, {"exif": tags}):
        picture = read_image(io.BytesIO(encoded(Image.fromarray(levels), "JPEG", **options)))
        found = exif.parse(picture.metadata.exif)
        assert found is None or found.dpi is None


def test_the_formats_limits_are_checked_with_the_target(tmp_path: Path) -> None:
    for suffix, side in (("webp", 16_384), ("jpg", 65_501), ("avif", 65_537)):
        with pytest.raises(PictureError, match=f"holds no side longer than .* is {side}x10; write .png or .tiff"):
            check_target(tmp_path / f"a.{suffix}", size=(10, side))
        check_target(tmp_path / f"a.{suffix}", size=(10, side - 1))
        check_target(tmp_path / "a.png", size=(10, side))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
@pytest.mark.parametrize("folder", ["the working folder", "that of temporary files"])
def test_a_picture_that_the_disk_does_not_take_is_kept(
    picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "out.webp").symlink_to("/dev/full")
    (tmp_path / "here").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    # No file can be made in /proc.
    monkeypatch.chdir(tmp_path / "here" if folder == "the working folder" else "/proc")
    with pytest.raises(PictureError, match=r"out\.webp cannot be written \(No space left on device\)") as caught:
        write_image(picture, tmp_path / "out.webp", record={"a": 1}, rescue=True)
    kept = Path(str(caught.value).partition("the picture is kept in ")[2])
    assert kept.parent == tmp_path / ("here" if folder == "the working folder" else "tmp")
    assert kept.suffix == ".webp"
    assert read_image(kept).size == picture.size
    assert read_record(kept) == {"a": 1}
    with pytest.raises(PictureError, match=r"No space left on device\); choose another place$"):
        write_image(picture, tmp_path / "out.webp")


def test_a_picture_that_its_format_does_not_take_is_kept_as_png(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PictureError, match="WEBP holds no side longer than 16383") as caught:
        write_image(Picture(torch.rand(1, 3, 1, 16_384)), "a.webp", rescue=True)
    kept = Path(str(caught.value).partition("the picture is kept in ")[2])
    assert read_image(kept).size == (1, 16_384)
