"""Tests of `impasto evaluate` from end to end."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from impasto.cli import main
from impasto.errors import OptionError
from impasto.evaluate.figures import Evaluator
from impasto.evaluate.job import prepare_folder

Run = Callable[..., tuple[int, str, str]]
QUICK = ["--size", "64", "--resamples", "50", "--device", "cpu"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo_file: Callable[[str], Path]) -> Path:
    """Make photos/cup and cat, styles/rocket, results/cup-rocket (between the two) and results/cat-rocket (noise)."""
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "styles", "results"):
        Path(folder).mkdir()
    small = {}
    for name, source in (("cup", "coffee"), ("cat", "chelsea"), ("rocket", "rocket")):
        with Image.open(photo_file(source)) as image:
            small[name] = image.convert("RGB").resize((80, 56))
    small["cup"].save("photos/cup.png")
    small["cat"].save("photos/cat.jpg", quality=95)
    small["rocket"].save("styles/rocket.png")
    Image.blend(small["cup"], small["rocket"], 0.7).save("results/cup-rocket.png")
    Image.effect_noise((80, 56), 80).convert("RGB").save("results/cat-rocket.png")
    return tmp_path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Return `run(...)`, which returns exit code, standard output and standard error of `impasto evaluate`."""

    def call(*args: Any) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(["evaluate", *map(str, args), *QUICK])
        sys.stdout.flush()
        out, err = capfd.readouterr()
        return code, out, err

    return call


FOLDERS = ["--content", "photos", "--style", "styles", "--result", "results"]


def rows(path: str = "evaluation/figures.csv") -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_folders(here: Path, run: Run) -> None:
    code, out, err = run(*FOLDERS)
    assert (code, err.count("\n")) == (0, 1), err
    table = [line.split("\t") for line in out.splitlines()]
    assert table[0][:5] == ["figure", "compared with", "better", "result", "interval"]
    assert [line[0] for line in table[1:]][:2] == ["gram", "cov"]
    found = {row["result"]: row for row in rows() if row["of"] == "result"}
    good, bad = found["results/cup-rocket.png"], found["results/cat-rocket.png"]
    assert float(good["gram"]) < float(bad["gram"])
    assert float(bad["noise"]) > 50 > float(good["noise"])
    mean = float(next(line for line in table if line[0] == "gram")[3])
    assert mean == pytest.approx((float(good["gram"]) + float(bad["gram"])) / 2, abs=6e-4)
    page = Path("evaluation/index.html").read_text(encoding="utf-8")
    assert page.index("<h3>cat-rocket.png") < page.index("<h3>cup-rocket.png")
    # The two photographs, the style of both and the two results: a thumbnail each.
    assert len(list(Path("evaluation/thumbnails").iterdir())) == 5


def test_a_list_gives_the_same(here: Path, run: Run) -> None:
    Path("list.csv").write_text("photos/cup.png,styles/rocket.png,results/cup-rocket.png\n")
    assert run("list.csv")[0] == 0
    from_list = rows()
    assert run(*FOLDERS, "-o", "other", "--sort", "ssim")[0] == 0
    same = [row for row in rows("other/figures.csv") if row["result"] == "results/cup-rocket.png"]
    assert [list(row.values())[3:] for row in from_list] == [list(row.values())[3:] for row in same]


def test_bad_pictures_do_not_stop_it(here: Path, run: Run) -> None:
    Path("results/cat-rocket.png").write_bytes(b"no picture")
    Path("results/cow-rocket.png").write_bytes(Path("results/cup-rocket.png").read_bytes())
    code, out, err = run(*FOLDERS)
    lines = err.splitlines()
    assert code == 3
    assert lines[0] == "impasto: results/cow-rocket.png: no photograph and style go with this name"
    assert lines[1].startswith("impasto: results/cat-rocket.png is not a picture of a known format")
    assert lines[-1] == "impasto: 2 of 3 paintings could not be evaluated; evaluation/figures.csv says why"
    assert len(lines) == 4
    assert out.startswith("figure\t")
    assert [row["result"] for row in rows() if row["error"]] == ["results/cow-rocket.png", "results/cat-rocket.png"]
    assert "no picture" not in Path("evaluation/index.html").read_text(encoding="utf-8")


def test_a_missing_style_is_reported_once(here: Path, run: Run) -> None:
    lines = [f"photos/{p}\tgone.png\tresults/{r}\n" for p, r in (("cup.png", "a.png"), ("cat.jpg", "b.png"))]
    Path("list.tsv").write_text("".join(lines))
    code, out, err = run("list.tsv")
    assert (code, out) == (3, "")
    assert err.count("gone.png") == 1
    assert err.splitlines()[-1].startswith("impasto: 2 of 2 paintings could not be evaluated")
    assert not Path("evaluation/summary.csv").exists()


def test_paint(here: Path, run: Run) -> None:
    code, _, err = run("--content", "photos", "--style", "styles", "--paint", "instant")
    assert code == 0, err
    done = {row["result"]: row for row in rows() if row["of"] == "result"}
    assert set(done) == {f"evaluation/paintings/{name}-rocket.png" for name in ("cat", "cup")}
    with Image.open("evaluation/paintings/cup-rocket.png") as painting:
        assert painting.size == (64, 45)
    photo = {row["result"]: row for row in rows() if row["of"] == "photograph"}
    for name, row in done.items():
        assert float(row["gram"]) < 0.8 * float(photo[name]["gram"])


def test_a_bad_photograph_is_not_painted(here: Path, run: Run) -> None:
    Path("photos/cup.png").write_bytes(b"")
    code, _, err = run("--content", "photos", "--style", "styles", "--paint", "instant")
    assert code == 3
    assert "photos/cup.png is empty" in err
    assert [p.name for p in Path("evaluation/paintings").iterdir()] == ["cat-rocket.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a list of pictures"),
        (["--content", "nowhere", "--style", "styles", "--result", "results"], "--content nowhere does not exist"),
        (["--content", "photos", "--style", "styles", "--paint", "quick"], "--paint quick is neither a quality"),
        ([*FOLDERS, "--sort", "lpips"], "--sort lpips needs LPIPS"),
        ([*FOLDERS, "--sort", "beauty"], "beauty"),
        ([*FOLDERS, "--confidence", "1"], "--confidence is 1"),
        ([*FOLDERS, "-o", "photos"], "--out photos is not empty and holds no evaluation"),
        ([*FOLDERS, "-o", "photos/cup.png"], "--out photos/cup.png cannot be written"),
    ],
)
def test_usage(here: Path, run: Run, arguments: list[str], message: str) -> None:
    before = sorted(p for p in here.rglob("*"))
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert message in err
    assert sorted(p for p in here.rglob("*")) == before


def test_an_earlier_evaluation_is_replaced(here: Path, run: Run) -> None:
    assert run(*FOLDERS)[0] == 0
    before = {p: p.read_bytes() for p in Path("evaluation").rglob("*") if p.is_file()}
    Path("evaluation/thumbnails/00099.jpg").touch()
    assert run(*FOLDERS)[0] == 0
    assert {p: p.read_bytes() for p in Path("evaluation").rglob("*") if p.is_file()} == before


def test_folders_that_are_taken(tmp_path: Path) -> None:
    """What a killed evaluation left is replaced; a folder with other files is refused."""
    (tmp_path / "thumbnails").mkdir()
    (tmp_path / "thumbnails" / "00001.jpg").touch()
    prepare_folder(tmp_path)
    assert [p.name for p in tmp_path.rglob("*")] == ["thumbnails"]
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OptionError, match="is not empty and holds no evaluation"):
        prepare_folder(tmp_path)
    (tmp_path / "figures.csv").touch()
    prepare_folder(tmp_path)
    assert (tmp_path / "notes.txt").exists()


def test_stopped(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C keeps what is done."""
    evaluate, calls = Evaluator.evaluate, []

    def interrupted(self: Evaluator, triple: Any) -> Any:
        calls.append(triple)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(self, triple)

    monkeypatch.setattr(Evaluator, "evaluate", interrupted)
    assert run(*FOLDERS)[0] == 130
    assert len([row for row in rows() if row["of"] == "result"]) == 1
