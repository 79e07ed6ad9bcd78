"""Photographs that do not fit into memory are painted from file to file, as they would be with more memory."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from impasto.image import deep
from impasto.image.read import read_image, read_record

pyvips = pytest.importorskip("pyvips")

Run = Callable[..., tuple[int, str, str]]

STYLE = ["udnie", "--quality", "instant", "--scale", "1", "--precision", "float32"]
LITTLE = ["--max-memory", "100MB"]
"""Less than a painting of `photo.tif` takes."""


@pytest.fixture
def photo(here: Path, photo_file: Callable[[str], Path]) -> Path:
    """Write photo.tif: 500x400, with EXIF."""
    tags = Image.Exif()
    tags[271], tags[282], tags[283], tags[296] = "Maker", 300.0, 300.0, 2
    with Image.open(photo_file("coffee")) as image:
        image.convert("RGB").resize((500, 400)).save("photo.tif", exif=tags, dpi=(300, 300))
    return here / "photo.tif"


def pixels(path: str) -> torch.Tensor:
    picture = read_image(path)
    return picture.tensor if picture.alpha is None else torch.cat([picture.tensor, picture.alpha], 1)


@pytest.mark.parametrize("name", ["out.tif", "out.png"])
def test_it_is_the_painting_that_more_memory_gives(photo: Path, run: Run, name: str) -> None:
    assert run("stylize", photo, *STYLE, "-o", f"whole-{name}")[0] == 0
    code, _, err = run("stylize", photo, *STYLE, *LITTLE, "-o", name)
    assert code == 0
    assert "--max-memory allows 0.1 GB: painting it from file to file in " in err
    assert "strips, which takes about " in err
    torch.testing.assert_close(pixels(name), pixels(f"whole-{name}"), rtol=0, atol=1.01 / 255)
    assert (pixels(name) - pixels(f"whole-{name}")).abs().mean() < 0.02 / 255
    found, wanted = read_image(name).metadata, read_image(f"whole-{name}").metadata
    assert found.exif == wanted.exif != b""
    (one, other) = (read_record(n) for n in (name, f"whole-{name}"))
    assert one is not None and other is not None  # noqa: PT018
    for record in (one, other):
        del record["options"]["max_memory"]
    assert one == other
    assert run("rerun", name, "-o", f"again-{name}")[0] == 0
    assert Path(f"again-{name}").read_bytes() == Path(name).read_bytes()
    assert not list(photo.parent.glob(".impasto*"))


@pytest.mark.parametrize("way", ["cut-out", "opaque alpha", "turned", "smaller", "colours, mask, regions"])
def test_every_kind_of_photograph(photo: Path, run: Run, way: str) -> None:
    options: list[str] = []
    with Image.open(photo) as image:
        image = image.convert("RGB")
        mask = Image.linear_gradient("L").resize(image.size)
        mask.save("mask.png")
        if way == "cut-out":
            image.putalpha(mask)
        if way == "opaque alpha":
            image.putalpha(255)
        tags = Image.Exif()
        tags[274] = 6 if way == "turned" else 1
        image.save("photo.png", exif=tags)
    if way == "smaller":
        options = ["--scale", "0.9"]
    if way == "colours, mask, regions":
        options = ["--keep-colours", "0.8", "--mask", "mask.png", "--region", "mask.png=great-wave"]
    for memory, name in (([], "whole.png"), (LITTLE, "out.png")):
        code, _, err = run("stylize", "photo.png", *STYLE, *options, *memory, "-o", name)
        assert code == 0, err
    assert "from file to file" in err
    assert pixels("out.png").shape == pixels("whole.png").shape
    torch.testing.assert_close(pixels("out.png"), pixels("whole.png"), rtol=0, atol=2.01 / 255)


def test_a_photograph_that_is_invisible_is_refused(photo: Path, run: Run) -> None:
    with Image.open(photo) as image:
        image.putalpha(0)
        image.save("photo.png")
    code, _, err = run("stylize", "photo.png", *STYLE, *LITTLE, "-o", "out.png")
    assert (code, err) == (1, "impasto: photo.png is transparent everywhere; give a picture with visible pixels\n")


@pytest.mark.parametrize("memory", [[], LITTLE], ids=["whole", "strips"])
def test_tiff_and_deep_zoom(photo: Path, run: Run, memory: list[str]) -> None:
    """Both formats are also written for a painting that fits into memory."""
    common = ["stylize", photo, *STYLE, *memory]
    assert run(*common, "-o", "out.png")[0] == 0
    assert run(*common, "-o", "out.tif", "--pyramid", "--compression", "lzw", "--bits", "16")[0] == 0
    assert read_image("out.tif").metadata.bits == 16
    assert pyvips.Image.new_from_file("out.tif").get("n-pages") == 2
    with Image.open("out.tif") as tiff:
        assert tiff.info["compression"] == "tiff_lzw"
    torch.testing.assert_close(pixels("out.tif"), pixels("out.png"), rtol=0, atol=0.51 / 255)
    assert run("rerun", "out.tif", "-o", "again.tif")[0] == 0
    assert Path("again.tif").read_bytes() == Path("out.tif").read_bytes()
    assert run("rerun", "out.tif", "-o", "small.tif", "--pyramid", "False", "--bits", "8")[0] == 0
    assert pyvips.Image.new_from_file("small.tif").get("n-pages") == 1
    assert run(*common, "-o", "out.dzi")[0] == 0
    assert 'Width="500"' in Path("out.dzi").read_text()
    tile = read_image("out_files/9/0_0.jpg").tensor
    assert (tile - pixels("out.png")[:, :, : tile.shape[2], : tile.shape[3]]).abs().mean() < 0.03


@pytest.mark.parametrize("quality", ["instant", "good"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "a.png", "--pyramid"], "--pyramid is for TIFF"),
        (["-o", "a.jpg", "--compression", "lzw"], "--compression is for TIFF"),
        (["-o", "a.dzi", "--bits", "16"], "DeepZoom tiles have 8 bits"),
        (["-o", "a.tif", "--compression", "jpeg", "--bits", "16"], "jpeg does not support 16 bits"),
    ],
)
def test_what_cannot_be_written_is_said_first(
    photo: Path, run: Run, quality: str, arguments: list[str], message: str
) -> None:
    code, _, err = run("stylize", photo, "udnie", "--quality", quality, *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert sorted(p.name for p in photo.parent.glob("a*")) == []


def test_a_disk_that_is_too_small(photo: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**6}))
    for arguments in ([], ["--run", "run"]):
        code, _, err = run("stylize", photo, *STYLE, *LITTLE, "--statistics", "sampled", "-o", "a.tif", *arguments)
        assert (code, err.count("\n")) == (1, 1)
        assert "has 0.0 GB" in err
    assert not Path("run").exists()


def test_without_the_extra(photo: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are painted in strips in memory if they fit; otherwise the error names the extra."""
    assert run("stylize", photo, *STYLE, *LITTLE, "-o", "streamed.png")[0] == 0
    monkeypatch.setattr(deep, "available", lambda: False)
    assert run("stylize", photo, *STYLE, *LITTLE, "-o", "a.png")[0] == 0
    torch.testing.assert_close(pixels("a.png"), pixels("streamed.png"), rtol=0, atol=1.01 / 255)
    code, _, err = run("stylize", photo, *STYLE, *LITTLE, "-o", "a.dzi")
    assert (code, 'run pip install "impasto[large]"' in err) == (1, True)
    Image.new("RGB", (800, 12_000)).save("tall.png")
    code, _, err = run("stylize", "tall.png", *STYLE, *LITTLE, "-o", "a.png")
    assert (code, err.count("\n")) == (1, 1)
    assert 'or run pip install "impasto[large]"' in err


def test_the_limit_of_megapixels(photo: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit applies if it is given, and to pictures held in memory."""
    code, _, err = run("stylize", photo, *STYLE, *LITTLE, "--max-megapixels", "0.1", "-o", "a.png")
    assert (code, "more than 0.1" in err) == (1, True)
    huge = pyvips.Image.black(20_000, 10_001, bands=3).copy(interpretation="srgb")
    huge.write_to_file("huge.tif", compression="deflate")
    code, _, err = run("stylize", "huge.tif", "udnie", "-o", "a.png")
    assert (code, "200.0 megapixels (20000x10001), more than 200" in err) == (1, True)
    # To read as many pixels takes long, so a smaller picture is beyond a lower limit.
    for module in ("impasto.options.output", "impasto.tools.large"):
        monkeypatch.setattr(f"{module}.MAX_MEGAPIXELS", 10.0)
    huge.crop(0, 0, 4_000, 2_501).write_to_file("large.tif", compression="deflate")
    code, _, err = run("stylize", "large.tif", "udnie", "-o", "a.png")
    assert (code, "10.0 megapixels (4000x2501), more than 10" in err) == (1, True)
    assert run("stylize", "large.tif", *STYLE[:3], "--size", "200", "-o", "a.png")[0] == 0
    assert pixels("a.png").shape[2:] == (125, 200)


# -- going on ---------------------------------------------------------------------------------------------------------

EAGER = """
import sys
from impasto.tools import run
run.plot_pictures = lambda *_: None
from impasto.cli import main
sys.exit(main(sys.argv[1:]))
"""


def started(arguments: list[Any]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", EAGER, *map(str, arguments)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)


def killed(arguments: list[Any], rows: Path, size: int) -> bool:
    """Kill the program once a file has reached that size. Return False if it finished before."""
    with started(arguments) as process:
        while process.poll() is None and not (rows.exists() and rows.stat().st_size >= size):
            time.sleep(0.001)
        process.kill()
        _, err = process.communicate()
    assert process.returncode in (0, -9), err
    return process.returncode != 0


WAYS: dict[str, list[str]] = {
    "exact": [],
    "sampled": ["--statistics", "sampled"],
    "everything": [
        *("--mask", "mask.png", "--region", "mask.png=great-wave", "--keep-colours", "0.5", "--strength", "0.8")
    ],
    "regions, sampled": ["--region", "mask.png=great-wave", "--statistics", "sampled"],
}
WAYS["everything, sampled"] = [*WAYS["everything"], *WAYS["sampled"]]


@pytest.mark.parametrize(
    ("way", "seed", "times"),
    [
        ("everything, sampled", 0, 2),  # exact ones are continued after a full disk
        *(pytest.param(way, seed, 3, marks=pytest.mark.slow) for seed in range(3) for way in WAYS),
    ],
)
def test_killed_again_and_again(photo: Path, run: Run, way: str, seed: int, times: int) -> None:
    """It continues from the last strip, and the bytes are those of an uninterrupted painting."""
    Image.linear_gradient("L").resize((500, 400)).save("mask.png")
    command = ["stylize", photo, *STYLE, *LITTLE, *WAYS[way]]
    assert run(*command, "-o", "whole.tif", "--run", "whole")[0] == 0
    rows, chance = Path("killed/rows.part"), random.Random(seed)
    arguments, done, kills = [*command, "-o", "killed.tif", "--run", "killed"], 0, 0
    for _ in range(times):
        if not killed(arguments, rows, done + chance.randrange(1, 90_000)):
            break
        kills += 1
        arguments, done = ["stylize", "--resume", "killed"], rows.stat().st_size
        assert not Path("killed.tif").exists()
    assert kills > 1
    code, _, err = run("stylize", "--resume", "killed")
    assert code == 0, err
    assert Path("killed.tif").read_bytes() == Path("whole.tif").read_bytes()
    assert not list(photo.parent.rglob("*.part"))
    assert "interrupted" not in json.loads(Path("killed/record.json").read_text())
    if "is finished" not in err:  # before the last kill came
        assert "killed: continuing after " in err
        assert {p.name for p in Path("killed").iterdir()} == {p.name for p in Path("whole").iterdir()}
        figures = [read_image(f"{folder}/side-by-side.png").tensor for folder in ("killed", "whole")]
        assert (figures[0] - figures[1]).abs().mean() < 0.005


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs a limit on the length of files")
def test_a_full_disk(photo: Path, run: Run) -> None:
    """What is painted is kept."""
    command, rows = ["stylize", photo, *STYLE, *LITTLE], Path("full/rows.part")
    with started([*command, "-o", "full.tif", "--run", "full"]) as process:
        while process.poll() is None and not (rows.exists() and rows.stat().st_size > 10_000):
            time.sleep(0.001)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (500_000, 500_000))
        _, err = process.communicate()
    assert process.returncode == 1
    assert err.splitlines()[-1] == (
        f"impasto: full.tif cannot be written: its rows need 0.0 GB, and {photo.parent / 'full'} cannot take them "
        "(File too large); free some space there, or choose another place"
    )
    assert err.splitlines()[-2].endswith("of 400 rows; continue with `impasto stylize --resume full`")
    assert not Path("full.tif").exists()
    code, _, err = run("stylize", "--resume", "full")
    assert (code, "full: continuing after " in err) == (0, True)
    assert run(*command, "-o", "whole.tif")[0] == 0
    assert Path("full.tif").read_bytes() == Path("whole.tif").read_bytes()


@pytest.mark.parametrize("kept", [[], ["--run", "run"]], ids=["no run folder", "run folder"])
def test_ctrl_c(photo: Path, kept: list[str]) -> None:
    Path("out.tif").write_bytes(b"before")

    def writing() -> bool:
        with suppress(FileNotFoundError):  # small files have been moved to their place meanwhile
            return any(p.stat().st_size > 10_000 for p in photo.parent.rglob("*.part"))
        return False

    with started(["stylize", photo, *STYLE, *LITTLE, "-o", "out.tif", *kept]) as process:
        while process.poll() is None and not writing():
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    how = "continue with `impasto stylize --resume run`" if kept else "with --run DIR, it could be continued"
    assert err.splitlines()[-2].endswith(f"of 400 rows; {how}")
    assert Path("out.tif").read_bytes() == b"before"
    assert bool(list(photo.parent.rglob("*.part"))) == bool(kept)


PEAK = """
import resource, sys
from impasto.cli import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the peak memory differs")
@pytest.mark.parametrize(("suffix", "statistics"), [("tif", "exact"), ("png", "exact"), ("tif", "sampled")])
def test_memory_does_not_grow_with_the_height(
    here: Path, photo_file: Callable[[str], Path], suffix: str, statistics: str
) -> None:
    """A picture of 50 megapixels takes as much as one of 12, and no more than allowed."""
    with Image.open(photo_file("coffee")) as image:
        picture = pyvips.Image.new_from_array(image.convert("RGB"))
    peaks, options = [], [*STYLE[:-2], "--max-memory", "500MB", "--statistics", statistics, "-o", f"out.{suffix}"]
    for height in (250, 4000, 16_000):  # the first one takes what the program itself takes
        picture.resize(3000 / picture.width, vscale=height / picture.height).write_to_file(f"{height}.tif")
        command = [sys.executable, "-c", PEAK, "stylize", f"{height}.tif", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert ("from file to file" in done.stderr) == (height > 250)
        peaks.append(int(done.stdout))
    assert read_image(f"out.{suffix}").size == (16_000, 3000)
    assert peaks[2] < peaks[1] + 120  # the larger picture has 430 MB more, in floats
    assert peaks[2] < peaks[0] + 500


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the peak memory differs")
@pytest.mark.usefixtures("here")
def test_a_gigapixel(photo_file: Callable[[str], Path]) -> None:
    """Beyond the program itself, 1,074 megapixels take hardly more memory than 144. Takes long."""
    with Image.open(photo_file("coffee")) as image:
        picture = pyvips.Image.new_from_array(image.convert("RGB"))
    peaks, options = [], ["--max-megapixels", "1100", "--max-memory", "1500MB", "--statistics", "sampled"]
    for side in (256, 12_000, 32_768):  # the first one takes what the program itself takes
        large = picture.resize(side / picture.width, vscale=side / picture.height)
        large.write_to_file(f"{side}.tif", bigtiff=True, compression="lzw")
        command = [sys.executable, "-c", PEAK, "stylize", f"{side}.tif", *STYLE[:-2], *options, "-o", f"out-{side}.tif"]
        done = subprocess.run([*command, "--compression", "lzw"], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
        print(f"{side}: {peaks[-1]} MB")
    painting = pyvips.Image.new_from_file("out-32768.tif")
    assert (painting.width, painting.height) == (32_768, 32_768)
    assert peaks[2] - peaks[0] < 1.2 * (peaks[1] - peaks[0])
    part = painting.crop(20_000, 20_000, 512, 512).numpy()
    assert part.std() > 2  # painted there, too
