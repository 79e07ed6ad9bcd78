"""Reading in parts gives the same pixels as `read_image`, in little memory."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from impasto.errors import OptionError, PictureError
from impasto.image import deep
from impasto.image.picture import Picture
from impasto.image.read import read_image
from impasto.image.stream import FileSource, open_source
from impasto.image.strips import MemorySource

pyvips = pytest.importorskip("pyvips")
tifffile = pytest.importorskip("tifffile")


def whole(picture: Picture) -> Tensor:
    return picture.tensor if picture.alpha is None else torch.cat((picture.tensor, picture.alpha), 1)


def assert_same(data: bytes) -> None:
    """Check that overlapping tiles, read twice, and the reduced picture have the pixels of `read_image`."""
    picture = read_image(io.BytesIO(data))
    wanted = whole(picture)
    with open_source(io.BytesIO(data)) as source:
        assert isinstance(source, FileSource)
        assert (source.size, source.channels) == (picture.size, wanted.shape[1])
        assert source.metadata == picture.metadata
        height, width = source.size
        for _ in range(2):
            for top in range(0, height, 11):
                for left in range(0, width, 17):
                    h, w = min(16, height - top), min(24, width - left)
                    part = source.read(top, left, h, w)
                    assert (part - wanted[:, :, top : top + h, left : left + w]).abs().max() <= 1.01 / 255
        small = MemorySource(wanted).reduced(20)
        found = source.reduced(20)
        assert found.shape == small.shape
        assert (found - small).abs().mean() < 0.015


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_modes(levels: NDArray[np.uint8], encoded: Any, mode: str, file_format: str) -> None:
    allowed = {"JPEG": "L RGB CMYK", "PNG": "1 L LA P RGB RGBA I;16", "WEBP": "RGB RGBA"}
    if mode not in allowed.get(file_format, mode).split():
        return
    image = Image.fromarray(levels)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image = image.convert(mode) if mode in ("LA", "RGBA") else image.convert("RGB").convert(mode)
    assert_same(encoded(image, file_format, **({"exact": True} if file_format == "WEBP" else {})))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_upright(levels: NDArray[np.uint8], encoded: Any, file_format: str, orientation: int) -> None:
    tags = Image.Exif()
    tags[274] = orientation
    assert_same(encoded(Image.fromarray(levels), file_format, exif=tags))


@pytest.mark.parametrize("space", ["display", "grey", "printer"])
@pytest.mark.parametrize("bits", [8, 16])
def test_profiles(
    levels: NDArray[np.uint8], display_profile: bytes, grey_profile: bytes, cmyk_profile: bytes, space: str, bits: int
) -> None:
    icc = {"display": display_profile, "grey": grey_profile, "printer": cmyk_profile}[space]
    array = {"display": levels, "grey": levels[:, :, 0], "printer": np.repeat(levels, 2, 2)[:, :, :4]}[space]
    photometric = {"display": "rgb", "grey": "minisblack", "printer": "separated"}[space]
    out = io.BytesIO()
    array = array if bits == 8 else array.astype(np.uint16) * 257
    tifffile.imwrite(out, np.ascontiguousarray(array), photometric=photometric, iccprofile=icc)
    assert_same(out.getvalue())


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (16, 16)},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"compression": "deflate", "predictor": True, "tile": (32, 32)},
        {"rowsperstrip": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("bits", [8, 16])
def test_layouts_of_tiff(levels: NDArray[np.uint8], options: dict[str, Any], bits: int) -> None:
    out = io.BytesIO()
    tifffile.imwrite(out, levels if bits == 8 else levels.astype(np.uint16) * 257, photometric="rgb", **options)
    assert_same(out.getvalue())


@pytest.mark.parametrize("loss", ["deflate", "jpeg"])
def test_pyramid(levels: NDArray[np.uint8], loss: str) -> None:
    image = pyvips.Image.new_from_array(np.tile(levels, (4, 4, 1)))
    assert_same(image.tiffsave_buffer(tile=True, pyramid=True, tile_width=32, tile_height=32, compression=loss))


def test_metadata_after_the_pixels_of_a_png(levels: NDArray[np.uint8], encoded: Any) -> None:
    tags = Image.Exif()
    tags[274], tags[271] = 3, "Maker"
    data = encoded(Image.fromarray(levels), "PNG", exif=tags)
    at = data.index(b"eXIf") - 4
    length = 12 + int.from_bytes(data[at : at + 4], "big")
    chunk = data[at : at + length]
    assert_same(data[:at] + data[at + length : -12] + chunk + data[-12:])


@settings(max_examples=25)
@given(data=st.data())
def test_any_order(data: st.DataObject) -> None:
    """Rectangles can be read in any order, from pictures of any size and orientation."""
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 60))
    array = np.random.default_rng(height * width).integers(0, 256, (height, width, 4), np.uint8)
    tags = Image.Exif()
    tags[274] = data.draw(st.integers(1, 8))
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG", exif=tags)
    wanted = whole(read_image(io.BytesIO(out.getvalue())))
    with open_source(io.BytesIO(out.getvalue()), random_access=data.draw(st.booleans())) as source:
        for _ in range(4):
            top, left = (data.draw(st.integers(0, n - 1)) for n in source.size)
            h, w = data.draw(st.integers(1, source.size[0] - top)), data.draw(st.integers(1, source.size[1] - left))
            assert torch.equal(source.read(top, left, h, w), wanted[:, :, top : top + h, left : left + w])


def test_other_kinds_are_read_as_a_whole(levels: NDArray[np.uint8], encoded: Any) -> None:
    data = encoded(Image.fromarray(levels), "AVIF")
    with open_source(io.BytesIO(data)) as source:
        assert torch.equal(source.read(3, 5, 20, 30), read_image(io.BytesIO(data)).tensor[:, :, 3:23, 5:35])
        assert source.metadata.format == "AVIF"


def test_errors(tmp_path: Path, levels: NDArray[np.uint8], encoded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(levels), "PNG")
    with open_source(io.BytesIO(data)) as source, pytest.raises(OptionError, match="not inside the picture of 56x40"):
        source.read(30, 0, 11, 5)
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with open_source(tmp_path / "cut.png") as source, pytest.raises(PictureError, match=r"cut.png is (cut|damaged)"):
        source.read(0, 0, 40, 56)
    with pytest.raises(PictureError, match="megapixels"), open_source(io.BytesIO(data), max_megapixels=0.001):
        pass
    monkeypatch.setattr(deep, "available", lambda: False)
    with pytest.raises(PictureError, match=r"impasto\[large\]"), open_source(io.BytesIO(data)):
        pass


def test_the_temporary_copy_needs_space(
    levels: NDArray[np.uint8], encoded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    data = encoded(Image.fromarray(levels), "PNG")
    with pytest.raises(PictureError, match=r"for a temporary copy.*set TMPDIR"):  # noqa: SIM117
        with open_source(io.BytesIO(data), random_access=True):
            pass


SWEEP = """
import resource, sys, torch
from impasto.image.stream import open_source
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
torch.rand(1, 3, 512, 4000)
before = peak()
with open_source(sys.argv[1], max_megapixels=1e6) as source:
    for top in range(0, source.size[0], 480):
        source.read(top, 0, min(512, source.size[0] - top), 1000)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the peak memory differs")
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_peak_memory_does_not_grow_with_the_height(tmp_path: Path, suffix: str) -> None:
    peaks = []
    for height in (20_000, 40_000):
        path = tmp_path / f"{height}{suffix}"
        pyvips.Image.black(4000, height, bands=3).copy(interpretation="srgb").write_to_file(str(path))
        done = subprocess.run([sys.executable, "-c", SWEEP, str(path)], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert max(peaks) < 200
    assert peaks[1] - peaks[0] < 40  # the larger picture has 240 MB more
