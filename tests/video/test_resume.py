"""A painting that was killed can be continued, and gives the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from impasto.cli import main
from impasto.options import VideoOptions
from impasto.style.target import load_builtin
from impasto.video.looks import Looks
from impasto.video.optimized import OptimizedPainter
from impasto.video.painting import frames_at_once
from impasto.video.segments import RECORD
from impasto.video.steady import SteadyPainter

ARGUMENTS = ("--precision", "float32", "--crf", "20")
SHORT_SEGMENTS = """
import sys
from impasto.video.steady import SteadyPainter
SteadyPainter.segment = 5
from impasto.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Paint in a separate process, on one thread, in short segments."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SHORT_SEGMENTS, "video", *arguments, *ARGUMENTS]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE)


def painted(folder: Path, *arguments: str) -> None:
    done = start(folder, *arguments)
    _, said = done.communicate()
    assert done.returncode == 0, said.decode()


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SteadyPainter, "segment", 5)


def stop_after(monkeypatch: pytest.MonkeyPatch, frames: int) -> None:
    """Make the painter fail at a frame, as if the process ended."""
    call, seen = SteadyPainter.finish, []

    def failing(self: SteadyPainter, *arguments: Any) -> Any:
        seen.append(1)
        if len(seen) > frames:
            raise KeyboardInterrupt
        return call(self, *arguments)

    monkeypatch.setattr(SteadyPainter, "finish", failing)


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize(("out", "stability"), [("out.mkv", "0.5"), ("out.mp4", "0"), ("out.gif", "0.7")])
def test_interrupted_and_continued(
    film: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    out: str,
    stability: str,
) -> None:
    """The painting is interrupted twice in the middle of a segment, the second time in a later segment."""
    monkeypatch.chdir(tmp_path)
    source = film(times=(*range(0, 640, 40), 900), audio=("aac",) if out != "out.gif" else (), options={"g": "4"})
    arguments = ["video", source.name, "udnie", "--stability", stability, *ARGUMENTS]
    if out == "out.gif":
        arguments = [a for a in arguments if a not in ("--crf", "20")]
    assert main([*arguments, "-o", f"whole.{out[4:]}"]) == 0
    for frames, options in ((7, ()), (6, ("--resume",))):
        with monkeypatch.context() as patch:
            stop_after(patch, frames)
            assert main([*arguments, "-o", out, *options]) == 130
        assert "add --resume to continue" in capfd.readouterr().err
        assert not (tmp_path / out).exists()
    assert main([*arguments, "-o", out]) == 2
    assert "holds an unfinished painting; add --resume" in capfd.readouterr().err
    assert main([*arguments, "-o", out, "--resume", "--keep-colours", "1"]) == 2
    assert "was begun with other files or options" in capfd.readouterr().err
    assert main([*arguments, "-o", out, "--resume"]) == 0
    assert "continuing after 10 frames" in capfd.readouterr().err
    assert (tmp_path / out).read_bytes() == (tmp_path / f"whole.{out[4:]}").read_bytes()
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.usefixtures("short_segments")
def test_frames_are_continued(film: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["video", film(times=tuple(range(0, 480, 40))).name, "udnie", "--precision", "float32", "-o"]
    assert main([*arguments, "whole/%02d.png"]) == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        assert main([*arguments, "out/%02d.png"]) == 130
    assert main([*arguments, "out/%02d.png", "--resume"]) == 0
    whole, out = ({p.name: p.read_bytes() for p in (tmp_path / f).iterdir()} for f in ("whole", "out"))
    assert whole == out
    assert len(whole) == 13


@pytest.fixture
def cores() -> Iterator[Callable[[int], None]]:
    """Return what sets the number of PyTorch's threads."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize("options", [(), ("--stability", "0"), ("--strength", "0s:0.5", "1s:1")])
def test_several_frames_at_a_time(
    film: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cores: Callable[[int], None],
    options: tuple[str, ...],
) -> None:
    """The film is that of one frame at a time, also if it is interrupted and continued."""
    monkeypatch.chdir(tmp_path)
    source = film(times=tuple(range(0, 480, 40)))
    arguments = ["video", source.name, "udnie", "--precision", "float32", *options]
    cores(1)
    assert main([*arguments, "-o", "one.mkv"]) == 0
    cores(3)
    assert main([*arguments, "-o", "three.mkv"]) == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        assert main([*arguments, "-o", "again.mkv"]) == 130
    assert main([*arguments, "-o", "again.mkv", "--resume"]) == 0
    one, *others = ((tmp_path / f"{n}.mkv").read_bytes() for n in ("one", "three", "again"))
    assert others == [one, one]


def test_as_many_frames_at_a_time_as_fit(cores: Callable[[int], None]) -> None:
    options = VideoOptions()
    painter = SteadyPainter(Looks([load_builtin("udnie")], options), options)
    found = []
    for count in (1, 2, 9):
        cores(count)
        found.append(frames_at_once(painter, (320, 640)))
    assert found == [1, 2, 4]
    small = replace(options, max_memory=int(2.5 * painter.looks.stylizer.memory_need((320, 640))))
    limited = SteadyPainter(Looks([load_builtin("udnie")], small), small)
    assert frames_at_once(limited, (320, 640)) == 2
    assert frames_at_once(limited, (1000, 2000)) == 1
    optimised = OptimizedPainter([load_builtin("udnie")], VideoOptions(quality="good"), (48, 64))
    assert frames_at_once(optimised, (48, 64)) == 1


def test_nothing_is_left_of_what_was_not_begun(
    film: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = film()
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert main(["video", source.name, "udnie", "-o", "out.mkv"]) == 130
    assert [p.name for p in tmp_path.iterdir()] == [source.name]
    assert main(["video", source.name, "udnie", "-o", "out.mkv", "--resume"]) == 0


def test_damaged_folder(
    film: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.mkv.parts").mkdir()
    (tmp_path / "out.mkv.parts" / RECORD).write_text("{")
    assert main(["video", film().name, "udnie", "-o", "out.mkv", "--resume"]) == 1
    said = capfd.readouterr().err
    assert "out.mkv.parts is damaged; delete the folder and start over" in said
    assert len(said.strip().splitlines()) == 1


def test_a_folder_in_the_way(
    film: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A folder of that name that Impasto did not make is left alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.mkv.parts").mkdir()
    (tmp_path / "out.mkv.parts" / "mine.txt").write_text("keep")
    assert main(["video", film().name, "udnie", "-o", "out.mkv"]) == 2
    assert "is in the way" in capfd.readouterr().err
    assert (tmp_path / "out.mkv.parts" / "mine.txt").read_text() == "keep"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX")
def test_killed_ten_times(film: Callable[..., Path], tmp_path: Path) -> None:
    source = film(times=tuple(range(0, 4000, 40)), audio=("aac",), size=(96, 128))
    painted(tmp_path, source.name, "udnie", "-o", "whole.mkv")
    rng = random.Random(0)
    kills, options = 0, ()
    while kills < 10:
        process = start(tmp_path, source.name, "udnie", "-o", "out.mkv", *options)
        segments = list((tmp_path / "out.mkv.parts").glob("0*.mkv"))
        deadline = time.monotonic() + 300
        # At any moment after at least one more segment, so that there is progress.
        while process.poll() is None and len(list((tmp_path / "out.mkv.parts").glob("0*.mkv"))) <= len(segments):
            time.sleep(0.005)
            assert time.monotonic() < deadline
        time.sleep(rng.random() / 4)
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        kills, options = kills + 1, ("--resume",)
    assert kills >= 5
    painted(tmp_path, source.name, "udnie", "-o", "out.mkv", "--resume")
    assert (tmp_path / "out.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat(film: Callable[..., Path], tmp_path: Path) -> None:
    """The resident memory while frame 2,400 is painted is that of frame 600, within 5 %."""
    source = film(times=tuple(range(0, 25000, 10)), rate=100, audio=("aac",))
    code = f"""
import os
from impasto.cli import main
from impasto.video.steady import SteadyPainter
call, seen, pages = SteadyPainter.finish, [], []
def counting(self, *arguments):
    seen.append(1)
    if len(seen) in (600, 2400):
        pages.append(int(open("/proc/self/statm").read().split()[1]))
    return call(self, *arguments)
SteadyPainter.finish = counting
assert main(["video", {str(source)!r}, "udnie", "-o", "out.mkv"]) == 0
assert pages[1] < 1.05 * pages[0], pages
print(pages)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sys.stdout.write(done.stdout)
