"""Before painting, a message says what the file cannot hold; a finished painting is never lost."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from impasto.image.read import read_image, read_record

Run = Callable[..., tuple[int, str, str]]
BRIEF = ["--precision", "float32", "--size", "48", "--coarsest", "48", "--iterations", "2", "--style-loss", "gram"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_a_full_disk(here: Path, run: Run) -> None:
    """The painting is in the working folder, complete and with its record, and the error says where."""
    assert run("stylize", "photo.png", "style.jpg", "-o", "sound.png", *BRIEF)[0] == 0
    (here / "out.png").symlink_to("/dev/full")
    code, _, err = run("stylize", "photo.png", "style.jpg", "-o", "out.png", *BRIEF)
    assert code == 1
    error = err.splitlines()[-1]
    assert error.startswith("impasto: out.png cannot be written (No space left on device)")
    kept = Path(error.partition("the picture is kept in ")[2])
    assert kept.parent == here
    assert torch.equal(read_image(kept).tensor, read_image("sound.png").tensor)
    assert read_record(kept) == read_record("sound.png")
    code, _, err = run("texture", "style.jpg", "-o", "out.png", "--size", "48x48", "--iterations", "2")
    assert code == 1
    assert read_image(err.splitlines()[-1].partition("the picture is kept in ")[2]).size == (48, 48)


def test_what_the_format_cannot_hold_is_said_before_painting(here: Path, run: Run) -> None:
    """The error comes before the photograph is decoded, so a fault in the rest of it is not reached."""
    Image.new("RGB", (9000, 40)).save("long.png")
    data = Path("long.png").read_bytes()
    Path("long.png").write_bytes(data[: len(data) // 2])
    code, _, err = run("stylize", "long.png", "style.jpg", "-o", "out.webp", "--scale", "2")
    assert code == 1
    assert "out.webp: WEBP holds no side longer than 16383 pixels, and this picture is 18000x80" in err
    code, _, err = run("texture", "style.jpg", "-o", "out.webp", "--size", "16384x64")
    assert code == 1
    assert "out.webp: WEBP holds no side longer than 16383 pixels" in err
    assert not Path("out.webp").exists()


def test_what_does_not_fit_into_memory_is_said_before_decoding(
    here: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("impasto.stylizers.memory.available_memory", lambda device: 600_000_000)
    Image.new("RGB", (4000, 3000)).save("large.jpg")
    data = Path("large.jpg").read_bytes()
    Path("large.jpg").write_bytes(data[: len(data) // 2])
    for quality in ("good", "instant"):
        options = ["--quality", quality, "--size", "4000", "--strict-size"]
        code, _, err = run("stylize", "large.jpg", "style.jpg", "-o", "out.png", *options)
        assert code == 1
        assert "a 4000x3000 painting needs about" in err


@pytest.mark.parametrize("options", [["--size", "64"], ["--scale", "0.04"]])
def test_a_large_photograph_is_painted_in_the_size_asked_for(here: Path, run: Run, options: list[str]) -> None:
    """The photograph is reduced while it is read, which neither the record nor the painting shows."""
    with Image.open("photo.png") as image:
        image.resize((1600, 1064), Image.Resampling.BICUBIC).save("large.jpg", quality=95, dpi=(300, 300))
        image.resize((64, 43), Image.Resampling.BICUBIC).save("small.png")
    brief = ["--precision", "float32", "--quality", "instant"]
    assert run("stylize", "large.jpg", "style.jpg", "-o", "out.png", *brief, *options)[0] == 0
    assert run("stylize", "small.png", "style.jpg", "-o", "small-out.png", *brief)[0] == 0
    found, wanted = read_image("out.png"), read_image("small-out.png")
    assert found.size == (43, 64)
    assert (found.tensor - wanted.tensor).abs().mean() < 0.02
    record = read_record("out.png")
    assert record is not None
    assert record["options"]["scale"] == (0.04 if "--scale" in options else None)
    with Image.open("out.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.02)
    assert run("rerun", "out.png", "-o", "again.png")[0] == 0
    assert torch.equal(read_image("again.png").tensor, found.tensor)


def test_a_painting_smaller_than_the_photograph(here: Path, run: Run) -> None:
    """Unless the size was given, a message says so and names the option that paints all of it."""
    Image.new("RGB", (900, 600), "teal").save("large.png")
    line = "impasto: the painting has 512x341 pixels; --scale 1 paints all 900x600 of the photograph\n"
    for photo, options, said in (
        ("large.png", [], True),
        ("large.png", ["--size", "300"], False),
        ("large.png", ["--scale", "1"], False),
        ("photo.png", [], False),
    ):
        code, _, err = run("stylize", photo, "udnie", "--quality", "instant", *options, "-o", "out.png")
        assert (code, line in err) == (0, said)
