"""Tests of the page's folder: its contents, what is refused, and that only correct pages are kept."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from impasto.cli import main
from impasto.errors import ImpastoError, OptionError
from impasto.export.web import site as module
from impasto.export.web.site import STATIC, write_site
from impasto.export.web.weights import exact_in_half, write_models
from impasto.models.network import Network
from impasto.options import ExportOptions
from impasto.style.target import builtin_names

REFERS = re.compile(r"""(?:src|href|from|import|content)\s*=?\s*\(?\s*["'](?:https?:)?//""")


def test_everything_is_listed_and_nothing_is_elsewhere(site: Path, net: Network) -> None:
    listed = json.loads((site / "files.js").read_text().partition("=")[2].rstrip(";\n"))
    files = {p.relative_to(site).as_posix() for p in site.rglob("*") if p.is_file()}
    assert set(listed["files"]) == files - {"files.js"}
    for name in ("index.html", "manifest.json", "sw.js", "network.bin", "runtime/LICENSE.txt"):
        assert name in files
    for path in STATIC.iterdir():
        if path.suffix in (".html", ".js", ".css", ".json"):
            assert not REFERS.search(path.read_text(encoding="utf-8")), path.name
    manifest = json.loads((site / "manifest.json").read_text())
    assert {icon["src"] for icon in manifest["icons"]} <= files
    about = json.loads((site / "site.json").read_text())
    assert (about["network"], about["size"], about["affine"]) == (net.digest, 256, net.layout.size)


def test_all_styles_are_there_with_their_pictures(site: Path) -> None:
    styles = json.loads((site / "styles.json").read_text(encoding="utf-8"))
    assert [s["name"] for s in styles] == builtin_names()
    for style in styles:
        assert style["title"]
        assert (site / "thumbnails" / f"{style['name']}.jpg").is_file()


def test_graphs_share_their_weights(site: Path) -> None:
    """Weights that several graphs need are stored once, also those that float16 cannot represent."""
    onnx = pytest.importorskip("onnx")
    places: dict[str, list[tuple[int, int]]] = {}
    for path in sorted(site.glob("*.onnx")):
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            where = {entry.key: entry.value for entry in tensor.external_data}
            if where:
                assert where["location"] == "network.bin"
                places.setdefault(path.stem, []).append((int(where["offset"]), int(where["length"])))
    assert len(places) >= 4
    shared = set(places["whole"]) & set(places["tile"]) & set(places["samples"])
    assert shared
    alone = {place for found in places.values() for place in found}
    assert sum(length for _, length in alone) == (site / "network.bin").stat().st_size
    assert (site / "whole.onnx").stat().st_size < 150_000


def test_halving_loses_nothing(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    exact = np.arange(600, dtype=np.float32).reshape(1, 600) / 8
    odd = np.full((1, 600), 0.1, np.float32)
    assert exact_in_half(exact)
    assert not exact_in_half(odd)
    assert not exact_in_half(np.array([1e6], np.float32))
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "a"], ["t"]), onnx.helper.make_node("Add", ["t", "b"], ["y"])],
        "sum",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 600])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 600])],
        [onnx.numpy_helper.from_array(exact, "a"), onnx.numpy_helper.from_array(odd, "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    write_models({"sum": model}, tmp_path, "weights.bin")
    assert (tmp_path / "weights.bin").stat().st_size == 600 * (2 + 4)
    session = runtime.InferenceSession(tmp_path / "sum.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.zeros((1, 600), np.float32)})
    np.testing.assert_array_equal(found, exact + odd)


def test_a_folder_with_other_files_is_refused(tmp_path: Path, fake_runtime: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "thesis.txt").write_text("mine")
    options = ExportOptions(format="web", runtime=str(fake_runtime))
    with pytest.raises(OptionError, match="has other files; give a new or an empty folder"):
        write_site(tmp_path, options)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_page_that_paints_something_else_is_not_kept(
    site: Path, model: Path, fake_runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its folder nor a temporary one remains, and an earlier page stays as it is."""
    target = tmp_path / "site"
    shutil.copytree(site, target)
    before = {p.name: p.stat().st_mtime_ns for p in target.iterdir()}

    def graphs(folder: Path, net: Network, encoder: torch.nn.Module, _: object) -> module.ReadingGraph:
        for file in (*site.glob("*.onnx"), site / "network.bin"):
            shutil.copy(file, folder)
        data = bytearray((folder / "network.bin").read_bytes())
        data[: len(data) // 2] = bytes(len(data) // 2)
        (folder / "network.bin").write_bytes(data)
        return module.ReadingGraph(net, encoder)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_graphs", graphs)
    options = ExportOptions(format="web", model=str(model), runtime=str(fake_runtime))
    with pytest.raises(ImpastoError, match=r"/site was not kept: .* levels of 255 off Impasto's own painting"):
        write_site(target, options)
    assert [p.name for p in tmp_path.iterdir()] == ["site"]
    assert {p.name: p.stat().st_mtime_ns for p in target.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "web", "--precision", "float16"], "--precision has no effect with --format web"),
        (["--format", "web", "--stroke", "2"], "--style-scale has no effect with --format web"),
        (["--runtime", "fetch"], "--runtime has no effect without --format web"),
        (["--format", "web", "udnie"], "a page has all built-in styles; leave out STYLE"),
    ],
)
def test_options_that_make_no_sense(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", *arguments]) == 2
    assert said in capsys.readouterr().err
