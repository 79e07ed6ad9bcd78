"""Tests of `impasto texture` from end to end: its output, its record, reruns, and what is refused."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import impasto
from impasto.cli import main
from impasto.image.read import read_image, read_record
from impasto.image.write import write_image
from impasto.options import TextureOptions
from impasto.stylizers.protocol import Step
from impasto.verbs import parse

BRIEF = ["--size", "64x48", "--iterations", "3", "--coarsest", "64", "--precision", "float32"]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo_file: Callable[[str], Path]) -> Path:
    """Make a working folder with style.jpg (a cat, 160 px) and other.png (a rocket)."""
    monkeypatch.chdir(tmp_path)
    for name, source in (("style.jpg", "chelsea"), ("other.png", "rocket")):
        with Image.open(photo_file(source)) as image:
            image.thumbnail((160, 160))
            image.convert("RGB").save(name, quality=95)
    return tmp_path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Return `run("texture", ...)`, which returns exit code, standard output and standard error."""

    def call(*args: Any) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(a) for a in args])
        sys.stdout.flush()
        out, err = capfd.readouterr()
        return code, out, err

    return call


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_texture_is_the_library_s(here: Path, run: Run) -> None:
    code, out, err = run("texture", "style.jpg", *BRIEF)
    assert (code, out) == (0, "")
    first, last = err.splitlines()
    assert first == "impasto: Texture; style: style.jpg"
    assert re.fullmatch(r"impasto: style-texture\.png: 64x48, 3 iterations in [0-9.]+ s", last)
    assert sorted(p.name for p in here.iterdir()) == ["other.png", "style-texture.png", "style.jpg"]
    options: dict[str, Any] = {"iterations": 3, "coarsest": 64, "precision": "float32"}
    expected = np.asarray(impasto.texture("style.jpg", (48, 64), **options))
    assert (pixels("style-texture.png") == expected).all()
    assert run("texture", "style.jpg", *BRIEF, "--seamless", "-o", "tile.png")[0] == 0
    assert (pixels("tile.png") == np.asarray(impasto.texture("style.jpg", (48, 64), True, **options))).all()
    assert (pixels("tile.png") != expected).any()


def test_the_record_makes_it_again(here: Path, run: Run) -> None:
    arguments = ["style.jpg", "other.png", "--style-weights", "2", "1", "--start", "other.png", "--tv-weight", "0.5"]
    code, _, err = run("texture", *arguments, "--seamless", *BRIEF, "-o", "made.png")
    assert code == 0, err
    code, out, _ = run("info", "made.png")
    record = json.loads(out)
    assert code == 0
    assert record == read_record("made.png")
    assert (record["method"], record["size"], record["iterations"]) == ("texture", [64, 48], 3)
    assert record["texture"] == {"size": [64, 48], "seamless": True}
    assert record["options"]["precision"] == "float32"
    assert [e["name"] for e in (*record["styles"], record["start"])] == ["style.jpg", "other.png", "other.png"]
    assert (record["options"]["style_weights"], record["options"]["tv_weight"]) == ([2, 1], 0.5)
    assert str(here) not in out
    assert run("rerun", "made.png")[0] == 0
    assert (here / "made-rerun.png").read_bytes() == (here / "made.png").read_bytes()
    assert run("rerun", "made.png", "--bits", "16", "-o", "deep.png")[0] == 0
    assert abs(impasto.read_image("deep.png").tensor - impasto.read_image("made.png").tensor).max() <= 0.5 / 255
    # The files count by what is in them; those of other names are given by hand.
    (here / "style.jpg").rename("cat.jpg")
    code, _, err = run("rerun", "made.png")
    assert (code, err) == (
        1,
        "impasto: style.jpg is not found here; give the file with --styles, or run the command in its folder\n",
    )
    assert run("rerun", "made.png", "--styles", "cat.jpg", "other.png", "-o", "again.png")[0] == 0
    assert (pixels("again.png") == pixels("made.png")).all()
    code, _, err = run("rerun", "made.png", "--content", "cat.jpg")
    assert (code, err) == (2, "impasto: made.png is a texture, which has no photograph; leave out --content\n")


def test_the_time_allowed_is_recorded_as_iterations(here: Path, run: Run) -> None:
    size = ["--size", "32", "--precision", "float32"]
    assert run("texture", "style.jpg", *size, "--time", "0.2s", "-o", "timed.png")[0] == 0
    record = read_record("timed.png")
    assert record is not None
    assert (record["options"]["time"], record["options"]["iterations"]) == (None, [record["iterations"]])
    assert run("rerun", "timed.png", "-o", "again.png")[0] == 0
    assert (pixels("again.png") == pixels("timed.png")).all()


def test_a_damaged_record_is_told(here: Path, run: Run) -> None:
    assert run("texture", "style.jpg", *BRIEF, "-o", "made.png")[0] == 0
    record, picture = read_record("made.png"), read_image("made.png")
    assert record is not None
    for damage in ({"texture": {}}, {"styles": 3}, {"options": {"brushes": 1}}, {"texture": {"size": 3}}):
        write_image(picture, "made.png", record={**record, **damage})
        code, _, err = run("rerun", "made.png")
        assert code in (1, 2)
        assert err.count("\n") == 1
        assert "damaged" in err or "has no option brushes" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no style given"),
        (["style.jpg", "--size", "64by48"], "640x480"),
        (["style.jpg", "--size", "31"], "--size is 31x31; each side must be 32 to 65536 px"),
        (["style.jpg", "--keep-colours", "1"], "--keep-colours"),
        (["style.jpg", "--content-weight", "1"], "--content-weight"),
        (["style.jpg", "--keep-gps"], "--keep-gps"),
        (["style.jpg", "--start", "content"], "--start content needs a photograph, but a texture has none"),
        (
            ["style.jpg", "--optimizer", "lbfgs", "--parameters", "laplacian"],
            "--parameters laplacian needs --optimizer adam",
        ),
        (["style.jpg", "--style-weights", "1,2"], "2 --style-weights for 1 styles"),
        (["style.jpg", "-o", "made.gif"], "made.gif"),
        (["none.jpg"], "style 'none.jpg' is neither a file nor a built-in style"),
        (["-"], "the style comes from standard input; name the texture's file with --out"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(here: Path, run: Run, arguments: list[str], message: str) -> None:
    before = sorted(here.iterdir())
    code, out, err = run("texture", *arguments)
    assert code in (1, 2)
    assert out == ""
    assert err.startswith("impasto: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(here.iterdir()) == before


def test_stopped_it_keeps_the_texture_so_far(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(step: Step) -> None:
        if step.iteration == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("impasto.tools.driver.step_bar", lambda _: nullcontext(stopped))
    code, _, err = run("texture", "style.jpg", *BRIEF, "-o", "made.png")
    assert code == 130
    assert "stopped at iteration 2 of 3; the texture so far is in made.png" in err
    record = read_record("made.png")
    assert record is not None
    assert (record["iterations"], record["total"], record["interrupted"]) == (2, 3, True)
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert run("rerun", "made.png", "-o", "whole.png")[0] == 0
    whole = read_record("whole.png")
    assert whole is not None
    assert (whole["iterations"], "interrupted" in whole) == (3, False)


def test_through_pipes(here: Path) -> None:
    command = [sys.executable, "-m", "impasto", "texture", "-", "-o", "-", *BRIEF]
    done = subprocess.run(command, input=Path("style.jpg").read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    Path("piped.png").write_bytes(done.stdout)
    assert pixels("piped.png").shape == (48, 64, 3)
    assert main(["texture", "style.jpg", *BRIEF, "-o", "made.png"]) == 0
    assert (pixels("made.png") == pixels("piped.png")).all()


def test_sizes_on_the_command_line() -> None:
    assert parse(["texture", "a.jpg"]).size == (1024, 1024)
    assert parse(["texture", "a.jpg", "--size", "640x480"]).size == (480, 640)
    assert parse(["texture", "--size", "512", "a.jpg", "b.jpg"]).size == (512, 512)
    verb = parse(["texture", "a.jpg", "b.jpg", "--style-scale", "0.5", "1", "--seamless"])
    assert (verb.styles, verb.seamless) == (("a.jpg", "b.jpg"), True)
    assert verb.texture == TextureOptions(style_scale=(0.5, 1.0))
