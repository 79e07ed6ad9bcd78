"""Tests of the bundled network, exported from the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import impasto
from impasto.cli import main
from impasto.export.check import distance
from impasto.export.job import export
from impasto.export.runtimes import load
from impasto.options import ExportOptions

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.mark.slow
@pytest.mark.usefixtures("_few_sizes")
def test_exported_style_paints_as_stylize_does(
    photo: Callable[[str, int], Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file with a baked-in style agrees within a level with `stylize` at the size of its strokes."""
    path = tmp_path / "night.onnx"
    assert main(["export", "starry-night", "-o", str(path), "--pictures", "float", "--size", "320"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{path}\n"
    assert "twelve sizes" in said.err
    content = photo("astronaut", 320)
    run = load(path, "onnx")
    for strength in (1.0, 0.5):
        stylizer = impasto.load_stylizer(
            "starry-night", quality="instant", size=320, precision="float32", device="cpu", strength=strength
        )
        painted = run({"image": content.numpy(), "strength": torch.tensor([strength]).numpy()})
        assert distance(painted, stylizer(content)).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "largest_mean"),
    [
        ({"format": "onnx"}, 0.1),
        ({"format": "openvino"}, 0.1),
        ({"format": "torch"}, 0.1),
        ({"format": "onnx", "pictures": "float"}, 0.1),
        ({"format": "onnx", "precision": "float16"}, 0.2),
        ({"format": "openvino", "precision": "float16"}, 0.2),
        ({"format": "torch", "precision": "float16"}, 0.2),
        ({"format": "onnx", "precision": "int8"}, 5),
        ({"format": "openvino", "precision": "int8"}, 5),
    ],
    ids=lambda v: "-".join(v.values()) if isinstance(v, dict) else "",
)
def test_every_format(choice: dict[str, str], largest_mean: float, tmp_path: Path) -> None:
    """Compare at all twelve sizes. With pictures of floats, the style is baked in."""
    pytest.importorskip("openvino")
    options = ExportOptions(**choice)  # pyright: ignore[reportArgumentType]
    styles = ["starry-night"] if options.pictures == "float" else []
    assert export(styles, tmp_path, options).difference.mean < largest_mean
