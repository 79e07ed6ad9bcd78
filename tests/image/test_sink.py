"""Writing row by row gives the same files as `write_image`, and never an incomplete one."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from impasto.errors import OptionError, PictureError
from impasto.image import exif
from impasto.image.picture import Metadata, Picture
from impasto.image.read import read_image, read_record
from impasto.image.sink import COMPRESSIONS, check_sink, open_sink
from impasto.image.write import write_image

pyvips = pytest.importorskip("pyvips")
tifffile = pytest.importorskip("tifffile")

RECORD = {"style": "a"}


@pytest.fixture(scope="module")
def image() -> Tensor:
    """Return a picture with alpha, (1, 4, H, W)."""
    return torch.rand(1, 4, 150, 301, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["<", ">"])
def metadata(request: pytest.FixtureRequest) -> Metadata:
    tags = Image.Exif()
    tags[271], tags[282], tags[283], tags[296] = "Maker", 300.0, 150.0, 2
    tags.get_ifd(34665).update({33434: 0.01, 37510: b"ASCII\0\0\0hello"})
    tags.get_ifd(34853)[2] = (1.0, 2.0, 3.0)
    block = exif.parse(tags.tobytes())
    assert block is not None
    return Metadata(exif=exif.pack(exif.reordered(block, request.param)), iptc=b"\x1c\x02\x78\0\x03abc")


def write(image: Tensor, path: Path, **options: Any) -> None:
    with open_sink(path, (image.shape[2], image.shape[3]), channels=image.shape[1], **options) as sink:
        for part in image.split(37, 2):
            sink.write(part)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("png", {}),
        ("png", {"bits": 16}),
        ("tif", {}),
        ("tif", {"bits": 16}),
        ("jpg", {}),
        ("jpg", {"quality": 80}),
        ("webp", {}),
        ("avif", {}),
    ],
)
def test_same_as_write_image(
    image: Tensor, metadata: Metadata, tmp_path: Path, channels: int, suffix: str, options: dict[str, Any]
) -> None:
    image = image[:, :channels]
    path, other = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    options = {**options, "record": RECORD, "keep_gps": True}
    write(image, path, metadata=metadata, **options)
    write_image(Picture(image[:, :3], image[:, 3:] if channels == 4 else None, metadata), other, **options)
    found, wanted = read_image(path), read_image(other)
    assert torch.equal(found.tensor, wanted.tensor)
    assert (found.alpha is None) == (wanted.alpha is None)
    assert found.alpha is None or wanted.alpha is None or torch.equal(found.alpha, wanted.alpha)
    blocks = [exif.parse(p.metadata.exif) for p in (found, wanted)]
    assert blocks[0] is not None
    assert blocks[1] is not None
    assert exif.reordered(blocks[0], "<") == exif.reordered(blocks[1], "<")
    assert (found.metadata.xmp, found.metadata.iptc) == (wanted.metadata.xmp, wanted.metadata.iptc)
    assert found.metadata.bits == wanted.metadata.bits
    assert read_record(path) == RECORD
    with Image.open(path) as a, Image.open(other) as b:
        assert a.info["icc_profile"] == b.info["icc_profile"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pyramid", [False, True])
@pytest.mark.parametrize("big", [False, True])
def test_layouts_of_tiff(
    image: Tensor, metadata: Metadata, tmp_path: Path, compression: str, bits: int, pyramid: bool, big: bool
) -> None:
    path = tmp_path / "a.tif"
    options: dict[str, Any] = {"compression": compression, "bits": bits, "pyramid": pyramid, "big": big}
    image = image[:, :3].repeat(1, 1, 2, 2)
    if compression == "jpeg" and bits == 16:
        with pytest.raises(OptionError, match="jpeg does not support 16 bits"):
            write(image, path, **options)
        return
    if compression == "zstd" and not pyvips_has_zstd():
        with pytest.raises(OptionError, match="this libvips does not support it"):
            write(image, path, **options)
        return
    write(image, path, metadata=metadata, record=RECORD, **options)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff == big
        assert file.pages.first.is_tiled
        assert [page.shape[:2] for page in file.pages][1:] == ([(150, 301), (75, 150)] if pyramid else [])
        raw = file.pages.first.asarray() if compression == "none" else None
    found = read_image(path)
    levels = (image * (2**bits - 1)).round() / (2**bits - 1)
    assert (found.tensor - levels).abs().max() < (0.5 if compression == "jpeg" else 1e-6)
    assert raw is None or raw.dtype == (np.uint8 if bits == 8 else np.uint16)
    block = exif.parse(found.metadata.exif)
    assert block is not None
    assert block.dpi == pytest.approx((300, 150))
    assert block.photo[37510][2] == b"ASCII\0\0\0hello"
    assert not block.gps
    assert found.metadata.iptc == metadata.iptc
    assert read_record(path) == RECORD


def pyvips_has_zstd() -> bool:
    try:
        pyvips.Image.black(16, 16).tiffsave_buffer(compression="zstd")
    except pyvips.Error:
        return False
    return True


@pytest.mark.parametrize("channels", [3, 4])
def test_deep_zoom(image: Tensor, tmp_path: Path, channels: int) -> None:
    """A second DeepZoom pyramid of the same name replaces the first."""
    for _ in range(2):
        write(image[:, :channels], tmp_path / "a.dzi")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.dzi", "a_files"]
        assert 'Width="301"' in (tmp_path / "a.dzi").read_text()
        tile = read_image(tmp_path / "a_files" / "9" / ("0_0.jpg" if channels == 3 else "0_0.png"))
        assert tile.size == (150, 255)
        wanted = image[:, :3, :, :255]
        assert (tile.tensor - wanted).abs().mean() < (0.1 if channels == 3 else 0.002)


def test_a_folder_that_is_not_of_deep_zoom_is_kept(image: Tensor, tmp_path: Path) -> None:
    (tmp_path / "a_files").mkdir()
    with pytest.raises(PictureError, match="the folder a_files exists already"):
        write(image, tmp_path / "a.dzi")


def test_what_does_not_fit_is_said_before_painting(tmp_path: Path) -> None:
    cases: list[tuple[str, tuple[int, int], dict[str, Any], str]] = [
        ("a.webp", (10, 16_384), {}, "WEBP holds no side longer than 16383"),
        ("a.jpg", (65_501, 10), {}, "JPEG holds no side longer than 65500"),
        ("a.jpg", (10, 10), {"bits": 16}, "for 16 write .png or .tiff"),
        ("a.dzi", (10, 10), {"bits": 16}, "DeepZoom tiles have 8 bits"),
        ("a.tif", (10, 10), {"compression": "zip"}, "it must be deflate, lzw, zstd, jpeg, none"),
        ("a.tif", (10, 10), {"compression": "jpeg", "channels": 4}, "jpeg does not support transparency"),
        ("a.gif", (10, 10), {}, "cannot be written as .gif"),
        ("a.png", (10**6, 10**8), {}, "GB while it is written"),
    ]
    for name, size, options, message in cases:
        with pytest.raises((OptionError, PictureError), match=message):
            check_sink(tmp_path / name, size, **options)


def part_of(rows: Tensor, path: Path, interrupted: bool) -> None:
    with open_sink(path, (150, 301), channels=4) as sink:
        sink.write(rows)
        if interrupted:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["a.png", "a.dzi"])
def test_an_interrupt_leaves_what_was_there(image: Tensor, tmp_path: Path, name: str) -> None:
    write(image, tmp_path / name)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for rows, error, message in (
        (image, KeyboardInterrupt, None),
        (image, OptionError, "only 50 of 150 rows"),
        (image[:, :3], OptionError, "do not fit"),
    ):
        with pytest.raises(error, match=message):
            part_of(rows[:, :, :50], tmp_path / name, interrupted=error is KeyboardInterrupt)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


FULL = """
import resource, sys, torch
from impasto.image.sink import open_sink
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
with open_sink(sys.argv[1], (1000, 1000)) as sink:
    for _ in range(10):
        sink.write(torch.rand(1, 3, 100, 1000))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the length of files")
@pytest.mark.parametrize(("name", "limit"), [("a.tif", 10**6), ("a.png", 10**6), ("a.tif", 3_020_000)])
def test_a_full_disk(tmp_path: Path, name: str, limit: int) -> None:
    """The disk may become full while the rows are collected, or while they are encoded."""
    command = [sys.executable, "-c", FULL, str(tmp_path / name), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    said = done.stderr.splitlines()[-1]
    assert f"PictureError: {tmp_path / name} cannot be written" in said
    assert "File too large" in said
    assert not list(tmp_path.iterdir())


def test_streams(image: Tensor) -> None:
    out = io.BytesIO()
    with open_sink(out, (150, 301), channels=4, format="tiff") as sink:
        sink.write(image)
    assert read_image(io.BytesIO(out.getvalue())).size == (150, 301)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_links_and_permissions_are_kept(image: Tensor, tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(b"")
    (tmp_path / "real.png").chmod(0o600)
    (tmp_path / "a.png").symlink_to(tmp_path / "real.png")
    write(image, tmp_path / "a.png")
    assert (tmp_path / "a.png").is_symlink()
    assert (tmp_path / "real.png").stat().st_mode & 0o777 == 0o600
    assert read_image(tmp_path / "real.png").size == (150, 301)


WRITE = """
import resource, sys, torch
from impasto.image.sink import open_sink
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
rows, height = torch.full((1, 3, 500, 4000), 0.5), int(sys.argv[2])
with open_sink(sys.argv[1] + ".png", (500, 4000)) as sink:  # so that all is loaded
    sink.write(rows)
before = peak()
with open_sink(sys.argv[1], (height, 4000)) as sink:
    for _ in range(height // 500):
        sink.write(rows)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the peak memory differs")
@pytest.mark.parametrize("suffix", ["tif", "png", "jpg", "dzi"])
def test_peak_memory_does_not_grow_with_the_height(tmp_path: Path, suffix: str) -> None:
    peaks = []
    for height in (20_000, 40_000):
        command = [sys.executable, "-c", WRITE, str(tmp_path / f"a.{suffix}"), str(height)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert max(peaks) < 250
    assert peaks[1] - peaks[0] < 100  # the larger picture has 240 MB more
