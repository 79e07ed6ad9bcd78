"""Tests of `impasto batch` from end to end."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from impasto.batch.painters import Painter, Painters
from impasto.batch.pictures import Found, Packed
from impasto.batch.plan import Look
from impasto.cli import main
from impasto.image.picture import Picture
from impasto.options import OutputOptions, StylizeOptions

Run = Callable[..., tuple[int, str]]
Report = Callable[..., list[dict[str, Any]]]
Contents = Callable[..., dict[str, bytes]]

NAMES = ["cat-udnie.jpg", "cup-udnie.jpg", "far/cup-udnie.png", "far/mug-udnie.png"]
UDNIE = ["photos", "--style", "udnie", "--out", "out"]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the number of pictures of each pass, in order."""
    paint, found = Painter.paint, list[int]()

    def counted(self: Painter, photos: Sequence[Found]) -> Any:
        found.append(len(photos))
        return paint(self, photos)

    monkeypatch.setattr(Painter, "paint", counted)
    return found


@pytest.mark.parametrize(
    "options",
    [[], ["--strength", "0.6", "--keep-colours", "0.5", "--jpeg-quality", "60"], ["--scale", "0.4"], ["--size", "40"]],
    ids=lambda o: "".join(o[:1]),
)
def test_the_same_files_as_one_by_one(
    here: Path, run: Run, contents: Contents, passes: list[int], options: list[str]
) -> None:
    code, err = run(*UDNIE, *options)
    assert code == 0, err
    assert sorted(passes) == [1, 1, 2]  # cup and cat have the same size
    for photo, name in (
        ("cat.jpg", NAMES[0]),
        ("cup.jpg", NAMES[1]),
        ("far/cup.png", NAMES[2]),
        ("far/mug.png", NAMES[3]),
    ):
        alone = ["stylize", f"photos/{photo}", "udnie", "--quality", "instant", "-o", f"alone{name[-4:]}", *options]
        assert main([*alone, "--device", "cpu"]) == 0
        assert contents()[name] == Path(f"alone{name[-4:]}").read_bytes(), name
    assert sorted(contents()) == NAMES


def test_the_report(here: Path, run: Run, report: Report, contents: Contents) -> None:
    Path("photos/bad.jpg").write_bytes(b"no picture")
    code, err = run(*UDNIE, "great-wave")
    assert code == 2  # great-wave is no name of an option, nor a style here
    assert not Path("out").exists()
    code, err = run("photos", "--out", "out", "--style", "udnie", "great-wave")
    lines = err.splitlines()
    assert code == 3
    assert lines[0] == "impasto: 10 paintings to out"
    assert [line for line in lines if "bad.jpg" in line] == [
        "impasto: photos/bad.jpg is not a picture of a known format; convert it to PNG or JPEG"
    ]
    assert "8 painted in" in lines[-2]
    assert "pictures a second" in lines[-2]
    assert lines[-1] == "impasto: 2 of 10 paintings failed; out/report.jsonl says why, --retry tries them again"
    entries = report()
    assert {e["out"] for e in entries if e["outcome"] == "painted"} == set(contents())
    bad = [e for e in entries if e["outcome"] == "failed"]
    assert [(e["path"], e["style"], e["out"]) for e in bad] == [
        ("photos/bad.jpg", "udnie", "bad-udnie.jpg"),
        ("photos/bad.jpg", "great-wave", "bad-great-wave.jpg"),
    ]
    assert all("known format" in e["reason"] for e in bad)
    assert all(e["seconds"] > 0 and not e["reason"] for e in entries if e["outcome"] == "painted")


def test_what_is_done_is_skipped_and_what_failed_is_tried_again_on_request(
    here: Path, run: Run, report: Report, passes: list[int]
) -> None:
    good = Path("photos/cat.jpg").read_bytes()
    Path("photos/cat.jpg").write_bytes(good[:500])
    assert run(*UDNIE)[0] == 3
    before = {p: p.stat().st_mtime_ns for p in Path("out").rglob("*-udnie.*")}
    Path("photos/cat.jpg").write_bytes(good)
    passes.clear()
    code, err = run(*UDNIE)
    assert code == 3
    assert "3 are there already; 1 failed before, --retry tries them again" in err
    assert (passes, len(report())) == ([], 4)
    code, err = run(*UDNIE, "--retry")
    assert (code, passes) == (0, [1]), err
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert [e["outcome"] for e in report() if e["path"] == "photos/cat.jpg"] == ["failed", "painted"]
    assert run(*UDNIE)[0] == 0
    assert len(report()) == 5


def test_paintings_that_were_there_are_in_the_report(here: Path, run: Run, report: Report) -> None:
    Path("out").mkdir()
    Path("out/cup-udnie.jpg").write_bytes(b"mine")
    for _ in range(2):
        assert run(*UDNIE)[0] == 0
    assert [(e["out"], e["reason"]) for e in report() if e["outcome"] == "skipped"] == [
        ("cup-udnie.jpg", "it was there already")
    ]
    assert len(report()) == 4
    assert Path("out/cup-udnie.jpg").read_bytes() == b"mine"


def test_workers_read_and_write_the_same(here: Path, run: Run, report: Report, contents: Contents) -> None:
    Path("photos/bad.png").write_bytes(b"")
    assert run(*UDNIE)[0] == 3
    code, err = run("photos", "--style", "udnie", "--out", "other", workers=2)
    assert code == 3
    assert "photos/bad.png is empty" in err
    assert contents("other") == contents("out")
    same = [{k: v for k, v in e.items() if k != "seconds"} for e in report("other/report.jsonl")]
    assert sorted(same, key=str) == sorted(({k: v for k, v in e.items() if k != "seconds"} for e in report()), key=str)


def test_tar_in_and_out(here: Path, run: Run, report: Report, contents: Contents) -> None:
    assert run(*UDNIE)[0] == 0
    with tarfile.open("photos.tar", "w") as archive:
        archive.add("photos", ".")
        info = tarfile.TarInfo("./cup.txt")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"a cup"))
        archive.addfile(tarfile.TarInfo("./bad.jpg"))
    assert run("photos.tar", "--style", "udnie", "--out", "painted.tar")[0] == 3
    with tarfile.open("painted.tar") as archive:
        found = {m.name: archive.extractfile(m).read() for m in archive}  # pyright: ignore[reportOptionalMemberAccess]
    assert found.pop("cup-udnie.txt") == b"a cup"
    assert found == contents()
    assert {e["path"] for e in report("painted.jsonl")} == {
        *(f"photos.tar/{n}" for n in ("bad.jpg", "cat.jpg", "cup.jpg", "far/cup.png", "far/mug.png"))
    }
    before = Path("painted.tar").read_bytes()
    assert run("photos.tar", "--style", "udnie", "--out", "painted.tar")[0] == 3
    assert Path("painted.tar").read_bytes() == before
    assert not Path("painted.tar.unfinished").exists()


def test_a_table(here: Path, run: Run, report: Report) -> None:
    lines = ["photo,style,keep_colours,size,out", "photos/cup.jpg,udnie,1,40,", "photos/cup.jpg,gone.png,,,x.png"]
    Path("list.csv").write_text("\n".join([*lines, "gone.jpg,,,,", "photos/cat.jpg,,,,again/{stem}.webp"]) + "\n")
    code, _ = run("list.csv", "--style", "great-wave", "--out", "out")
    assert code == 3
    outcomes = {e["out"]: (e["outcome"], e["reason"]) for e in report()}
    assert {k: v[0] for k, v in outcomes.items()} == {
        "photos/cup-udnie.jpg": "painted",
        "x.png": "failed",
        "gone-great-wave.jpg": "failed",
        "again/cat.webp": "painted",
    }
    assert "neither a file nor a built-in style" in outcomes["x.png"][1]
    assert "gone.jpg does not exist" in outcomes["gone-great-wave.jpg"][1]
    with Image.open("out/photos/cup-udnie.jpg") as painting, Image.open("out/again/cat.webp") as other:
        assert (painting.size, other.size) == ((40, 28), (80, 56))


def test_optimisation_and_errors_while_painting(here: Path, run: Run, report: Report) -> None:
    Image.new("RGB", (4, 400)).save("photos/thin.png")
    code, _ = run("photos/*.*", "--style", "udnie", "--out", "out", "--quality", "good", "--iterations", "2")
    assert code == 3
    assert {e["path"]: e["outcome"] for e in report()} == {
        "photos/cat.jpg": "painted",
        "photos/cup.jpg": "painted",
        "photos/thin.png": "failed",
    }
    (why,) = (e["reason"] for e in report() if e["outcome"] == "failed")
    assert "too small for the encoder" in why


def test_a_pass_that_fails_is_painted_one_by_one(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    paint, calls = Painter.paint, list[int]()

    def fails(self: Painter, photos: Sequence[Found]) -> Any:
        calls.append(len(photos))
        if len(photos) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return paint(self, photos)

    monkeypatch.setattr(Painter, "paint", fails)
    assert run("photos/*.jpg", "--style", "udnie", "--out", "out")[0] == 0
    assert calls == [2, 1, 1]


def test_a_full_disk_fails_the_painting(
    here: Path, run: Run, report: Report, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(data: bytes, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("impasto.batch.pictures.write", full)
    assert run(*UDNIE)[0] == 3
    assert {e["outcome"] for e in report()} == {"failed"}
    assert "No space left" in report()[0]["reason"]
    assert contents() == {}


def test_stopped(here: Path, run: Run, report: Report, contents: Contents, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the batch after the current pass and keeps what is painted; the same command then continues."""
    assert run(*UDNIE)[0] == 0
    paint, calls = Painter.paint, list[int]()

    def interrupted(self: Painter, photos: Sequence[Found]) -> Any:
        calls.append(len(photos))
        if len(calls) == 1:
            os.kill(os.getpid(), 2)
        return paint(self, photos)

    monkeypatch.setattr(Painter, "paint", interrupted)
    code, err = run("photos", "--style", "udnie", "--out", "other")
    assert code == 130
    assert "stopped; run the same command to continue" in err
    done = contents("other")
    assert len(done) == calls[0]
    assert run("photos", "--style", "udnie", "--out", "other")[0] == 0
    assert contents("other") == contents("out")
    assert [e["outcome"] for e in report("other/report.jsonl")] == ["painted"] * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos", "--out", "out"], "no style given"),
        (["--out", "out", "--style", "udnie"], "no photos given"),
        (["photos", "--style", "udny", "--out", "out"], "did you mean udnie?"),
        (["photos", "--style", "udnie", "--out", "out", "--name", "{stem}.png"], "both be called cup.png"),
        (["photos", "--style", "udnie", "--out", "photos/cup.jpg"], "photos/cup.jpg"),
        (["photos", "--style", "udnie", "--out", "out", "--bits", "16"], "JPEG has 8 bits"),
        (["photos", "--style", "udnie", "--out", "out", "--style-weights", "2", "1"], "--style-weights"),
        (["photos", "--style", "udnie", "--out", "out", "--address", "ray://x"], "--address has no effect"),
    ],
)
def test_usage(here: Path, run: Run, arguments: list[str], message: str) -> None:
    before = sorted(here.rglob("*"))
    code, err = run(*arguments)
    assert code in (1, 2)
    assert err.count("\n") == 1, err
    assert message in err
    assert sorted(here.rglob("*")) == before


def test_the_record_makes_the_painting_again(here: Path, run: Run) -> None:
    assert run(*UDNIE, "--strength", "0.5")[0] == 0
    assert main(["rerun", "out/cup-udnie.jpg", "--content", "photos/cup.jpg", "-o", "again.jpg"]) == 0
    assert Path("again.jpg").read_bytes() == Path("out/cup-udnie.jpg").read_bytes()


def test_a_line_of_the_report_is_json(here: Path, run: Run) -> None:
    assert run("photos/cup.jpg", "--style", "udnie", "--out", "out", "--report", "elsewhere/r.jsonl")[0] == 0
    (line,) = Path("elsewhere/r.jsonl").read_text().splitlines()
    assert list(json.loads(line)) == ["path", "style", "out", "outcome", "reason", "seconds"]
    assert not Path("out/report.jsonl").exists()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_pass_of_several_gives_the_same_bits(precision: Any, photo: Callable[[str, int], Any]) -> None:
    """This also holds for sizes at which a processor computes several pictures differently from one."""
    painters = Painters(OutputOptions())
    several: tuple[dict[str, Any], ...] = ({}, {"strength": 0.6}, {"keep_colours": 0.5})
    for changes in several:
        look = Look("udnie", StylizeOptions(quality="instant", device="cpu", precision=precision, **changes))
        for side in (48, 65):
            pictures = [photo(name, side)[..., :32, :] for name in ("coffee", "rocket", "coffee")]
            width = min(p.shape[-1] for p in pictures)
            photos = [
                Found(Packed.of(Picture(p[..., :width].contiguous())), (32, width), {}, False, 0.0) for p in pictures
            ]
            together = painters.of(look).paint(photos)
            for found, alone in zip(together, photos, strict=True):
                assert found[0].tensor.equal(painters.of(look).paint([alone])[0][0].tensor)
