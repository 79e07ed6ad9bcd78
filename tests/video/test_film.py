"""Tests of `impasto video`: times, sound, colours and formats of many inputs, and what is refused."""

import json
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from impasto.cli import main
from impasto.video.codecs import CODECS
from impasto.video.read import open_film

Held = Callable[[Path], Any]


@pytest.fixture
def video(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return `video(film, ...)`, which paints, into out.mkv unless `-o` is given.

    It returns exit code and standard error.
    """
    monkeypatch.chdir(tmp_path)

    def call(film: Path | str, *arguments: str, style: str = "udnie") -> tuple[int, str]:
        given = [] if "-o" in arguments else ["-o", "out.mkv"]
        styles = [] if "--styles-at" in arguments else [style]
        code = main(["video", str(film), *styles, *given, *arguments])
        return code, capfd.readouterr().err

    return call


VARIABLE = (0, 10, 200, 230, 900)
MATRIX: dict[str, dict[str, Any]] = {
    "plain": {},
    "variable rate": {"times": VARIABLE},
    "variable rate in mp4": {"times": VARIABLE, "name": "film.mp4", "options": {"bf": "0"}},
    "29.97": {
        "name": "film.mp4",
        "rate": Fraction(30000, 1001),
        "base": Fraction(1, 30000),
        "times": tuple(range(0, 6006, 1001)),
    },
    "begins late": {"times": (500, 540, 580)},
    "rotated": {"name": "film.mp4", "rotation": 90},
    "wide pixels": {"aspect": Fraction(4, 3)},
    "10 bits": {"pixels": "yuv420p10le"},
    "HEVC": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "VP9": {"name": "film.webm", "codec": "libvpx-vp9"},
    "lossless": {"codec": "ffv1", "pixels": "bgr0"},
    "Motion JPEG": {"codec": "mjpeg", "pixels": "yuvj444p"},
    "alpha": {"name": "film.webm", "codec": "libvpx-vp9", "pixels": "yuva420p", "alpha": True},
    "BT.709": {"colour": (1, 1, 1, 1)},
    "full range": {"colour": (1, 1, 1, 2), "pixels": "yuvj420p"},
    "one sound": {"audio": ("aac",)},
    "two sounds": {"audio": ("aac", "libmp3lame")},
    "sound in mp4": {"name": "film.mp4", "audio": ("aac",)},
    "subtitles": {"subtitles": True},
    "everything": {"audio": ("flac",), "subtitles": True, "times": VARIABLE},
    "odd size": {"size": (49, 63), "pixels": "yuv444p"},
    "small": {"size": (16, 18)},
    "one frame": {"times": (0,)},
    "two frames": {"times": (0, 400)},
}


@pytest.mark.parametrize("kind", MATRIX)
def test_inputs(film: Callable[..., Path], video: Callable[..., Any], held: Held, tmp_path: Path, kind: str) -> None:
    """Every presentation time is kept, other streams packet by packet, and of the signal what the codec can hold."""
    recipe = {"times": (0, 40, 80, 120), **MATRIX[kind]}
    source = film(**recipe)
    out = "out" + (".mp4" if source.suffix == ".mp4" else ".mkv")
    code, said = video(source, "-o", out)
    assert code == 0, said
    before, after = held(source), held(tmp_path / out)
    assert [round(1000 * t) for t in after.times] == [round(1000 * t) for t in before.times]
    assert after.packets == before.packets
    assert after.codec == "h264"
    assert after.end == pytest.approx(before.end, abs=0.0011)
    assert after.pixels == ("yuv420p10le" if "10" in kind else after.pixels)
    shape = {"rotated": (64, 48), "wide pixels": (48, 84), "odd size": (48, 62), "small": (16, 18)}.get(kind, (48, 64))
    assert {p.shape[:2] for p in after.pictures} == {shape}
    if "colour" in recipe:
        assert after.colour == recipe["colour"]
    assert not (tmp_path / "out.mkv.parts").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted((source.name, out))
    if shutil.which("ffprobe"):
        before, after = probed(source), probed(tmp_path / out)
        assert after["times"] == pytest.approx(before["times"], abs=0.0011)
        assert after["packets"] == before["packets"]


def probed(path: Path) -> dict[str, list[Any]]:
    """Return what FFmpeg's own ffprobe finds: the times of the frames, and kind and hash of all other packets."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_packets", "-show_data_hash", "md5", str(path)]
    packets = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["packets"]
    times = sorted(float(p["pts_time"]) for p in packets if p["codec_type"] == "video")
    others = [(p["codec_type"], p["data_hash"]) for p in packets if p["codec_type"] != "video"]
    return {"times": times, "packets": sorted(others)}


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("b_frames", ["1", "3"])
@pytest.mark.parametrize("times", [VARIABLE, (0, 400), (0, 40, 80, 120)])
def test_whichever_frames_the_encoder_moves_ahead_of_their_time(
    film: Callable[..., Path],
    video: Callable[..., Any],
    held: Held,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    b_frames: str,
    times: tuple[int, ...],
) -> None:
    """The time of every frame and the film's length are kept."""
    options = CODECS["h264"].options
    assert isinstance(options, dict)
    monkeypatch.setitem(options, "bf", b_frames)
    monkeypatch.setitem(options, "b_strategy", "0")
    source = film(times=times, name=f"film.{suffix}", options={"bf": "0"})
    assert video(source, "-o", f"out.{suffix}")[0] == 0
    before, after = held(source), held(tmp_path / f"out.{suffix}")
    assert after.times == before.times
    assert after.end == pytest.approx(before.end, abs=0.0011)


@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_the_length_of_an_mp4(
    film: Callable[..., Path], video: Callable[..., Any], held: Held, tmp_path: Path, b_frames: str
) -> None:
    """The last frame is shown as long as any other, whichever frames the encoder moves ahead of their time."""
    source = film(times=(0, 40, 80, 500, 540), name="film.mp4", options={"bf": b_frames})
    assert video(source, "-o", "out.mp4")[0] == 0
    after = held(tmp_path / "out.mp4")
    assert 0.55 <= after.end <= 0.70
    assert video(source, "-o", "out.mkv")[0] == 0
    assert held(tmp_path / "out.mkv").times == after.times


@pytest.mark.parametrize(
    ("name", "codec", "arguments", "pixels"),
    [
        ("out.mp4", "h264", (), "yuv420p"),
        ("out.mov", "h264", (), "yuv420p"),
        ("out.mp4", "hevc", ("--codec", "hevc", "--crf", "30"), "yuv420p"),
        ("out.webm", "vp9", (), "yuv420p"),
        ("out.mkv", "av1", ("--codec", "av1"), "yuv420p"),
        ("out.mov", "prores", ("--codec", "prores"), "yuv422p10le"),
    ],
)
def test_codecs(
    film: Callable[..., Path],
    video: Callable[..., Any],
    held: Held,
    tmp_path: Path,
    name: str,
    codec: str,
    arguments: tuple[str, ...],
    pixels: str,
) -> None:
    source = film(times=(0, 10, 200, 230, 300), size=(64, 80))
    code, said = video(source, "-o", name, *arguments)
    assert code == 0, said
    found = held(tmp_path / name)
    assert (found.codec, found.pixels) == (codec, pixels)
    assert found.times == [Fraction(t, 1000) for t in (0, 10, 200, 230, 300)]


def test_alpha_is_kept(film: Callable[..., Path], video: Callable[..., Any], held: Held, tmp_path: Path) -> None:
    source = film(name="a.webm", codec="libvpx-vp9", pixels="yuva420p", alpha=True, times=(0, 40))
    for name, arguments in (("out.webm", ()), ("out.mov", ("--codec", "prores")), ("out.webp", ()), ("out.gif", ())):
        assert video(source, "-o", name, *arguments)[0] == 0
        if name == "out.webp":
            with Image.open(name) as image:
                shown = np.asarray(image.convert("RGBA"))
        else:
            shown = held(tmp_path / name).pictures[0]
        assert shown[:, :24, 3].min() > 245, name
        assert shown[:, 40:, 3].max() < 10, name
    code, said = video(source, "-o", "out.mp4")
    assert code == 0
    assert "becomes white" in said
    assert held(tmp_path / "out.mp4").pictures[0][:, 48:, :3].min() > 235


def test_animations(film: Callable[..., Path], video: Callable[..., Any], tmp_path: Path) -> None:
    source = film(times=(0, 30, 500, 560))
    for name, durations in (("out.gif", [30, 470, 60, 40]), ("out.webp", [30, 470, 60, 40])):
        assert video(source, "-o", name)[0] == 0
        with Image.open(tmp_path / name) as image:
            found = []
            for i in range(image.n_frames):  # type: ignore[attr-defined]
                image.seek(i)
                image.load()
                found.append(image.info["duration"])
        assert found == durations
        code, said = video(tmp_path / name, "-o", "back.mkv")
        assert code == 0, said


def test_frames_out_and_in(film: Callable[..., Path], video: Callable[..., Any], held: Held, tmp_path: Path) -> None:
    source = film(times=VARIABLE, pixels="yuv420p10le")
    assert video(source, "-o", "frames/%03d.png")[0] == 0
    names = sorted(p.name for p in (tmp_path / "frames").iterdir())
    assert names == ["001.png", "002.png", "003.png", "004.png", "005.png", "times.csv"]
    assert (tmp_path / "frames" / "001.png").read_bytes()[24] == 16  # bits a channel
    code, said = video(tmp_path / "frames", "-o", "back.mkv")
    assert code == 0, said
    assert [round(1000 * t) for t in held(tmp_path / "back.mkv").times] == list(VARIABLE)
    code, said = video(source, "-o", "frames/%03d.png")
    assert (code, "the folder is not empty" in said) == (2, True)


def test_part_of_a_film(film: Callable[..., Path], video: Callable[..., Any], held: Held, tmp_path: Path) -> None:
    """The part begins at 0, and its sound with it."""
    source = film(times=tuple(range(0, 240, 20)), audio=("flac",), rate=Fraction(50), subtitles=True)
    assert video(source, "--start", "0.1", "--end", "0.2")[0] == 0
    found, whole = held(tmp_path / "out.mkv"), held(source)
    assert [round(1000 * t) for t in found.times] == [0, 20, 40, 60, 80]
    (sound, text), (all_sound, all_text) = found.packets, whole.packets
    assert 0 < len(sound) < len(all_sound)
    assert b"".join(sound) in b"".join(all_sound)
    assert text == all_text[1:]


def test_rate_and_size(film: Callable[..., Path], video: Callable[..., Any], held: Held, tmp_path: Path) -> None:
    assert video(film(times=VARIABLE), "--fps", "10", "--size", "96")[0] == 0
    found = held(tmp_path / "out.mkv")
    assert [round(1000 * t) for t in found.times] == list(range(0, 1000, 100))
    assert found.pictures[0].shape[:2] == (72, 96)


def test_preview(film: Callable[..., Path], video: Callable[..., Any], drawn: Callable[..., Any]) -> None:
    """The frame that is shown at that time is painted alone."""
    source = film(times=(0, 40, 400, 440), codec="ffv1", pixels="bgr0")
    code, said = video(source, "--frame", "9s", "-o", "late.png")
    assert (code, "has only 0.48 s; give an earlier time" in said) == (2, True)
    for seconds, number in (("0.05", 1), ("0.39", 1), ("0.4", 2), ("0.47s", 3)):
        code, said = video(source, "--frame", seconds, "-o", f"{number}.png")
        assert code == 0, said
        Image.fromarray(drawn(number)[..., :3]).save("frame.png")
        plainly = ["--quality", "instant", "--mottle", "0", "--underpainting", "0"]
        assert main(["stylize", "frame.png", "udnie", *plainly, "-o", "alone.png"]) == 0
        with Image.open(f"{number}.png") as painted, Image.open("alone.png") as alone:
            assert np.abs(np.asarray(painted).astype(int) - np.asarray(alone)).max() <= 8


def test_styles_and_strength_over_time(
    film: Callable[..., Path], video: Callable[..., Any], held: Held, tmp_path: Path, drawn: Callable[..., Any]
) -> None:
    source = film(times=tuple(range(0, 400, 100)), codec="ffv1", pixels="bgr0")
    assert video(source, "--strength", "0s:0", "0.3s:1", "--stability", "0", "--crf", "4")[0] == 0
    found = held(tmp_path / "out.mkv").pictures
    changed = [np.abs(p[..., :3].astype(float) - drawn(i)[..., :3]).mean() for i, p in enumerate(found)]
    assert changed[0] < 6
    assert changed[0] < changed[1] < changed[2] < changed[3]
    arguments = ("--styles-at", "0s:udnie", "0.3s:starry-night", "--stability", "0", "--crf", "4")
    assert video(source, *arguments)[0] == 0
    mixed = held(tmp_path / "out.mkv").pictures
    for style, at in (("udnie", 0), ("starry-night", 3)):
        assert main(["video", str(source), style, "-o", "alone.mkv", "--stability", "0", "--crf", "4"]) == 0
        alone = held(tmp_path / "alone.mkv").pictures
        near, far = (np.abs(mixed[i].astype(float) - alone[i]).mean() for i in (at, 3 - at))
        assert near < 3 < far


def test_colours_are_kept(film: Callable[..., Path], video: Callable[..., Any], held: Held, tmp_path: Path) -> None:
    source = film(times=(0, 40), pixels="yuv444p")
    shades = []
    for kept in ("0", "1"):
        assert video(source, "--keep-colours", kept, "-o", "out.mov", "--codec", "prores", style="starry-night")[0] == 0
        painted = held(tmp_path / "out.mov").pictures[1].astype(float)
        shades.append(painted[:10, :14, 0].mean() - painted[:10, :14, 2].mean())
    assert shades[0] < 80 < 120 < shades[1], shades


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "out.avi"), "the suffix must be one of"),
        (("-o", "out.png"), "give a pattern for the frames' names"),
        (("-o", "out.mp4", "--codec", "prores"), "cannot hold it; choose from h264, hevc, av1, vp9"),
        (("-o", "out.gif", "--crf", "3"), "--crf has no effect on .gif output"),
        (("--crf", "60"), "h264 goes from 0 to 51"),
        (("--codec", "prores", "--crf", "3"), "--crf has no effect on ProRes"),
        (("--start", "3s", "--end", "2s"), "is not after --start"),
        (
            (
                "--start",
                "3s",
            ),
            "give an earlier time",
        ),
        (("--stability", "2"), "--stability is 2; it must be 0 to 1"),
        (("--strength", "2"), "--strength 2: give a number from 0 to 1.5"),
        (("--strength", "1s:1", "0s:0"), "the times must increase"),
        (("--styles-at", "udnie"), "give a time and what applies then, such as 8s:udnie"),
        (("--styles-at", "0s:nobody"), "nobody"),
        (("--frame", "1s", "--resume"), "leave out --resume"),
        (("-o", "film.mkv"), "is the film itself"),
        (("-o", "missing/out.webm"), "cannot hold the film's sound (aac); choose .mp4 or .m4v or .mov or .mkv"),
        (("-o", "out.mp4"), "cannot hold the film's subtitles (srt); choose .mkv"),
    ],
)
def test_refusals(
    film: Callable[..., Path], video: Callable[..., Any], tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """There is a one-line message that says what to do, and nothing is left behind."""
    sounds = {"audio": ("aac",)} if "sound" in message else {"subtitles": "subtitles" in message}
    code, said = video(film(times=(0, 40), **sounds), *arguments)
    assert code in (1, 2)
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["film.mkv"]


def test_broken_frames_are_reported(
    film: Callable[..., Path], video: Callable[..., Any], held: Held, tmp_path: Path
) -> None:
    """The last good painting is shown in their place, every time is kept, and the exit code is 3."""
    import av

    source = film(
        times=tuple(range(0, 240, 40)), codec="ffv1", pixels="bgr0", options={"g": "1", "slicecrc": "1", "level": "3"}
    )
    with av.open(str(source)) as opened:
        at = [p.pos for p in opened.demux(opened.streams.video[0])][2] + 60
    data = source.read_bytes()
    source.write_bytes(data[:at] + bytes(100) + data[at + 100 :])
    code, said = video(source, "--crf", "0")
    assert code == 3
    assert "1 of 6 frames could not be read (at 0.08 s); the paintings before them stand in" in said
    found = held(tmp_path / "out.mkv")
    assert [round(1000 * t) for t in found.times] == list(range(0, 240, 40))
    assert np.array_equal(found.pictures[1], found.pictures[2])
    assert not np.array_equal(found.pictures[2], found.pictures[3])


def test_the_same_film_twice(film: Callable[..., Path], video: Callable[..., Any], tmp_path: Path) -> None:
    source = film(audio=("aac",), times=VARIABLE)
    for name in ("a.mkv", "b.mkv", "a.mp4", "b.mp4"):
        assert video(source, "-o", name, "--precision", "float32")[0] == 0
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_options_survive_a_record() -> None:
    from impasto.options import VideoOptions

    options = VideoOptions(strength=("0s:0", "1s:1"), styles_at=("0s:udnie",), start=1.5, stability=0.2)
    assert VideoOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_a_mask_over_time(
    film: Callable[..., Path], video: Callable[..., Any], held: Held, tmp_path: Path, drawn: Any
) -> None:
    """The mask is white on the left for two frames, then on the right; where it is black, the film stays."""
    (tmp_path / "masks").mkdir()
    for number in range(4):
        mask = np.zeros((48, 64), np.uint8)
        mask[:, slice(0, 32) if number < 2 else slice(32, 64)] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    source = film(times=tuple(range(0, 240, 40)))
    code, said = video(source, "-o", "frames/%d.png", "--mask", "masks", "--stability", "0")
    assert code == 0, said
    changes = []
    for number in range(6):
        painted = np.asarray(Image.open(tmp_path / "frames" / f"{number + 1}.png")).astype(int)[..., :3]
        given = held(source).pictures[number].astype(int)[..., :3]
        changes.append([np.abs(painted - given)[:, part].mean() for part in (slice(0, 31), slice(33, 64))])
    for left, right in changes[:2]:
        assert left > 15
        assert right < 3
    for left, right in changes[2:]:  # the mask's last frame stays
        assert left < 3
        assert right > 15


def test_a_mask_is_a_picture_or_is_refused(
    film: Callable[..., Path], video: Callable[..., Any], held: Held, tmp_path: Path
) -> None:
    source = film(times=(0, 40, 80))
    mask = np.zeros((96, 128, 4), np.uint8)
    mask[:, 64:, 3] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert video(source, "-o", "out.mkv", "--mask", "mask.png", "--crf", "5")[0] == 0
    given, painted = (held(p).pictures[2].astype(int) for p in (source, tmp_path / "out.mkv"))
    assert np.abs(painted - given)[:, :28].mean() < 4
    assert np.abs(painted - given)[:, 36:, :3].mean() > 15
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(tmp_path / "square.png")
    for name, message in (
        ("square.png", "it is 64x64, and the film is painted at 64x48; give a mask of the same proportions"),
        ("nothing.mp4", "nothing.mp4 does not exist"),
        ("notes.txt", "notes.txt is not a film"),
    ):
        (tmp_path / "notes.txt").write_text("no film")
        code, said = video(source, "-o", "no.mkv", "--mask", name)
        assert code != 0
        assert message in said


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_is_kept_or_mapped(
    film: Callable[..., Path], video: Callable[..., Any], held: Held, tmp_path: Path, transfer: int
) -> None:
    """A painting with the range kept, mapped as films are when read, equals the one that is mapped."""
    source = film(pixels="yuv420p10le", colour=(9, transfer, 9, 1), times=(0, 40))
    for out, arguments in (("kept.mkv", ("--codec", "hevc", "--keep-hdr")), ("mapped.mkv", ())):
        code, said = video(source, "-o", out, "--crf", "4", *arguments)
        assert code == 0, said
    kept, mapped = (held(tmp_path / name) for name in ("kept.mkv", "mapped.mkv"))
    assert (kept.codec, kept.pixels, kept.colour) == ("hevc", "yuv420p10le", (9, transfer, 9, 1))
    assert (mapped.pixels, mapped.colour) == ("yuv420p10le", (1, 1, 1, 1))
    shown = [
        [f.pixels.astype(float) / 257 for f in open_film(tmp_path / name).frames((48, 64)) if f.pixels is not None]
        for name in ("kept.mkv", "mapped.mkv")
    ]
    assert np.abs(shown[0][1] - shown[1][1]).mean() < 4
    assert np.std(shown[0][1]) > 20


def test_where_a_high_dynamic_range_cannot_be_kept(film: Callable[..., Path], video: Callable[..., Any]) -> None:
    source = film(times=(0, 40))
    for out, message in (
        ("out.webm", "--keep-hdr: vp9 is written with 8 bits; choose another --codec, such as av1"),
        ("out.gif", "--keep-hdr: .gif output has no such range; choose another suffix"),
    ):
        code, said = video(source, "-o", out, "--keep-hdr")
        assert code == 2
        assert message in said
    code, said = video(source, "-o", "out.mkv", "--keep-hdr")
    assert code == 0
    assert "no high dynamic range, so --keep-hdr changes nothing" in said
