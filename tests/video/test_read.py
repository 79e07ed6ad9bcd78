"""Films are read with every frame at its time, upright and in its colours, and broken frames in their places."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from impasto.errors import FilmError
from impasto.video.film import Cut, even
from impasto.video.pictures import TIMES
from impasto.video.read import open_film


def near(pixels: Any, wanted: Any, levels: float = 10) -> bool:
    """Return whether frames are alike on average, in levels of 255."""
    return bool(np.abs(pixels[..., :3].astype(float) - wanted[..., :3]).mean() < levels)


@pytest.mark.parametrize(
    "times", [(0, 40, 80), (0, 10, 200, 230, 900), (500, 541, 580)], ids=["constant", "variable", "late"]
)
def test_times(film: Callable[..., Path], drawn: Callable[..., Any], times: tuple[int, ...]) -> None:
    found = open_film(film(times=times))
    frames = list(found.frames((48, 64)))
    assert [f.time * found.about.time_base * 1000 for f in frames] == list(times)
    for number, frame in enumerate(frames):
        assert frame.pixels is not None
        assert frame.pixels.dtype == np.uint8
        assert near(frame.pixels, drawn(number))


def test_only_what_comes_after(film: Callable[..., Path]) -> None:
    found = open_film(film(times=tuple(range(0, 2000, 40)), options={"g": "10"}))
    times = [f.time for f in found.frames((48, 64))]
    for after in (0, 40, 1000, 1960, 5000):
        assert [f.time for f in found.frames((48, 64), after)] == [t for t in times if t > after]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_upright(film: Callable[..., Path], drawn: Callable[..., Any], rotation: int) -> None:
    """The matrix says by how much a player turns the frames to the left."""
    found = open_film(film(name="film.mp4", rotation=rotation))
    shape = (64, 48) if rotation % 180 else (48, 64)
    assert found.about.size == shape
    first = next(iter(found.frames(shape)))
    assert near(first.pixels, np.rot90(drawn(0), rotation // 90))


def test_square_pixels(film: Callable[..., Path]) -> None:
    assert open_film(film(aspect=Fraction(3, 2))).about.size == (48, 96)
    assert open_film(film(aspect=Fraction(3, 4))).about.size == (64, 64)
    assert open_film(film(aspect=Fraction(3, 2), name="film.mp4", rotation=90)).about.size == (96, 48)


@pytest.mark.parametrize("colour", [(1, 1, 1, 1), (6, 6, 6, 1), (9, 1, 9, 1)])
def test_colours(film: Callable[..., Path], drawn: Callable[..., Any], colour: tuple[int, int, int, int]) -> None:
    """The matrix is applied: the corner is as red as it was drawn."""
    found = open_film(film(colour=colour, pixels="yuv444p"))
    about = found.about.colour
    assert (about.primaries, about.transfer, about.matrix) == colour[:3]
    frame = next(iter(found.frames((48, 64))))
    assert frame.pixels is not None
    assert np.abs(frame.pixels[4, 6].astype(int) - drawn(0)[4, 6, :3]).max() <= 6


def test_ten_bits(film: Callable[..., Path]) -> None:
    found = open_film(film(pixels="yuv420p10le"))
    assert found.about.bits == 10
    frame = next(iter(found.frames((48, 64))))
    assert frame.pixels is not None
    assert frame.pixels.dtype == np.uint16


def test_alpha(film: Callable[..., Path]) -> None:
    for name, codec, pixels in (("a.webm", "libvpx-vp9", "yuva420p"), ("a.mov", "prores_ks", "yuva444p10le")):
        found = open_film(film(name=name, codec=codec, pixels=pixels, alpha=True))
        assert found.about.alpha
        frame = next(iter(found.frames((48, 64))))
        assert frame.pixels is not None
        shown = frame.pixels[..., 3] / np.iinfo(frame.pixels.dtype).max
        assert shown[:, :24].min() > 0.98
        assert shown[:, 40:].max() < 0.02


def test_high_dynamic_range_becomes_ordinary(film: Callable[..., Path]) -> None:
    """Diffuse white, a PQ signal of 0.58, becomes light; the darkest stays dark; grey stays grey."""
    found = open_film(film(pixels="yuv420p10le", colour=(9, 16, 9, 1)))
    frame = next(iter(found.frames((48, 64))))
    assert frame.pixels is not None
    from impasto.video.film import Colour
    from impasto.video.hdr import HLG, PQ, to_sdr

    ramp = np.repeat(np.linspace(0, 65535, 65).astype(np.uint16)[None, :, None], 3, 2)
    for transfer, white in ((PQ, 0.58), (HLG, 0.75)):
        shown = to_sdr(ramp, Colour(9, transfer, 9)) / 65535
        assert (np.diff(shown[0, :, 0]) >= 0).all()
        assert np.ptp(shown, 2).max() < 0.01
        assert shown[0, 0].max() < 0.02
        assert shown[0, -1].min() > 0.98
        assert 0.65 < shown[0, round(64 * white), 0] < 0.85


@pytest.mark.parametrize("primaries", [1, 9])
def test_the_high_dynamic_range_comes_back(primaries: int) -> None:
    """Converted and back, light up to 1000 nits, the brightest that is kept, stays within a few levels of 1023.

    Known answers of BT.2100: 203 nits are a PQ signal of 0.58, and an HLG signal of 0.75.
    """
    from impasto.video.film import Colour
    from impasto.video.hdr import HLG, PEAK, PQ, from_sdr, hlg_light, hlg_signal, pq_light, pq_signal, to_sdr

    white = np.ones((1, 1, 3), np.float32)
    assert pq_signal(white).mean() == pytest.approx(0.5807, abs=2e-4)
    assert hlg_signal(white).mean() == pytest.approx(0.75, abs=2e-3)
    signal = np.random.default_rng(0).uniform(0.02, 1, (16, 16, 3)).astype(np.float32)
    assert np.abs(pq_signal(pq_light(signal)) - signal).max() < 1e-4
    assert np.abs(hlg_signal(hlg_light(signal)) - signal).max() < 1e-3
    for transfer, make in ((PQ, pq_signal), (HLG, hlg_signal)):
        colour = Colour(primaries, transfer, 9)
        light = np.repeat(np.geomspace(0.02, 0.98 * PEAK, 64).astype(np.float32)[None, :, None], 3, 2)
        given = (make(light) * 65535).astype(np.uint16)
        back = from_sdr(to_sdr(given, colour), colour)
        assert np.abs(back.astype(int) - given).max() < 4 * 64


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("none.mp4", lambda p: None, "does not exist"),
        ("empty.mp4", lambda p: p.write_bytes(b""), "is empty"),
        ("text.mp4", lambda p: p.write_text("not a film at all " * 99), "is not a film, or is cut short"),
        ("one.png", lambda p: Image.new("RGB", (40, 40)).save(p), "is a picture, not a film"),
        ("one.webp", lambda p: Image.new("RGB", (40, 40)).save(p), "is a picture, not a film"),
    ],
)
def test_what_is_no_film(tmp_path: Path, name: str, make: Callable[[Path], Any], message: str) -> None:
    make(tmp_path / name)
    with pytest.raises(FilmError, match=message) as caught:
        open_film(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_only_sound(film: Callable[..., Path], tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "sound.mka"), "w", format="matroska") as out:
        stream = out.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    with pytest.raises(FilmError, match="has no pictures, only sound"):
        open_film(tmp_path / "sound.mka")


def test_cut_short(film: Callable[..., Path]) -> None:
    """An MP4 without its index cannot be read. A Matroska film is read as far as it goes."""
    whole = film(name="film.mp4", times=tuple(range(0, 800, 40)))
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(FilmError, match="is not a film, or is cut short"):
        open_film(whole)
    whole = film(times=tuple(range(0, 800, 40)), options={"g": "1"})
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert 4 < sum(f.pixels is not None for f in open_film(whole).frames((48, 64))) < 18


def test_broken_frames(film: Callable[..., Path]) -> None:
    """A frame that cannot be decoded comes without pixels, at its own time."""
    import av

    path = film(
        times=tuple(range(0, 400, 40)), codec="ffv1", pixels="bgr0", options={"g": "1", "slicecrc": "1", "level": "3"}
    )
    with av.open(str(path)) as opened:
        at = [p.pos for p in opened.demux(opened.streams.video[0])][4] + 60
    data = path.read_bytes()
    path.write_bytes(data[:at] + bytes(100) + data[at + 100 :])
    frames = list(open_film(path).frames((48, 64)))
    assert [f.time for f in frames] == list(range(0, 400, 40))
    assert [f.time for f in frames if f.pixels is None] == [160]


def test_folder_of_pictures(tmp_path: Path, drawn: Callable[..., Any]) -> None:
    for i in range(4):
        Image.fromarray(drawn(i)[..., :3]).save(tmp_path / f"{i}.png")
    found = open_film(tmp_path, 10)
    assert (found.about.size, found.about.seconds) == ((48, 64), 0.4)
    assert [f.time * found.about.time_base for f in found.frames((48, 64))] == [Fraction(i, 10) for i in range(4)]
    (tmp_path / TIMES).write_text("name,seconds\n0.png,0\n1.png,0.5\n2.png,0.6\n3.png,2\n")
    (tmp_path / "2.png").write_bytes(b"damaged")
    found = open_film(tmp_path)
    frames = list(found.frames((48, 64)))
    assert [float(f.time * found.about.time_base) for f in frames] == [0, 0.5, 0.6, 2]
    assert [f.pixels is None for f in frames] == [False, False, True, False]
    (tmp_path / TIMES).write_text("name,seconds\n0.png,0\n")
    with pytest.raises(FilmError, match="is damaged; delete it"):
        open_film(tmp_path)


def test_animated_webp(tmp_path: Path, drawn: Callable[..., Any]) -> None:
    images = [Image.fromarray(drawn(i)[..., :3]) for i in range(3)]
    path = tmp_path / "a.webp"
    images[0].save(path, save_all=True, append_images=images[1:], duration=[30, 500, 70], lossless=True)
    found = open_film(path)
    frames = list(found.frames((48, 64)))
    assert [(f.time, f.duration) for f in frames] == [(0, 30), (30, 500), (530, 70)]
    assert all(near(f.pixels, drawn(i), 1) for i, f in enumerate(frames))


@pytest.mark.parametrize(("start", "end"), [(None, 0.2), (0.1, None), (0.08, 0.3), (0.39, 0.4)])
def test_part(film: Callable[..., Path], start: float | None, end: float | None) -> None:
    whole = open_film(film(times=tuple(range(200, 600, 40)), options={"g": "3"}))
    part = Cut(whole, start, end)
    wanted = [
        t for t in range(200, 600, 40) if 200 + 1000 * (start or 0) <= t < 200 + 1000 * (9 if end is None else end)
    ]
    assert [f.time for f in part.frames((48, 64))] == wanted
    assert [f.time for f in part.frames((48, 64), after=360)] == [t for t in wanted if t > 360]


def test_other_rate(film: Callable[..., Path]) -> None:
    """At each time, the result is the frame that is shown then."""
    whole = open_film(film(times=(0, 10, 200, 230)))
    part = Cut(whole, fps=20)
    frames = list(part.frames((48, 64)))
    assert part.about.time_base == Fraction(1, 20)
    assert [f.time for f in frames] == [0, 1, 2, 3, 4, 5]
    shown = {f.time: f.pixels for f in whole.frames((48, 64))}
    for frame, time in zip(frames, (0, 10, 10, 10, 200, 230), strict=True):
        assert np.array_equal(frame.pixels, shown[time])  # type: ignore[arg-type]
    assert [f.time for f in part.frames((48, 64), after=2)] == [3, 4, 5]


def test_even_sizes() -> None:
    assert [even(s) for s in ((48, 64), (49, 63), (1, 3))] == [(48, 64), (48, 62), (2, 2)]
