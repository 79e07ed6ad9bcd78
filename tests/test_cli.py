"""Tests of the command line from end to end: every verb, every exit code, nothing left behind by failures."""

import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import impasto
from impasto.cli import main
from impasto.device import Compute
from impasto.errors import DivergedError, OptionError
from impasto.image.read import read_image, read_record
from impasto.models.vgg import STYLE_LAYERS
from impasto.models.weights import load_encoder
from impasto.style import target as styles
from impasto.style.losses import gram_loss, head_metric
from impasto.style.target import StyleTarget
from impasto.style.terms import PerceptualLoss
from impasto.tools import progress

QUICK = ["--size", "96", "--iterations", "15"]
BRIEF = ["--size", "48", "--iterations", "2", "--coarsest", "48"]
PROGRAM = [sys.executable, "-m", "impasto"]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo_file: Callable[[str], Path]) -> Path:
    """Make a working folder with photo.png (a cup, 120 px), style.jpg (a cat) and other.png."""
    monkeypatch.chdir(tmp_path)
    for name, source, size in (
        ("photo.png", "coffee", 120),
        ("style.jpg", "chelsea", 160),
        ("other.png", "rocket", 90),
    ):
        with Image.open(photo_file(source)) as image:
            image.thumbnail((size, size))
            image.convert("RGB").save(name, quality=95)
    return tmp_path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Return `run("stylize", ...)`, which returns exit code, standard output and standard error."""

    def call(*args: Any) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(a) for a in args])
        sys.stdout.flush()
        out, err = capfd.readouterr()
        return code, out, err

    return call


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def distance(picture: Path, style: Path, size: int) -> float:
    """Return the style distance on the compact encoder:

    G - G_s|| / ||G_s||, averaged over relu1_1 to relu4_1.
    """
    encoder, compute = load_encoder("compact"), Compute(torch.device("cpu"), None)
    found, wanted = (StyleTarget.of(read_image(p).tensor, encoder, compute, (size,)).at(size) for p in (picture, style))
    terms = [gram_loss(found[k], wanted[k], head_metric(encoder, k)).sqrt().item() for k in STYLE_LAYERS[:4]]
    return sum(terms) / len(terms)


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


# -- stylize ----------------------------------------------------------------------------------------------------------


def test_stylize(here: Path, run: Run) -> None:
    code, out, err = run("stylize", "photo.png", "style.jpg", "-o", "painting.png", *QUICK)
    assert (code, out) == (0, "")
    first, last = err.splitlines()  # quiet when piped: these two lines
    assert first == "impasto: Photograph photo.png; style: style.jpg"
    assert last.startswith("impasto: painting.png: 96x64, 15 iterations in ")
    assert pixels("painting.png").shape == (64, 96, 3)
    assert distance(here / "painting.png", here / "style.jpg", 96) < 0.6 * distance(
        here / "photo.png", here / "style.jpg", 96
    )
    assert sorted(p.name for p in here.iterdir()) == ["other.png", "painting.png", "photo.png", "style.jpg"]


def test_lists_of_numbers_before_the_pictures(here: Path, run: Run) -> None:
    """Numbers may be separated by commas or by spaces, whatever follows them."""
    common = ["--size", "64", "--coarsest", "48", "--precision", "float32", "--style-loss", "gram", "--run", "run"]
    lists = ["--style-weights", "2", "1", "--style-scale", "1", "2", "--iterations", "4", "3"]
    assert run("stylize", *common, *lists, "photo.png", "style.jpg", "other.png", "-o", "first.png")[0] == 0
    record = read_record("first.png")
    assert record is not None
    options = record["options"]
    assert (options["style_weights"], options["style_scale"], options["iterations"]) == ([2, 1], [1, 2], [4, 3])
    with open("run/losses.csv", newline="") as file:
        assert [int(row["scale"]) for row in csv.DictReader(file)] == [48] * 4 + [64] * 3
    commas = ["--style-weights", "2,1", "--style-scale", "1,2", "--iterations", "4,3"]
    assert run("stylize", "photo.png", "style.jpg", "other.png", *commas, *common[:-2], "-o", "second.png")[0] == 0
    assert Path("second.png").read_bytes() == Path("first.png").read_bytes()
    # Each of them matters: without, another picture comes out.
    for i in range(0, 6, 2):
        fewer = [*commas[:i], *commas[i + 2 :]]
        fewer += ["--iterations", "7,7"] if i == 4 else []
        assert run("stylize", "photo.png", "style.jpg", "other.png", *fewer, *common[:-2], "-o", "third.png")[0] == 0
        assert not np.array_equal(pixels("third.png"), pixels("first.png"))


@pytest.mark.bundled
def test_instant_and_draft(here: Path, run: Run) -> None:
    """The network alone, or with a few steps from there, comes nearer to the style."""
    for quality in ("instant", "draft"):
        code, _, err = run("stylize", "photo.png", "style.jpg", "--quality", quality, "-o", f"{quality}.png")
        assert (code, err.count("\n")) == (0, 2)
        assert ("one pass in" in err) == (quality == "instant")
        assert run("rerun", f"{quality}.png", "-o", "again.png")[0] == 0
        assert np.array_equal(pixels("again.png"), pixels(f"{quality}.png"))
    style, photo = here / "style.jpg", distance(here / "photo.png", here / "style.jpg", 120)
    instant, draft = (distance(here / f"{q}.png", style, 120) for q in ("instant", "draft"))
    assert draft < instant
    assert draft < 0.5 * photo


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tv-weight", "2"],
        ["--iterations", "4"],
        ["--style-loss", "nn"],
        ["--start", "noise"],
        ["--optimizer", "adam"],
        ["--method", "optimize"],
    ],
    ids=" ".join,
)
def test_instant_has_no_option_of_the_optimisation(here: Path, run: Run, arguments: list[str]) -> None:
    before = files(here)
    code, out, err = run("stylize", "photo.png", "style.jpg", "--quality", "instant", *arguments, "-o", "out.png")
    assert (code, out) == (2, "")
    assert one_line(err)
    assert arguments[0] in err
    assert "instant" in err
    assert files(here) == before


def test_numbers_that_do_not_fit(here: Path, run: Run) -> None:
    for arguments, message in (
        (["--iterations", "4", "3", "2"], "--iterations has 3 numbers, but there are 2 scales (48, 64 pixels)"),
        (["--style-weights", "2", "1"], "2"),
        (["--style-scale", "1,2"], "2 --style-scale for 1 styles; give one, or one for each"),
        (["--stroke-px", "8", "9"], "2 --stroke-px for 1 styles; give one, or one for each"),
        (["--stroke-px", "8", "--stroke", "2"], "--stroke-px and --stroke (--style-scale) cannot be combined"),
        (["--time", "soon"], "30s, 2m or 1h"),
        (["--time", "3s", "--iterations", "4"], "--time and --iterations cannot be combined"),
    ):
        code, _, err = run("stylize", *arguments, "photo.png", "style.jpg", "--size", "64", "--coarsest", "48")
        assert code == 2
        assert one_line(err)
        assert message in err


def test_as_long_as_the_time_allows(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """If an evaluation took a second, 10 s would allow 9 or 10 of them and 30 s 28, less the time for reading."""
    monkeypatch.setattr("impasto.stylizers.optimize.seconds", lambda *_: 1.0)
    common = ["--size", "48", "--coarsest", "48", "--precision", "float32", "--style-loss", "gram"]
    counts = []
    for given in ("10", "30s", "0.5m"):
        assert run("stylize", "photo.png", "style.jpg", *common, "--time", given, "-o", "out.png")[0] == 0
        record = read_record("out.png")
        assert record is not None
        counts.append(record["iterations"])
    assert 4 <= counts[0] <= 10
    assert all(20 <= c <= 28 for c in counts[1:])


def test_the_mask(here: Path, run: Run) -> None:
    """Where the mask is black, the photograph stays exactly as it is; where it is white, it is painted."""
    mask = np.zeros((20, 30), np.uint8)
    mask[:, 15:] = 255
    Image.fromarray(mask).save("mask.png")
    options = ["--size", "120", "--iterations", "12", "--mask", "mask.png", "--mask-feather", "1"]
    assert run("stylize", "photo.png", "style.jpg", "-o", "out.png", *options)[0] == 0
    change = np.abs(pixels("out.png").astype(int) - pixels("photo.png").astype(int)).mean(2)
    assert change[:, :48].max() == 0
    assert change[:, 72:].mean() > 10


def test_without_a_name_the_painting_is_named_after_both(here: Path, run: Run) -> None:
    assert run("stylize", "photo.png", here / "style.jpg", *BRIEF)[0] == 0
    assert pixels("photo-style.png").shape == (32, 48, 3)


def test_several_styles_and_formats(here: Path, run: Run) -> None:
    weights = ["--style-weights", "2", "1"]
    for suffix in ("jpg", "webp", "tiff", "png"):
        out = f"out.{suffix}"
        assert run("stylize", "photo.png", "style.jpg", "other.png", "-o", out, *weights, *BRIEF[2:])[0] == 0
        record = read_record(out)
        assert record is not None
        assert [s["name"] for s in record["styles"]] == ["style.jpg", "other.png"]
        assert record["options"]["style_weights"] == [2, 1]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["style.jpg"], "Photograph photo.png; style: style.jpg"),
        (
            ["style.jpg", "other.png", "udnie"],
            "Photograph photo.png; styles: style.jpg 33 %, other.png 33 %, udnie 33 %",
        ),
        (
            ["style.jpg", "udnie", "--style-weights", "3", "1"],
            "Photograph photo.png; styles: style.jpg 75 %, udnie 25 %",
        ),
        (
            ["style.jpg", "udnie", "--style-weights", "399", "1"],
            "Photograph photo.png; styles: style.jpg 100 %, udnie 0.25 %",
        ),
        (
            ["style.jpg", "--region", "other.png=udnie"],
            "Photograph photo.png; style: style.jpg; udnie where other.png is white",
        ),
    ],
)
def test_the_first_line_says_what_is_the_photograph_and_what_are_the_styles(
    here: Path, run: Run, arguments: list[str], line: str
) -> None:
    code, out, err = run("stylize", "photo.png", *arguments, "-o", "out.png", *BRIEF)
    assert (code, out) == (0, "")
    assert err.splitlines()[0] == f"impasto: {line}"
    assert run("rerun", "out.png", "-o", "again.png")[2].splitlines()[0] == f"impasto: {line}"


def test_it_comes_before_what_else_is_said(here: Path, run: Run) -> None:
    recipe = ["--preset", "gatys", "--size", "64", "--iterations", "1"]
    code, _, err = run("stylize", "photo.png", "style.jpg", "-o", "out.png", *recipe)
    assert code == 0, err
    first, second, _ = err.splitlines()
    assert first == "impasto: Photograph photo.png; style: style.jpg"
    assert "the preset gatys runs on the compact encoder" in second


# -- names of files ---------------------------------------------------------------------------------------------------


def test_a_name_of_ours_replaces_no_painting(here: Path, run: Run) -> None:
    """The photographs have the same name in two folders, or the same stem, or are painted twice."""
    for folder in ("a", "b"):
        (here / folder).mkdir()
        shutil.copy("photo.png", here / folder / "photo.png")
    with Image.open("other.png") as image:
        image.save("b/photo.png")
        image.save("photo.jpg")
    painted: dict[str, bytes] = {}
    names = ["photo-style.png", "photo-style-2.png", "photo-style-3.png", "photo-style-4.png"]
    for photo, name in zip(("a/photo.png", "b/photo.png", "photo.jpg", "a/photo.png"), names, strict=True):
        code, _, err = run("stylize", photo, "style.jpg", *BRIEF)
        assert code == 0, err
        assert err.splitlines()[-1].startswith(f"impasto: {name}: ")
        assert {n: (here / n).read_bytes() for n in painted} == painted
        painted[name] = (here / name).read_bytes()
    assert np.array_equal(pixels(names[3]), pixels(names[0]))
    assert not np.array_equal(pixels(names[1]), pixels(names[0]))


def test_out_may_be_a_folder(here: Path, run: Run) -> None:
    """The painting gets a generated name there; a file that is named is replaced."""
    (here / "paintings").mkdir()
    for name in ("photo-style.png", "photo-style-2.png"):
        code, _, err = run("stylize", "photo.png", "style.jpg", "-o", "paintings", "--run", "run", *BRIEF)
        assert code == 0, err
        assert err.splitlines()[-1].startswith(f"impasto: paintings/{name}: ")
        assert json.loads(Path("run/record.json").read_text())["paths"]["out"] == str(here / "paintings" / name)
    assert run("rerun", "paintings/photo-style.png", "-o", "paintings")[0] == 0
    assert run("texture", "style.jpg", "-o", "paintings", "--size", "48", "--iterations", "2")[0] == 0
    assert run("stylize", "photo.png", "style.jpg", "-o", "paintings/photo-style.png", *BRIEF)[0] == 0
    assert sorted(p.name for p in (here / "paintings").iterdir()) == [
        "photo-style-2.png",
        "photo-style-rerun.png",
        "photo-style.png",
        "style-texture.png",
    ]


def test_other_files_with_names_of_ours(here: Path, run: Run) -> None:
    """This holds for reruns, textures and learnt styles."""
    assert run("stylize", "photo.png", "style.jpg", "-o", "first.png", *BRIEF)[0] == 0
    for line, names in (
        (["rerun", "first.png"], ["first-rerun.png", "first-rerun-2.png"]),
        (["texture", "style.jpg", "--size", "48", "--iterations", "2"], ["style-texture.png", "style-texture-2.png"]),
        (["learn", "style.jpg", "--steps", "1"], ["style.style.safetensors", "style-2.style.safetensors"]),
    ):
        before = files(here)
        for name in names:
            code, _, err = run(*line)
            assert code == 0, err
            assert err.splitlines()[-1].startswith(f"impasto: {name}: ")
        after = files(here)
        assert {n: after[n] for n in before} == before
        assert after.keys() - before.keys() == set(names)


def test_paintings_at_the_same_time(here: Path) -> None:
    """Several paintings would have the same name, and each is begun before any is written."""
    command = [*PROGRAM, "stylize", "photo.png", "style.jpg", *BRIEF]
    several = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [p.wait(timeout=120) for p in several] == [0, 0]
    assert sorted(p.name for p in here.glob("photo-style*")) == ["photo-style-2.png", "photo-style.png"]


def test_a_run_that_was_killed_goes_on_to_a_free_name(here: Path, run: Run) -> None:
    """The painting that took the name in the meantime stays."""
    command = [*PROGRAM, "stylize", "photo.png", "style.jpg", "--run", "run", "--snapshot-every", "2"]
    with subprocess.Popen([*command, "--size", "64", "--coarsest", "64", "--iterations", "100000"]) as process:
        deadline = time.monotonic() + 60
        while not (here / "run" / "snapshots" / "000002.png").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    record = json.loads(Path("run/record.json").read_text())
    record["options"]["iterations"] = 2
    Path("run/record.json").write_text(json.dumps(record))
    Path("run/checkpoint.pt").unlink(missing_ok=True)
    assert run("stylize", "photo.png", "style.jpg", *BRIEF)[0] == 0
    other = Path("photo-style.png").read_bytes()
    code, _, err = run("stylize", "--resume", "run")
    assert code == 0, err
    assert Path("photo-style.png").read_bytes() == other
    assert pixels("photo-style-2.png").shape == (43, 64, 3)


def test_alpha_and_16_bits(here: Path, run: Run) -> None:
    rgba = np.concatenate([pixels("photo.png"), np.full((80, 120, 1), 77, np.uint8)], 2)
    Image.fromarray(rgba).save("alpha.png")
    assert run("stylize", "alpha.png", "style.jpg", "-o", "out.png", "--bits", 16, *BRIEF[2:])[0] == 0
    picture = read_image("out.png")
    assert picture.alpha is not None
    assert torch.allclose(picture.alpha, torch.tensor(77 / 255), atol=1e-4)
    assert picture.metadata.bits == 16


def test_the_run_folder(here: Path, run: Run) -> None:
    (here / "run" / "snapshots").mkdir(parents=True)
    (here / "run" / "snapshots" / "000099.png").write_bytes(b"from an earlier run")
    (here / "run" / "snapshots" / "mine.png").write_bytes(b"not ours")
    arguments = ["--run", "run", "--snapshot-every", "4", "--size", "96", "--coarsest", "64", "--iterations", "5,5"]
    code, _, err = run("stylize", "photo.png", "style.jpg", "-o", "painting.png", *arguments)
    assert code == 0, err
    assert sorted(p.name for p in (here / "run").iterdir()) == sorted(
        ["losses.csv", "losses.png", "record.json", "side-by-side.png", "snapshots"]
    )
    names = sorted(p.name for p in (here / "run" / "snapshots").iterdir())
    assert names == ["000004.png", "000008.png", "000010.png", "mine.png"]
    assert np.array_equal(pixels("run/snapshots/000010.png"), pixels("painting.png"))
    with open("run/losses.csv", newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert [r["iteration"] for r in rows] == list(range(1, 11))
    assert [r["scale"] for r in rows] == [rows[0]["scale"]] * 5 + [96] * 5
    for row in rows:
        assert row["total"] == pytest.approx(sum(row.get(k, 0) for k in ("content", "style", "rim", "tv")), rel=1e-4)
    assert rows[4]["total"] < 0.8 * rows[0]["total"]
    assert [r["seconds"] for r in rows] == sorted(r["seconds"] for r in rows)
    record = json.loads((here / "run" / "record.json").read_text())
    embedded = read_record("painting.png")
    assert embedded is not None
    assert {k: record[k] for k in embedded} == embedded
    assert record["impasto"] == impasto.__version__
    assert record["options"]["seed"] == 0
    assert record["paths"]["content"] == str(here / "photo.png")
    assert str(here) not in json.dumps(embedded)  # a picture that is passed on tells nothing of the machine
    for figure, least in (("losses.png", 400), ("side-by-side.png", 300)):
        assert min(pixels(here / "run" / figure).shape[:2]) >= least


@pytest.mark.parametrize("weight", ["--content-weight", "--style-weight"])
def test_the_run_folder_with_a_term_off(here: Path, run: Run, weight: str) -> None:
    code, _, err = run("stylize", "photo.png", "style.jpg", "-o", "o.png", "--run", "run", weight, "0", *BRIEF[2:])
    assert code == 0, err
    assert (here / "run" / "losses.png").is_file()


def test_info_and_rerun(here: Path, run: Run) -> None:
    common = ["--size", "64", "--iterations", "3", "--start", "other.png", "--seed", "5", "--run", "run"]
    assert run("stylize", "photo.png", "style.jpg", "-o", "first.png", *common)[0] == 0
    for source in ("first.png", "run"):
        code, out, _ = run("info", source)
        assert code == 0
        record = json.loads(out)
        assert record["method"] == "optimize"
        assert record["content"]["name"] == "photo.png"
        assert (record["options"]["seed"], record["size"], record["iterations"]) == (5, [64, 43], 3)
        code, _, err = run("rerun", source, "-o", "again.png")
        assert code == 0, err
        assert np.array_equal(pixels("again.png"), pixels("first.png"))
    assert run("rerun", "run")[0] == 0
    assert np.array_equal(pixels("run-rerun.png"), pixels("first.png"))


def test_rerun_elsewhere(here: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A run folder knows where its files were; the files of a painting are looked for here and next to it."""
    assert run("stylize", "photo.png", "style.jpg", "-o", "first.png", "--run", "run", *BRIEF[2:])[0] == 0
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    os.chdir(elsewhere)
    for source in (here / "run", here / "first.png"):
        assert run("rerun", source, "-o", "again.png")[0] == 0
        assert Path("again.png").read_bytes() == (here / "first.png").read_bytes()
    shutil.copy(here / "first.png", elsewhere)
    code, _, err = run("rerun", "first.png")
    assert code == 1
    assert "photo.png is not found here; give the file with --content or --styles" in err
    given = ["--content", here / "photo.png", "--styles", here / "style.jpg"]
    assert run("rerun", "first.png", *given, "-o", "again.png")[0] == 0
    assert np.array_equal(pixels("again.png"), pixels(here / "first.png"))


def test_rerun_of_a_changed_source(here: Path, run: Run) -> None:
    assert run("stylize", "photo.png", "style.jpg", "-o", "first.png", *BRIEF[2:])[0] == 0
    shutil.copy("other.png", "photo.png")
    code, _, err = run("rerun", "first.png", "-o", "again.png")
    assert code == 1
    assert "photo.png has changed since the painting was made" in err
    assert not Path("again.png").exists()


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[]",
        "{}",
        '{"options": {}}',
        '{"options": {}, "content": 3, "styles": []}',
        '{"options": {}, "content": {"name": "photo.png"}, "styles": [{"name": "style.jpg"}], "paths": 3}',
        '{"options": {"size": "x"}, "content": {"name": "photo.png"}, "styles": [{"name": "style.jpg"}]}',
        '{"options": {"brush": 1}, "content": {"name": "photo.png"}, "styles": [{"name": "style.jpg"}]}',
        '{"options": 3, "content": {"name": "photo.png"}, "styles": [{"name": "style.jpg"}]}',
        '{"options": {}, "content": {"name": 3}, "styles": [{"name": "style.jpg"}]}',
        '{"options": {}, "content": {"name": "-"}, "styles": [{"name": "style.jpg"}]}',
        '{"options": {}, "content": {"name": "photo.png", "sha256": "0"}, "styles": [{"name": "style.jpg"}]}',
        '{"options": {}, "content": {"name": "photo.png"}, "styles": [], "paths": {"styles": ["a", "b"]}}',
    ],
)
def test_rerun_of_a_damaged_record(here: Path, run: Run, record: str) -> None:
    (here / "run").mkdir()
    (here / "run" / "record.json").write_text(record)
    before = files(here)
    code, _, err = run("rerun", "run")
    assert code in (1, 2)
    assert one_line(err)
    assert files(here) == before


def test_gatys(here: Path, run: Run) -> None:
    arguments = ["--preset", "gatys", "--size", "64", "--iterations", "4", "--rate", "0.02", "--run", "run"]
    code, _, err = run("stylize", "photo.png", "style.jpg", "-o", "out.png", "--snapshot-every", "2", *arguments)
    assert code == 0
    assert "`impasto models fetch vgg19` gets the original network" in err
    with open("run/losses.csv", newline="") as file:
        totals = [float(row["total"]) for row in csv.DictReader(file)]
    assert totals[-1] < totals[0]
    assert sorted(p.name for p in Path("run/snapshots").iterdir()) == ["000002.png", "000004.png"]


# -- the other verbs --------------------------------------------------------------------------------------------------


def test_styles_and_style_files(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "about.csv").write_text(
        "file,title,artist,date,licence,source\nsomewhere/style.jpg,The Cat,S. van der Walt,2011,CC0-1.0,here\n"
    )
    code, out, _ = run(
        "train", "style-files", "style.jpg", "other.png", "--folder", "made", "--attribution", "about.csv"
    )
    assert code == 0
    made = [here / "made" / f"{n}.style.safetensors" for n in ("style", "other")]
    assert [Path(line) for line in out.split()] == [p.relative_to(here) for p in made]
    assert all(p.is_file() for p in made)
    monkeypatch.setattr(styles, "FOLDER", here / "made")
    styles.load_builtin.cache_clear()
    code, out, _ = run("styles")
    assert code == 0
    assert out.splitlines() == ["other\t\t\t\t", "style\tThe Cat\tS. van der Walt\t2011\tCC0-1.0"]
    for source in (made[0], "style"):
        code, _, err = run("stylize", "photo.png", source, "-o", "painting.png", *QUICK)
        assert code == 0, err
        assert distance(here / "painting.png", here / "style.jpg", 96) < 0.6 * distance(
            here / "photo.png", here / "style.jpg", 96
        )
    assert run("rerun", "painting.png")[0] == 0
    assert np.array_equal(pixels("painting-rerun.png"), pixels("painting.png"))
    styles.load_builtin.cache_clear()


def test_models(here: Path, run: Run) -> None:
    code, out, _ = run("models")
    assert code == 0
    assert out == run("models", "list")[1]
    assert [line.split("\t")[:3] for line in out.splitlines()] == [
        ["compact", "encoder", "here"],
        ["network", "network", "here"],
        ["vgg16", "encoder", "not fetched"],
        ["vgg19", "encoder", "not fetched"],
    ]
    code, out, _ = run("models", "where", "compact")
    assert code == 0
    path = Path(out.strip())
    assert path.is_file()
    assert run("models", "where")[1].splitlines()[0] == f"compact\t{path}"
    code, out, _ = run("models", "fetch", "compact")
    assert (code, out) == (0, f"{path}\n")
    code, _, err = run("models", "fetch", "vgg19", "--offline")
    assert code == 1
    assert one_line(err)
    code, out, _ = run("models", "show", "--size", "64", "32")
    assert code == 0
    rows = [line.split("\t") for line in out.splitlines()]
    for name, parameters in (("vgg16", 14_714_688), ("vgg19", 20_024_384)):  # which need not be fetched for that
        code, out, err = run("models", "show", name)
        assert code == 0, err
        assert out.splitlines()[-1] == f"{parameters:,} parameters"
    assert run("models", "show", "network")[0] == 0
    assert ["relu5_1", "128x2x4", "0"] in rows
    parameters = sum(p.numel() for p in load_encoder("compact").parameters())
    assert rows[-1] == [f"{parameters:,} parameters"]


def test_help_and_version(run: Run) -> None:
    assert run("--version") == (0, f"impasto {impasto.__version__}\n", "")
    for verb in ([], ["stylize"], ["models", "show"], ["train", "encoder"], ["train", "network"], ["rerun"]):
        code, out, err = run(*verb, "--help")
        assert (code, err) == (0, "")
        assert "usage: impasto" in out
    assert run()[0] == 0
    out = run("stylize", "--help")[1]
    for words in ("--style-weights", "Long side of the painting", "CONTENT"):
        assert words in out


# -- what ends early --------------------------------------------------------------------------------------------------


def test_ctrl_c_writes_the_painting_so_far(here: Path) -> None:
    arguments = ["--size", "64", "--coarsest", "64", "--iterations", "100000", "--run", "run", "--snapshot-every", "2"]
    command = [*PROGRAM, "stylize", "photo.png", "style.jpg", "-o", "painting.png", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (here / "run" / "snapshots" / "000004.png").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    _, stopped, last = err.splitlines()
    assert stopped.startswith("impasto: stopped at iteration ")
    assert stopped.endswith(
        " of 100000; the painting so far is in painting.png; continue with `impasto stylize --resume run`"
    )
    assert last == "impasto: stopped"
    record = read_record("painting.png")
    assert record is not None
    assert 4 <= record["iterations"] < 100000
    assert (pixels("painting.png") != pixels("run/snapshots/000002.png")).any()
    assert (record["interrupted"], record["total"]) == (True, 100000)
    for name in ("record.json", "losses.csv", "losses.png", "side-by-side.png", "checkpoint.pt"):
        assert (here / "run" / name).stat().st_size > 0


def test_ctrl_c_before_the_first_step(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PerceptualLoss, "__call__", stop)
    before = files(here)
    code, out, err = run("stylize", "photo.png", "style.jpg", "-o", "out.png", *BRIEF)
    assert (code, out, err.splitlines()[1:]) == (130, "", ["impasto: stopped"])
    assert files(here) == before


def test_a_diverged_run_keeps_the_best(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate, calls = PerceptualLoss.__call__, []

    def spoilt(self: PerceptualLoss, x: torch.Tensor) -> dict[str, torch.Tensor]:
        calls.append(1)
        return {k: v * (float("inf") if len(calls) > 5 else 1) for k, v in evaluate(self, x).items()}

    monkeypatch.setattr(PerceptualLoss, "__call__", spoilt)
    code, _, err = run("stylize", "photo.png", "style.jpg", "-o", "out.png", "--size", "48", "--iterations", "20")
    assert code == 1
    assert "stopped at iteration 5 of 20; the painting so far is in out.png" in err
    assert "no longer finite at iteration 6" in err
    assert pixels("out.png").shape == (32, 48, 3)


def test_through_pipes(here: Path) -> None:
    """Standard output gets the picture and nothing else; standard error gets two lines."""
    command = [*PROGRAM, "stylize", "-", "style.jpg", "-o", "-", *BRIEF[2:]]
    done = subprocess.run(command, input=Path("photo.png").read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert (image.format, image.size) == ("PNG", (120, 80))
    assert done.stderr.startswith(b"impasto: Photograph standard input; style: style.jpg\n")
    assert done.stderr.count(b"\n") == 2


def test_a_reader_that_goes_away(here: Path) -> None:
    """If the pipe's other end is closed, there is an error and no traceback."""
    for verb in (["models"], ["stylize", "photo.png", "style.jpg", "-o", "-", *BRIEF]):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as out:
            done = subprocess.run([*PROGRAM, *verb], stdout=out, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


def test_debug_gives_the_traceback(here: Path, run: Run) -> None:
    with pytest.raises(impasto.StyleError, match="nothing"):
        run("stylize", "photo.png", "nothing", "-o", "out.png", "--debug")
    with pytest.raises(OptionError):
        run("--debug", "stylize", "--sise", "3")
    done = subprocess.run([*PROGRAM, "info", "photo.png", "--debug"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "PictureError: photo.png has no record" in done.stderr


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")],
)
def test_out_of_memory(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(PerceptualLoss, "__call__", fail)
    code, _, err = run("stylize", "photo.png", "style.jpg", "-o", "out.png")
    assert (code, err.splitlines()[1:]) == (1, ["impasto: out of memory; try a smaller --size"])


def test_what_is_wrong_with_the_target_is_said_before_any_work(here: Path, run: Run) -> None:
    """The message comes before a photograph is read; the one here cannot be read."""
    (here / "damaged.png").write_bytes((here / "photo.png").read_bytes()[:1000])
    for out, message in (
        ("out.xyz", "pictures cannot be written as .xyz"),
        ("out", "its name has no suffix"),
        ("missing/out.png", "there is no folder"),
        ("out.jpg --bits 16", "8 bits"),
    ):
        code, _, err = run("stylize", "damaged.png", "style.jpg", "-o", *out.split())
        assert code in (1, 2)
        assert message in err
    code, _, err = run("stylize", "damaged.png", "style.jpg", "-o", "out.png")
    assert (code, "damaged.png" in err.splitlines()[-1]) == (1, True)
    code, _, err = run("stylize", "-", "style.jpg")
    assert code == 2
    assert "name the painting's file with --out" in err


# -- a terminal -------------------------------------------------------------------------------------------------------


def test_the_bar_on_a_terminal(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    screen = Console(file=io.StringIO(), force_terminal=True, width=160)
    monkeypatch.setattr(progress, "console", screen)
    assert main(["stylize", "photo.png", "style.jpg", "-o", "out.png", "--size", "48", "--iterations", "4"]) == 0
    shown = screen.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    for words in ("photo.png in style.jpg", "4/4", "48x32 (1/1)", "style", "content", "out.png: 48x32"):
        assert words in shown, words


# -- bad command lines ------------------------------------------------------------------------------------------------


def one_line(err: str) -> bool:
    return err.startswith("impasto: ") and err.endswith("\n") and err.count("\n") == 1 and "Traceback" not in err


BAD_VALUES = {
    "--size": ["x", "", "31", "-5", "1e3", "99999999", "nan"],
    "--scale": ["x", "0", "-1", "nan", "inf", "17"],
    "--iterations": ["0", "-1", "1.5", "ten", "99999999999", "2,2", "2,", "1,x"],
    "--coarsest": ["0", "x", "31"],
    "--quality": ["", "x", "Good", "0"],
    "--preset": ["x", "GATYS", "1"],
    "--content-weight": ["x", "-1", "nan", "inf", "1e30"],
    "--style-weight": ["x", "-0.1", "nan", "-inf"],
    "--tv-weight": ["-1", "one"],
    "--style-weights": ["x", "-1", "nan", "1 2 3", "0", ""],
    "--style-scale": ["0", "9", "x", "nan", "1,2,3", "1,"],
    "--stroke-px": ["0", "5000", "x", "nan", "1,2,3", "1,"],
    "--time": ["0", "-1s", "x", "", "3 days", "1e9h"],
    "--mask": ["nothing.png", "broken.png", "empty.png", "folder"],
    "--region": ["photo.png", "=style.jpg", "nothing.png=style.jpg", "photo.png=nothing", "photo.png=broken.png"],
    "--resume": ["nothing", "folder", "photo.png"],
    "--rate": ["0", "-1", "11", "nan", "fast"],
    "--optimizer": ["sgd", "", "Adam"],
    "--start": ["nothing.png", "broken.png", "empty.png", "text.txt", "."],
    "--seed": ["-1", "x", "1.5", "99999999999999999999999"],
    "--encoder": ["nothing", "vgg", "broken.safetensors", "style.jpg", "folder", "foreign.safetensors"],
    "--pooling": ["sum", ""],
    "--device": ["toaster", "", "cuda:99", "meta", "cpu:x"],
    "--precision": ["float64", ""],
    "--bits": ["12", "x", "-8"],
    "--jpeg-quality": ["0", "101", "x"],
    "--max-megapixels": ["0", "-1", "nan", "inf", "0.001", "x"],
    "--snapshot-every": ["0", "-3", "x"],
    "--run": ["photo.png", "photo.png/run"],
    "--out": ["x", "x.gif", "missing/x.png", "missing/", "photo.png/x.png", "x.safetensors"],
    "--frob": ["1"],
    "--iteration": ["3"],
}
BAD_PICTURES = [
    *("nothing.png", "empty.png", "broken.png", "text.txt", "folder", "cut.jpg", "drawing.svg", "x" * 300, "a\0b", ""),
    *("http://localhost/a.png", "dot.png", "line.png", "broken.safetensors", "zeros.png"),
]
BAD_STYLES = [
    *("nothing", "empty.png", "broken.png", "text.txt", "folder", "cut.jpg", "broken.safetensors", "x" * 300, "a\0b"),
    *("empty.safetensors", "foreign.safetensors", "line.png", "", "*.jpg"),
]
VERBS = [
    *(["frob"], ["stylize"], ["stylize", "photo.png"], ["--frob"], ["models", "frob"], ["models", "show", "nothing"]),
    *(
        ["models", "fetch"],
        ["models", "fetch", "nothing"],
        ["models", "where", "nothing"],
        ["models", "show", "photo.png"],
    ),
    *(["models", "show", "compact", "--size", "8", "8"], ["models", "show", "--size", "-3", "0"], ["info"], ["rerun"]),
    *(["info", "nothing"], ["info", "photo.png"], ["info", "folder"], ["info", "text.txt"], ["info", "empty.png"]),
    *(["rerun", "photo.png"], ["rerun", "nothing"], ["rerun", "folder"], ["rerun", "broken.png"], ["info", "a", "b"]),
    *(["train"], ["train", "encoder"], ["train", "style-files", "nothing.png"], ["train", "style-files", "broken.png"]),
    ["train", "style-files", "style.jpg", "--attribution", "text.txt"],
    ["train", "style-files", "style.jpg", "--attribution", "nothing.csv"],
    ["train", "style-files", "style.jpg", "--encoder", "nothing"],
    ["train", "style-files", "style.jpg", "--encoder", "network"],
    ["train", "style-files", "udnie"],
    ["train", "style-files", "style.jpg", "folder/../style.jpg"],
    *(["models", "show", name] for name in ("", ".", "folder")),
    ["train", "encoder", "--teacher", "vgg19", "--photos", ".", "--paintings", ".", "--out", "e.safetensors"],
    ["train", "network", "--photos", ".", "--paintings", ".", "--out", "n.safetensors", "--from", "compact"],
    *(["learn", "style.jpg", "--model", name] for name in ("", "compact", "vgg19", "nothing.safetensors")),
    *(["stylize", "photo.png", "style.jpg", "--model", name] for name in ("", ".", "compact", "vgg16")),
    ["stylize", "photo.png", "style.jpg", "--encoder", "network"],
    ["texture", "style.jpg", "--encoder", "network"],
    ["train", "style-files", "style.jpg", "--folder", "photo.png/x"],
    ["train", "encoder", "--teacher", "nothing", "--photos", ".", "--paintings", ".", "--out", "e.safetensors"],
    ["train", "encoder", "--teacher", "text.txt", "--photos", ".", "--paintings", ".", "--out", "e.safetensors"],
    ["train", "encoder", "--teacher", "foreign.safetensors", "--photos", ".", "--paintings", ".", "--out", "e"],
    ["train", "network"],
    ["train", "network", "--photos", ".", "--out", "n.safetensors"],
    ["train", "network", "--photos", ".", "--styles", "nothing", "--out", "n.safetensors"],
    ["train", "network", "--photos", "empty", "--styles", "udnie", "--out", "n.safetensors"],
    ["train", "network", "--photos", "nothing", "--paintings", ".", "--out", "n.safetensors"],
    ["train", "network", "--photos", ".", "--paintings", "text.txt", "--out", "n.safetensors"],
    ["train", "network", "--photos", ".", "--paintings", ".", "--out", "photo.png/n.safetensors"],
    ["train", "network", "--photos", ".", "--paintings", ".", "--out", "n.safetensors", "--from", "nothing"],
    ["train", "network", "--photos", ".", "--paintings", ".", "--out", "n.safetensors", "--from", "broken.safetensors"],
    ["train", "network", "--photos", ".", "--paintings", ".", "--out", "n.safetensors", "--steps", "0"],
    ["train", "network", "--photos", ".", "--paintings", ".", "--out", "n.safetensors", "--resume"],
    ["train", "feedforward"],
    ["stylize", "photo.png", "style.jpg", "-o", "out.png", "--method", "arbitrary"],
    ["stylize", "photo.png", "style.jpg", "-o", "out.png", "--model", "nothing.safetensors"],
    ["stylize", "photo.png", "style.jpg", "-o", "out.png", "--model", "broken.safetensors"],
    ["stylize", "photo.png", "style.jpg", "-o", "out.png", "--model", "foreign.safetensors"],
    ["stylize", "photo.png", "style.jpg", "-o", "out.png", "--model", "folder"],
    ["stylize", "photo.png", "style.jpg", "-o", "out.png", "--model", "network", "--iterations", "4"],
    ["stylize", "photo.png", "style.jpg", "-o", "out.png", "--model", "network", "--method", "optimize"],
    *(["train", "pack"], ["train", "pack", "--out", "o.zip"], ["train", "pack", "nothing", "--out", "o.zip"]),
    ["train", "pack", "text.txt", "--out", "o.zip"],
    ["train", "pack", "folder", "--out", "o.zip"],
    ["train", "pack", ".", "--out", "missing/o.zip"],
    ["train", "pack", ".", "--out", "o.zip", "--short-side", "0"],
    ["styles", "more"],
    *(["stylize", "--resume"], ["stylize", "--resume", "nothing"], ["stylize", "--resume", "photo.png"]),
    *(["stylize", "--resume", "folder"], ["stylize", "photo.png", "style.jpg", "--resume", "folder"]),
    ["--", "stylize"],
    ["stylize", "-", "style.jpg", "-o", "out.png"],
    ["stylize", "photo.png", "-", "-o", "out.png"],
]


@pytest.fixture
def bad_files(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with many kinds of files that are not pictures."""
    photo = Path("photo.png").read_bytes()
    Path("folder").mkdir()
    Path("empty.png").touch()
    Path("empty.safetensors").touch()
    Path("broken.png").write_bytes(photo[:1000] + bytes(500) + photo[1500:3000])
    Path("cut.jpg").write_bytes(Path("style.jpg").read_bytes()[:900])
    Path("zeros.png").write_bytes(bytes(1000))
    Path("text.txt").write_text("this is no picture\n")
    Path("drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    Path("broken.safetensors").write_bytes(b"\xff" * 100)
    (header := b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}')
    Path("foreign.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    Image.new("RGB", (1, 1)).save("dot.png")
    Image.new("RGB", (9000, 1)).save("line.png")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    return here


def bad_command_lines() -> Iterator[list[str]]:
    """Return at least 200 command lines, each with one or more faults, the same in every run."""
    sound = ["stylize", "photo.png", "style.jpg", "-o", "out.png", *BRIEF]
    yield from VERBS
    for option, values in BAD_VALUES.items():
        if option != "--style-weights":  # which may be empty
            yield [*sound, option]
        for value in values:
            yield [*sound, option, *(value.split(" ") if value else [""])]
    yield from (["stylize", p, "style.jpg", "-o", "out.png", "--iterations", "2"] for p in BAD_PICTURES)
    yield from (["stylize", "photo.png", s, "-o", "out.png", *BRIEF] for s in BAD_STYLES)
    rng = random.Random(0)
    for _ in range(60):
        style = rng.choice([*BAD_STYLES, "style.jpg"])
        line = ["stylize", rng.choice([*BAD_PICTURES, "photo.png"]), style, rng.choice([*BAD_STYLES, "other.png"])]
        for option in rng.sample(sorted(BAD_VALUES), 2):
            line += [option, *rng.choice(BAD_VALUES[option]).split(" ")]
        yield line


def test_bad_command_lines_give_one_line_and_leave_nothing(
    bad_files: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, wrong = files(bad_files), []
    lines = list(bad_command_lines())
    for line in lines:
        try:
            code, out, err = run(*line)
        except BaseException as error:
            wrong.append(f"{line}: {error!r}")
            continue
        after = files(bad_files)
        if code not in (1, 2) or not one_line(err) or out or after != before:
            wrong.append(f"{line}: {code} {out!r} {err!r}; new files {sorted(after.keys() - before.keys())}")
            before = after
    assert not wrong, "\n".join(wrong)
    assert len(lines) >= 200


def test_an_error_of_the_program_itself_is_not_hidden(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(PerceptualLoss, "__call__", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run("stylize", "photo.png", "style.jpg", "-o", "out.png", *BRIEF)
    assert issubclass(DivergedError, impasto.ImpastoError)
