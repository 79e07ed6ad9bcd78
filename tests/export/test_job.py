"""Exported files paint what the package paints and say what they are; otherwise they are not kept."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from torch.export import Dim, ExportedProgram

from impasto.cli import main
from impasto.errors import ImpastoError, OptionError
from impasto.export import extra, formats, job
from impasto.export.check import Difference, distance, inputs_of, paint
from impasto.export.graph import PaintingGraph
from impasto.export.job import Exported, export
from impasto.export.runtimes import Run, load
from impasto.export.styles import Style, write_style
from impasto.models.network import Network, NetworkConfig
from impasto.models.vgg import VGG
from impasto.options import ExportOptions
from impasto.style.target import builtin_names

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.fixture(scope="module")
def _traced_once(
    _few_sizes: None, net: Network, encoder: VGG, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Share one program and one ONNX file among all exports of this module: tracing and translating take seconds."""
    graph = PaintingGraph(net, encoder, None, True, torch.float32, torch.float32)
    program, file = formats.trace(graph), tmp_path_factory.mktemp("onnx") / "once.onnx"
    formats.write_onnx(program, file, {"version": "0"})

    def write_onnx(_: ExportedProgram, path: Path, metadata: dict[str, str]) -> None:
        model = onnx.load(file)
        model.producer_version = metadata["version"]
        onnx.helper.set_model_props(model, metadata)
        onnx.save(model, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "trace", lambda _: program)
        patch.setattr(job, "write_onnx", write_onnx)
        yield


@pytest.fixture(scope="module")
def exported(
    _traced_once: None, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Exported, ExportOptions]]:
    """Return `exported("openvino", "int8")`: a small network's file in that format and precision, made once."""
    made: dict[tuple[str, ...], tuple[Exported, ExportOptions]] = {}

    def make(*choice: Any) -> tuple[Exported, ExportOptions]:
        if choice not in made:
            options = ExportOptions(**dict(zip(("format", "precision"), choice, strict=False)), model=str(model))
            folder = tmp_path_factory.mktemp("-".join(choice))
            files = ["udnie", "the-scream"] if choice == ("onnx",) else []
            made[choice] = export([], folder, options, files), options
        return made[choice]

    return make


@pytest.mark.parametrize(
    "choice", [("onnx",), ("openvino",), pytest.param(("torch",), marks=pytest.mark.slow)], ids="".join
)
def test_file_paints_what_the_package_paints(
    exported: Callable[..., tuple[Exported, ExportOptions]],
    choice: tuple[str, ...],
    net: Network,
    encoder: VGG,
    styles: list[Style],
    levels: Callable[..., Tensor],
) -> None:
    """It does so at any size, even after everything of the program that made the file is deleted."""
    made, options = exported(*choice)
    assert made.difference.largest <= 1
    photo = levels(203, 119)
    painted = load(made.path, options.format)(inputs_of(photo, (1.0,), styles[:1], uint8=True, baked=False))
    assert painted.shape == (1, 203, 119, 3)
    assert distance(painted, paint(net, encoder, styles[0], photo.float() / 255, 1.0)).max() <= 1


@pytest.mark.parametrize("choice", [("onnx", "int8"), ("openvino", "int8"), ("openvino", "float16")], ids="-".join)
def test_lower_precision_is_close(
    exported: Callable[..., tuple[Exported, ExportOptions]], choice: tuple[str, ...]
) -> None:
    made, options = exported(*choice)
    assert 0 < made.difference.mean < (5 if options.precision == "int8" else 0.5)


def test_8_bits_are_in_the_middle_only(exported: Callable[..., tuple[Exported, ExportOptions]]) -> None:
    nodes = onnx.load(exported("onnx", "int8")[0].path).graph.node
    makers = {output: node.op_type for node in nodes for output in node.output}
    sources = [makers.get(node.input[0]) for node in nodes if node.op_type == "Conv"]
    assert sources[0] != "DequantizeLinear" != sources[-1]
    assert set(sources[1:-1]) == {"DequantizeLinear"}
    weights = [node for node in nodes if node.op_type == "DequantizeLinear" and node.attribute]
    assert any(a.name == "axis" for node in weights for a in node.attribute)  # a scale for each channel


def test_onnx_says_what_it_is(
    exported: Callable[..., tuple[Exported, ExportOptions]], net: Network, model: Path
) -> None:
    file = onnx.load(exported("onnx")[0].path)
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*file.graph.input, *file.graph.output)
    }
    picture = ["batch", "height", "width", 3]
    assert shapes == {
        "image": picture,
        "strength": ["batch"],
        "affine": ["batch", net.layout.size],
        "colours": ["batch", 3, 4],
        "painting": picture,
    }
    said = {p.key: p.value for p in file.metadata_props}
    assert (said["licence"], said["network"], said["styles"]) == ("CC0-1.0", net.digest, "[]")
    assert file.producer_name == "impasto"
    assert said["version"] == file.producer_version


def test_openvino_says_what_it_is(exported: Callable[..., tuple[Exported, ExportOptions]], net: Network) -> None:
    path = exported("openvino")[0].path
    assert sorted(p.name for p in path.parent.iterdir()) == ["impasto.bin", "impasto.xml"]
    said = openvino.Core().read_model(path).get_rt_info(["impasto", "network"])
    assert getattr(said, "value", said) == net.digest


@pytest.mark.slow
def test_torch_says_what_it_is(exported: Callable[..., tuple[Exported, ExportOptions]]) -> None:
    files = {formats.METADATA: ""}
    with formats.quiet():
        torch.export.load(exported("torch")[0].path, extra_files=files)
    assert json.loads(files[formats.METADATA])["licence"] == "CC0-1.0"


def test_torch_file_of_one_layer(tmp_path: Path) -> None:
    """It computes the same at any size and says what it is. The network itself takes half a minute to load."""
    layer, path = torch.nn.Conv2d(3, 3, 3).requires_grad_(False), tmp_path / "layer.pt2"
    axes = {2: Dim("height", min=4), 3: Dim("width", min=4)}
    program = formats.traced(layer, {"image": torch.rand(1, 3, 7, 5)}, {"input": axes})
    formats.write_torch(program, path, {"licence": "MIT"})
    photo = torch.rand(1, 3, 20, 30)
    assert np.array_equal(load(path, "torch")({"image": photo.numpy()}), layer(photo).numpy())
    files = {formats.METADATA: ""}
    torch.export.load(path, extra_files=files)
    assert json.loads(files[formats.METADATA]) == {"licence": "MIT"}


def test_baked_style_and_pictures_of_floats_are_traced(encoder: VGG, photo: Callable[[str, int], Tensor]) -> None:
    """The program paints what the package paints, at another size than that of the example; with a tiny network."""
    net = Network(NetworkConfig(encoder.digest, {"relu1_1": encoder.width("relu1_1")}, 2, 0, 0, 0, 0, 2))
    generator = torch.Generator().manual_seed(0)
    net.initialise(generator)
    net.last.weight.data *= 10
    net.colours.weight.copy_(0.02 * torch.randn(net.colours.weight.shape, generator=generator))
    affine, colours = torch.rand(1, net.layout.size, generator=generator), torch.eye(3, 4)[None] / 20 + 0.1
    graph = PaintingGraph(net, encoder, (affine, colours), False, torch.float32, torch.float32)
    picture, program = photo("coffee", 61), formats.trace(graph).module()
    for strength in (1.0, 0.4):
        found, own = (
            program(picture, torch.tensor([strength])),
            paint(net, encoder, Style("", affine, colours), picture, strength),
        )
        torch.testing.assert_close(found, own, rtol=0, atol=1e-3)


@pytest.mark.usefixtures("_traced_once")
def test_the_command_exports(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "painter.onnx"
    assert main(["export", "--model", str(model), "-o", str(path), "--styles", "udnie"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == str(path)
    assert "twelve sizes differ from Impasto's own by" in said.err
    assert path.is_file()
    assert (tmp_path / "painter.styles" / "udnie.safetensors").is_file()


def test_style_files(
    exported: Callable[..., tuple[Exported, ExportOptions]],
    net: Network,
    encoder: VGG,
    levels: Callable[..., Tensor],
) -> None:
    """A style file's tensors can be used as inputs without changes."""
    made, _ = exported("onnx")
    assert [p.relative_to(made.path.parent) for p in made.styles] == [
        Path("impasto.styles/udnie.safetensors"),
        Path("impasto.styles/the-scream.safetensors"),
    ]
    with safe_open(made.styles[0], "np") as file:
        about = json.loads(file.metadata()["config"])
        tensors = {k: file.get_tensor(k) for k in ("affine", "colours")}
    assert about["network"] == net.digest
    assert about["styles"][0]["title"]
    photo = levels(64, 80)
    inputs = {"image": photo.permute(0, 2, 3, 1).contiguous().numpy(), "strength": np.ones(1, np.float32), **tensors}
    style = Style("udnie", torch.from_numpy(tensors["affine"]), torch.from_numpy(tensors["colours"]))
    own = paint(net, encoder, style, photo.float() / 255, 1.0)
    assert distance(load(made.path, "onnx")(inputs), own).max() <= 1


@pytest.mark.usefixtures("_traced_once")
def test_file_that_paints_something_else_is_not_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier file stays, and nothing else is left behind."""

    def broken(path: Path, _: Any) -> Run:
        run = load(path, "onnx")
        return lambda inputs: np.maximum(run(inputs), 2) - 2

    path = tmp_path / "painter.onnx"
    path.write_text("an earlier file")
    monkeypatch.setattr(job, "load", broken)
    with pytest.raises(ImpastoError, match=r"painter.onnx was not kept: at \d+x\d+ it paints [23] levels of 255 off"):
        export([], path, ExportOptions(model=str(model)))
    assert path.read_text() == "an earlier file"
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_that_are_none_are_far_off() -> None:
    assert distance(np.full((1, 3, 2, 2), np.nan, np.float32), torch.zeros(1, 3, 2, 2)).max() == np.inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["udnie", "--styles", "all"], "--styles writes styles for a file that takes them as input"),
        (["--format", "torch", "--precision", "int8"], "--format torch has no --precision int8"),
        (["--photos", "."], "--photos has no effect without --precision int8"),
        (["-o", "a.xml"], "--out a.xml: a file of --format onnx ends in .onnx"),
        (["stary-night"], "did you mean starry-night"),
        (["--size", "8"], "--size is 8; it must be 32 to 65536"),
    ],
)
def test_wrong_options_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", *arguments]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


def test_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name == "openvino" else True)
    extra.check_extra("onnx")
    with pytest.raises(ImpastoError, match=r'--format openvino needs openvino: pip install "impasto\[openvino\]"'):
        extra.check_extra("openvino")


def test_folder_without_photographs(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="there are no pictures in this folder"):
        job.calibration(ExportOptions(precision="int8", photos=(tmp_path,)))


def test_photographs_of_a_folder(tmp_path: Path, photo_file: Callable[[str], Path]) -> None:
    shutil.copy(photo_file("coffee"), tmp_path)
    (found,) = job.calibration(ExportOptions(precision="int8", photos=(tmp_path,)))
    assert found.dtype == torch.uint8
    assert max(found.shape) == job.CALIBRATION_SIDE


def test_numbers_that_do_not_fit() -> None:
    """A painting with values that are not finite is kept in no precision."""
    with pytest.raises(ImpastoError, match=r"a.onnx was not kept: its numbers do not fit into float16"):
        job.report(Difference(np.inf, np.inf, "16x16"), Path("a.onnx"), ExportOptions(precision="float16"))


def test_two_styles_of_one_name() -> None:
    job.check_names(["udnie", "tahiti"])
    with pytest.raises(OptionError, match="--styles has 2 styles called udnie"):
        job.check_names(["tahiti", "udnie", "udnie"])


def test_all_styles() -> None:
    assert job.named(["all"]) == builtin_names()
    assert job.named(["udnie", "a.jpg", "udnie"]) == ["udnie", "a.jpg"]


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not in the source distribution")
def test_python_program_of_the_documentation(
    exported: Callable[..., tuple[Exported, ExportOptions]],
    net: Network,
    encoder: VGG,
    styles: list[Style],
    levels: Callable[..., Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The program runs as it is printed there, and paints what the package paints."""
    shutil.copy(exported("onnx")[0].path, tmp_path)
    write_style(styles[0], tmp_path / "impasto.styles" / "starry-night.safetensors", {})
    pixels = levels(121, 202)[0].permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", quality=95)
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    monkeypatch.chdir(tmp_path)
    exec(compile(found[1], str(PAGE), "exec"), {})
    photo = np.asarray(Image.open("photo.jpg"), np.float32) / 255
    painting = np.array(Image.open("painting.png"))
    own = paint(net, encoder, styles[0], torch.from_numpy(photo).permute(2, 0, 1)[None], 1.0)
    assert distance(painting[None], own).max() <= 1
