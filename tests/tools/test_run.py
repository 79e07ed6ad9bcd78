"""The record of a run is complete and correct, and the same painting can be made from it."""

import csv
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from impasto.device import Compute
from impasto.errors import DivergedError, OptionError
from impasto.image.read import read_image, read_record
from impasto.image.write import write_image
from impasto.models.weights import find_model
from impasto.options import OptimizeOptions, OutputOptions, StylizeOptions
from impasto.stylizers.choose import choose_stylizer
from impasto.stylizers.descent import Descent
from impasto.stylizers.protocol import Step
from impasto.stylizers.schedule import Scale
from impasto.stylizers.sources import split_region
from impasto.tools import run as run_module
from impasto.tools.driver import EarlyEnd, Outcome, drive
from impasto.tools.job import PaintJob, describe, job_of, places

Run = Callable[..., tuple[int, str, str]]

LOW = Compute(torch.device("cpu"), torch.bfloat16)

BRIEF = ["--precision", "float32", "--size", "48", "--coarsest", "48", "--iterations", "3", "--style-loss", "gram"]


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the figures, which take longer than everything else here."""
    for name in ("plot_losses", "plot_pictures"):
        monkeypatch.setattr(run_module, name, lambda *_: None)


def rows(folder: str) -> list[dict[str, float]]:
    with open(Path(folder) / "losses.csv", newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def record_in(path: str) -> dict[str, Any]:
    record = read_record(path)
    assert record is not None
    return record


# -- what is in it ----------------------------------------------------------------------------------------------------


def test_a_job_comes_back_out_of_its_record(here: Path) -> None:
    shutil.copy("mask.png", "a=b.png")
    job = PaintJob(
        "photo.png",
        ("style.jpg", "other.png"),
        StylizeOptions(precision="bfloat16", start="other.png", iterations=(3, 4), style_scale=(1.0, 0.5), time=None),
        OutputOptions(bits=16, jpeg_quality=50, keep_gps=True, max_megapixels=3.0),
        (("a=b.png", "style.jpg"), ("mask.png", "other.png")),
        "mask.png",
    )
    described = json.loads(json.dumps(describe(job, LOW)))
    assert str(here) not in json.dumps(described)
    found = job_of(described, here / "painting.png")
    assert {Path(p).name for p in (found.content, *found.styles)} == {"photo.png", "style.jpg", "other.png"}
    assert describe(found, LOW) == describe(job, LOW)
    assert found == job
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    found = job_of({**described, "paths": places(job)}, elsewhere)
    assert found.mask == str(here / "mask.png")
    assert found.regions[0] == (str(here / "a=b.png"), str(here / "style.jpg"))
    assert found.options.start == str(here / "other.png")


@pytest.mark.parametrize(
    "options", [[], ["--quality", "draft"], ["--start", "network"], ["--preset", "gatys", "--quality", "good"]]
)
@pytest.mark.parametrize("painted", ["float32", "bfloat16"])
def test_the_precision_painted_in_is_recorded_and_used_again(
    here: Path, run: Run, monkeypatch: pytest.MonkeyPatch, options: list[str], painted: str
) -> None:
    """This holds whatever `auto` resolves to when it is painted again, on another processor or with other timings."""

    def auto(precision: str) -> None:
        monkeypatch.setattr("impasto.device.has_bfloat16", lambda: precision == "bfloat16")
        monkeypatch.setattr("impasto.stylizers.choose.fastest", lambda net, compute: compute)

    auto(painted)
    brief = ["--size", "48", *([] if "draft" in options else ["--iterations", "3"])]
    assert run("stylize", "photo.png", "style.jpg", *brief, *options, "-o", "a.png", "--run", "run")[0] == 0
    wanted = "float32" if "gatys" in options else painted
    record = record_in("a.png")
    assert (record["options"]["precision"], record["options"]["device"]) == (wanted, "auto")
    whole = json.loads(Path("run/record.json").read_text())
    assert whole["options"]["precision"] == wanted
    assert whole["machine"]["compute"].endswith(f", {wanted}")
    auto("float32" if painted == "bfloat16" else "bfloat16")
    for source in ("a.png", "run"):
        code, _, err = run("rerun", source, "-o", "again.png")
        assert (code, "bfloat16 is slow here" in err) == (0, wanted == "bfloat16")
        assert Path("again.png").read_bytes() == Path("a.png").read_bytes()


def test_what_the_record_has_of_the_losses_is_the_picture_s_own(
    here: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the rate is too high, the best iterate is long past when the painting is stopped."""
    monkeypatch.setattr("impasto.tools.driver.step_bar", lambda _: nullcontext(stopped_after(6)))
    common = ["--precision", "float32", "--size", "48", "--coarsest", "48", "--iterations", "12"]
    common += ["--optimizer", "adam", "--parameters", "pixels", "--rate", "1", "--start", "content"]
    assert run("stylize", "photo.png", "style.jpg", "-o", "a.png", "--run", "run", *common)[0] == 130
    losses = record_in("a.png")["losses"]
    best = min(rows("run"), key=lambda r: r["total"])
    assert best["iteration"] < 4
    assert set(losses) == {"total", "content", "style", "rim", "tv"}
    assert losses == {k: round(best[k], 6) for k in losses}


ADAM = {"optimizer": "adam"}
OPTIMISERS: list[dict[str, Any]] = [{}, ADAM, {**ADAM, "average": 0.8}, {**ADAM, "parameters": "pixels"}]


@pytest.mark.parametrize("options", OPTIMISERS)
def test_measured_are_the_losses_of_what_is_painted(photo: Callable[[str, int], torch.Tensor], options: Any) -> None:
    target = photo("coffee", 48)

    def loss(x: torch.Tensor) -> dict[str, torch.Tensor]:
        square = (x - target).square().mean()
        return {"total": square, "square": square}

    descent = Descent(loss, 1 - target, Scale((32, 48), 30, 0.5), OptimizeOptions(**options))
    least, losses = 1.0, {}
    for _ in range(30):
        losses = descent.step()
        assert descent.measured() == pytest.approx({k: float(v) for k, v in loss(descent.painted).items()}, rel=1e-5)
        least = min(least, losses["total"])
    if "average" in options:
        assert descent.measured() != losses
    else:
        assert descent.measured()["total"] == least


def test_measured_of_the_preset_gatys(here: Path) -> None:
    """The losses of an iteration are those of the picture that it began with, so of the previous step."""
    given = OptimizeOptions(preset="gatys", size=48, iterations=3)
    stylizer = choose_stylizer([read_image("style.jpg").tensor], given)
    steps = list(stylizer.steps(read_image("photo.png").tensor))
    for before, after in pairwise(steps):
        assert before.measured is not None
        assert before.measured() == pytest.approx(after.losses, rel=1e-3)
        assert before.measured()["total"] != before.losses["total"]


def test_the_output_options_are_in_it_and_a_rerun_heeds_them(here: Path, run: Run) -> None:
    assert run("stylize", "photo.png", "style.jpg", "-o", "a.jpg", "--jpeg-quality", "30", *BRIEF)[0] == 0
    assert record_in("a.jpg")["output"] == {
        "bits": None,
        "jpeg_quality": 30,
        "keep_gps": False,
        "max_megapixels": None,
        "compression": "deflate",
        "pyramid": False,
    }
    assert run("rerun", "a.jpg", "-o", "b.jpg")[0] == 0
    assert Path("b.jpg").read_bytes() == Path("a.jpg").read_bytes()
    assert run("rerun", "a.jpg", "-o", "c.jpg", "--jpeg-quality", "95")[0] == 0  # the default, but asked for
    assert record_in("c.jpg")["output"]["jpeg_quality"] == 95
    assert len(Path("c.jpg").read_bytes()) > 1.1 * len(Path("a.jpg").read_bytes())
    code, _, err = run("rerun", "a.jpg", "--jpeg-quality", "0")
    assert (code, "--jpeg-quality is 0" in err) == (2, True)
    assert run("stylize", "photo.png", "style.jpg", "-o", "d.png", "--bits", "16", *BRIEF)[0] == 0
    assert run("rerun", "d.png")[0] == 0
    assert read_image("d-rerun.png").metadata.bits == 16
    assert run("rerun", "d.png", "--bits", "8")[0] == 0
    assert read_image("d-rerun-2.png").metadata.bits == 8


def test_a_rerun_keeps_the_place_as_the_first_run_did(here: Path, run: Run) -> None:
    with Image.open("photo.png") as image:
        tags = image.getexif()
        tags.get_ifd(0x8825)[1] = "N"
        tags.get_ifd(0x8825)[2] = (48.0, 12.0, 0.0)
        image.save("placed.jpg", exif=tags, quality=95)

    def place(path: str) -> dict[int, Any]:
        with Image.open(path) as image:
            return dict(image.getexif().get_ifd(0x8825))

    assert place("placed.jpg")
    assert run("stylize", "placed.jpg", "style.jpg", "-o", "kept.jpg", "--keep-gps", *BRIEF)[0] == 0
    assert run("rerun", "kept.jpg", "-o", "again.jpg")[0] == 0
    assert place("kept.jpg") == place("again.jpg") == place("placed.jpg")
    assert run("rerun", "kept.jpg", "-o", "without.jpg", "--keep-gps", "False")[0] == 0
    assert not place("without.jpg")


def test_masks_and_names_with_an_equals_sign_are_found_again(
    here: Path, run: Run, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy("mask.png", "a=b.png")
    shutil.copy("other.png", "c=d.png")
    command = ["stylize", "photo.png", "style.jpg", "-o", "first.png", "--run", "run", *BRIEF]
    assert run(*command, "--region", "a=b.png=c=d.png", "--mask", "a=b.png", "--mask-feather", "2")[0] == 0
    record = record_in("first.png")
    assert [[e["name"] for e in pair] for pair in record["regions"]] == [["a=b.png", "c=d.png"]]
    assert record["mask"]["name"] == "a=b.png"
    assert len(record["mask"]["sha256"]) == 64
    assert run("rerun", "first.png", "-o", "again.png")[0] == 0
    assert Path("again.png").read_bytes() == Path("first.png").read_bytes()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert run("rerun", here / "run", "-o", "again.png")[0] == 0
    assert Path("again.png").read_bytes() == (here / "first.png").read_bytes()
    monkeypatch.chdir(here)
    Path("a=b.png").unlink()
    code, _, err = run("rerun", "first.png")
    assert (code, "a=b.png is not found here" in err) == (1, True)


def test_where_mask_and_style_are_divided(here: Path) -> None:
    for name in ("a=b.png", "a"):
        shutil.copy("mask.png", name)
    assert split_region("mask.png=c=d.png") == ("mask.png", "c=d.png")
    assert split_region("a=b.png") == ("a", "b.png")
    Path("a").unlink()
    assert split_region("a=b.png=style") == ("a=b.png", "style")
    assert split_region("nothing=b=c") == ("nothing", "b=c")
    with pytest.raises(OptionError, match="MASK=STYLE"):
        split_region("=a")


def test_an_encoder_of_one_s_own_is_found_again(
    here: Path, run: Run, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(find_model("compact").path, "mine.safetensors")
    command = ["stylize", "photo.png", "style.jpg", "-o", "a.png", "--run", "run", *BRIEF]
    assert run(*command, "--encoder", here / "mine.safetensors")[0] == 0
    record = record_in("a.png")
    assert record["options"]["encoder"] == record["encoder"]["name"] == "mine.safetensors"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert run("rerun", here / "run", "-o", "again.png")[0] == 0
    assert np.array_equal(read_image("again.png").tensor, read_image(here / "a.png").tensor)


# -- what ends early, and by the clock --------------------------------------------------------------------------------


def test_of_an_interrupted_painting_a_rerun_paints_all(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["stylize", "photo.png", "style.jpg", *BRIEF[:-4], "--iterations", "12"]
    with monkeypatch.context() as patch:
        patch.setattr("impasto.tools.driver.step_bar", lambda _: nullcontext(stopped_after(5)))
        code, _, err = run(*command, "-o", "stopped.png", "--run", "run")
    assert code == 130
    assert "stopped at iteration 5 of 12" in err
    for source in ("stopped.png", "run"):
        record = json.loads(run("info", source)[1])
        assert (record["interrupted"], record["iterations"], record["total"]) == (True, 5, 12)
        code, _, err = run("rerun", source, "-o", "again.png")
        assert code == 0
        assert err.startswith("impasto: the painting was stopped at iteration 5 of 12; painting the whole schedule\n")
        assert "interrupted" not in record_in("again.png")
        assert record_in("again.png")["iterations"] == 12
    assert run(*command, "-o", "whole.png")[0] == 0
    assert Path("again.png").read_bytes() == Path("whole.png").read_bytes()


def stopped_after(count: int) -> Callable[[Step], None]:
    def observe(step: Step) -> None:
        if step.iteration == count:
            raise KeyboardInterrupt

    return observe


def test_a_signal_in_the_last_step_leaves_a_finished_painting(
    here: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signalled(step: Step) -> None:
        if step.iteration == step.total:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("impasto.tools.driver.step_bar", lambda _: nullcontext(signalled))
    code, _, err = run("stylize", "photo.png", "style.jpg", "-o", "a.png", "--run", "run", *BRIEF)
    assert code == 130
    assert "3 iterations in" in err
    assert "interrupted" not in record_in("a.png")
    assert not Path("run/checkpoint.pt").exists()


def test_a_signal_while_the_painting_is_written_waits(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def signalled(*arguments: Any, **options: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        write_image(*arguments, **options)

    monkeypatch.setattr("impasto.tools.paint.write_image", signalled)
    assert run("stylize", "photo.png", "style.jpg", "-o", "a.png", *BRIEF)[0] == 143
    assert record_in("a.png")["iterations"] == 3


def test_whatever_ends_the_steps_the_last_one_is_kept() -> None:
    def steps(error: BaseException) -> Iterator[Step]:
        yield STEP
        raise error

    for error in (KeyboardInterrupt(), DivergedError("x"), MemoryError(), RuntimeError("a bug")):
        assert drive(steps(error), []) == Outcome(STEP, error, whole=False)
        with pytest.raises(type(error)):
            drive(iter(once(error)), [])
    assert drive(iter([STEP]), []) == Outcome(STEP, None, whole=True)


def test_an_observer_ends_a_painting_whose_state_is_whole() -> None:
    seen: list[Step] = []

    def observe(step: Step) -> None:
        seen.append(step)
        raise EarlyEnd("enough")

    outcome = drive(iter([STEP, STEP]), [observe])
    assert seen == [STEP]
    assert (outcome.last, str(outcome.ended), outcome.whole) == (STEP, "enough", True)


def once(error: BaseException) -> Iterator[Step]:
    raise error
    yield


STEP = Step((2, 2), 1, 1, 1, 2, {"total": 1.0}, torch.zeros(1, 3, 2, 2))


def test_a_painting_by_the_clock_is_made_again_by_its_iterations(here: Path, run: Run) -> None:
    command = ["stylize", "photo.png", "style.jpg", "--precision", "float32", "--size", "64", "--coarsest", "48"]
    assert run(*command, "--time", "1s", "-o", "first.png", "--run", "run")[0] == 0
    record = record_in("first.png")
    counts = record["options"]["iterations"]
    assert record["options"]["time"] is None
    assert len(counts) == 2
    assert sum(counts) == record["iterations"] == len(rows("run"))
    assert [sum(r["scale"] == s for r in rows("run")) for s in (48, 64)] == counts
    assert run("rerun", "first.png", "-o", "again.png")[0] == 0
    assert Path("again.png").read_bytes() == Path("first.png").read_bytes()


def test_a_plateau_ends_a_scale_and_the_last_snapshot_is_the_painting(here: Path, run: Run) -> None:
    options = [
        "--size",
        "48",
        "--coarsest",
        "48",
        "--iterations",
        "100",
        "--plateau",
        "0.9",
        "--snapshot-every",
        "1000",
    ]
    command = ["stylize", "photo.png", "style.jpg", "--precision", "float32", "--style-loss", "gram", *options]
    assert run(*command, "-o", "a.png", "--run", "run")[0] == 0
    last = len(rows("run"))
    assert last < 60
    assert [p.name for p in Path("run/snapshots").iterdir()] == [f"{last:06d}.png"]
    assert torch.equal(read_image(f"run/snapshots/{last:06d}.png").tensor, read_image("a.png").tensor)
    assert run("rerun", "a.png", "-o", "again.png")[0] == 0
    assert Path("again.png").read_bytes() == Path("a.png").read_bytes()
