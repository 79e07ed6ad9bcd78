"""Tests of the registry and of model files: what is loaded is what was saved, or an error says why not."""

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from impasto.errors import WeightsError
from impasto.models import weights
from impasto.models.model_file import read_model_file, write_model_file
from impasto.models.vgg import VGG, VGG16, VGG19, VGGConfig
from impasto.models.weights import (
    ModelInfo,
    fetch,
    find_model,
    list_models,
    load_encoder,
    model_dir,
    save_encoder,
)

TINY = VGGConfig((4, 6, 8, 8, 8), (2, 2, 4, 4, 4), {})
HEADED = replace(TINY, heads={"relu1_1": 7, "relu4_2": 5}, padding="reflect")


def tiny(config: VGGConfig = HEADED) -> VGG:
    net = VGG(config, "tiny").eval()
    net.initialise(torch.Generator().manual_seed(0))
    return net


def picture() -> Tensor:
    return torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(1))


def assert_ready(net: VGG) -> None:
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    for _, conv in net.convolutions():
        assert conv.weight.is_contiguous(memory_format=torch.channels_last)
        assert conv.weight.dtype == torch.float32


# -- model files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    save_encoder(tiny(), path, training={"steps": 3}, licence="CC0-1.0")
    return path


def test_encoder_there_and_back(file: Path) -> None:
    net = load_encoder(file)
    assert_ready(net)
    assert net.config == HEADED
    assert (net.name, net.pooling) == ("mine", "max")
    assert net.digest == hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    saved = tiny().state_dict()
    assert net.state_dict().keys() == saved.keys()
    for key, value in net.state_dict().items():
        assert torch.equal(value, saved[key].half().float()), key
    layers = ("relu1_1", "relu5_1")
    assert all(
        torch.allclose(a, b, atol=2e-2)
        for a, b in zip(net(picture(), layers).values(), tiny()(picture(), layers).values(), strict=True)
    )
    assert VGG(TINY).digest == ""


def test_encoder_as_float32_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_encoder(tiny(), path, training={}, licence="CC0-1.0", dtype=torch.float32)
    found, saved = load_encoder(str(path), pooling="average"), tiny().state_dict()
    assert found.pooling == "average"
    assert all(torch.equal(v, saved[k]) for k, v in found.state_dict().items())


def test_equal_networks_are_equal_files(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.safetensors" for i in range(8)]
    for file in files:
        save_encoder(tiny(), file, training={"steps": 1, "batch": 2}, licence="MIT")
    assert len({file.read_bytes() for file in files}) == 1
    assert safetensors.torch.load_file(files[0])  # and it is a whole safetensors file


def test_channels_last_and_batch_norm_are_saved(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    net = tiny(replace(TINY, batch_norm=True)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_encoder(net, path, training={}, licence="CC0-1.0", dtype=torch.float32)
    found = load_encoder(path)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in found.state_dict().items())


def test_metadata(file: Path) -> None:
    config, tensors, metadata = read_model_file(file, "encoder")
    assert {k: metadata[k] for k in ("format", "kind", "licence")} == {
        "format": "impasto",
        "kind": "encoder",
        "licence": "CC0-1.0",
    }
    assert json.loads(metadata["training"]) == {"steps": 3}
    assert json.loads(metadata["config"]) == config
    assert all(t.dtype == torch.float32 for t in tensors.values())
    assert safetensors.torch.load_file(file)["features.0.weight"].dtype == torch.float16
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_loading_leaves_the_random_numbers_alone(file: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_encoder(file)
    assert torch.equal(torch.rand(3), expected)


def test_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "table.safetensors"
    tensors = {"table": torch.randn(3, 4), "index": torch.arange(5)}
    write_model_file(path, "table", {"n": 3}, tensors, licence="MIT", dtype=torch.float32)
    config, found, metadata = read_model_file(path, "table")
    assert config == {"n": 3}
    assert metadata["training"] == "{}"
    assert all(torch.equal(found[k], v) and found[k].dtype == v.dtype for k, v in tensors.items())
    with pytest.raises(WeightsError, match="holds a network of the kind 'table', not 'encoder'"):
        load_encoder(path)


def test_values_that_do_not_fit_are_not_written(tmp_path: Path) -> None:
    net = tiny()
    net.heads["relu1_1"].weight.data.fill_(1e5)  # type: ignore[union-attr]
    with pytest.raises(WeightsError, match=r"heads.relu1_1.weight has values that are not finite as torch.float16"):
        save_encoder(net, tmp_path / "x.safetensors", training={}, licence="MIT")
    assert not list(tmp_path.iterdir())


def test_failed_save_keeps_the_old_file(file: Path, full_disk: Callable[[], AbstractContextManager[None]]) -> None:
    before = file.read_bytes()
    with full_disk(), pytest.raises(WeightsError, match=r"cannot write .*mine\.safetensors: File too large"):
        save_encoder(tiny(), file, training={}, licence="MIT")
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def rewrite(path: Path, change: Callable[[dict[str, Tensor], dict[str, str]], None]) -> None:
    with safetensors.safe_open(path, "pt") as f:
        metadata = dict(f.metadata())
    tensors = safetensors.torch.load_file(path)
    change(tensors, metadata)
    path.write_bytes(safetensors.torch.save(tensors, metadata))


def set_config(**values: Any) -> Callable[[dict[str, Tensor], dict[str, str]], None]:
    return lambda _, m: m.update(config=json.dumps({**json.loads(m["config"]), **values}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: m.update(format="pt"), "has no format 'impasto'"),
        (lambda t, m: m.clear(), "has no format 'impasto'"),
        (lambda t, m: m.update(kind="adain"), "holds a network of the kind 'adain', not 'encoder'"),
        (lambda t, m: m.pop("config"), "config is missing or not JSON"),
        (lambda t, m: m.update(config="{"), "config is missing or not JSON"),
        (lambda t, m: m.update(config="[]"), "config is not a JSON object"),
        (set_config(colour="red"), "does not hold an encoder.*colour"),
        (set_config(padding="circular"), "does not hold an encoder.*circular"),
        (set_config(widths=[4, 6]), "does not hold an encoder"),
        (set_config(widths=[-4, 6, 8, 8, 8]), "does not hold an encoder"),
        (set_config(widths="abcde"), "does not hold an encoder"),
        (set_config(heads={"relu9_1": 4}), "does not hold an encoder"),
        (set_config(mean=[0.5]), "does not hold an encoder"),
        (set_config(widths=[10**6, 10**6, 8, 8, 8]), "does not hold an encoder: features.* should be"),
        (lambda t, m: t.pop("features.2.bias"), r"features.2.bias is nothing and should be \[4\]"),
        (lambda t, m: t.update(extra=torch.zeros(2)), r"extra is \[2\] and should be nothing"),
        (lambda t, m: t.update({"features.0.bias": torch.zeros(5)}), r"features.0.bias is \[5\] and should be \[4\]"),
    ],
)
def test_wrong_model_file(file: Path, change: Callable[[Any, Any], Any], message: str) -> None:
    rewrite(file, change)
    with pytest.raises(WeightsError, match=message) as caught:
        load_encoder(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 5, 100, 3000, -1])
def test_truncated_model_file(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"mine\.safetensors is damaged or not a model file") as caught:
        load_encoder(file)
    assert "\n" not in str(caught.value)


def test_not_a_model_file(tmp_path: Path, photo_file: Callable[[str], Path]) -> None:
    with pytest.raises(WeightsError, match="damaged or not a model file"):
        load_encoder(photo_file("coffee"))
    with pytest.raises(WeightsError, match="there is no such model file"):
        load_encoder(tmp_path / "nothing.safetensors")
    with pytest.raises(WeightsError, match="there is no such model file"):
        load_encoder(tmp_path)


def test_nothing_is_unpickled_from_a_path(tmp_path: Path) -> None:
    torch.save(tiny().state_dict(), tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match="damaged or not a model file"):
        load_encoder(tmp_path / "mine.pth")


# -- the registry -----------------------------------------------------------------------------------------------------


def test_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    models = {m.name: m for m in list_models()}
    assert models.keys() >= {"compact", "vgg16", "vgg19"}
    assert model_dir() == tmp_path / "hub" / "checkpoints"
    for name in ("vgg16", "vgg19"):
        model = models[name]
        assert model.path == model_dir() / model.file
        assert model.url == f"https://download.pytorch.org/models/{model.file}"
        assert model.file == f"{name}-{model.sha256[:8]}.pth"
        assert len(model.sha256) == 64
        assert "BSD-3-Clause" in model.licence
        assert "ImageNet" in model.licence
        assert not model.present
    assert models["compact"].path == Path(weights.__file__).parents[1] / "weights" / "compact.safetensors"
    assert all(m.description and m.licence and m.kind for m in models.values())


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("vgg-19", "vgg19"), ("compct", "compact"), ("zzz", "compact or network or vgg16 or vgg19")],
)
def test_unknown_name(wrong: str, near: str) -> None:
    for function in (find_model, fetch, load_encoder):
        with pytest.raises(WeightsError, match=f"there is no model {wrong!r}; did you mean .*{near}"):
            function(wrong)


def entry(tmp_path: Path, config: VGGConfig = TINY, **options: Any) -> ModelInfo:
    """Write a file like torchvision's, with a classifier after the features, and return its registry entry."""
    source = tmp_path / "server" / "small.pth"
    source.parent.mkdir()
    torch.save({**tiny(config).state_dict(), "classifier.0.weight": torch.zeros(3, 3)}, source, **options)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    return ModelInfo(
        "small", "encoder", "small.pth", "-", "-", source.as_uri(), digest[:8], source.stat().st_size, config
    )


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.mark.parametrize("new_format", [True, False])  # torchvision's VGG files are in the old format
def test_downloaded_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_format: bool) -> None:
    model = entry(tmp_path, _use_new_zipfile_serialization=new_format)
    monkeypatch.setitem(weights.MODELS, "small", model)
    assert not model.present
    with pytest.raises(WeightsError, match="missing and offline mode is on"):
        load_encoder("small", offline=True)
    steps: list[int] = []
    net = load_encoder("small", progress=lambda done, _: steps.append(done))
    assert steps[-1] == model.size
    assert_ready(net)
    assert net.name == "small"
    assert net.digest == hashlib.sha256(model.path.read_bytes()).hexdigest()[:16]
    assert all(torch.equal(v, tiny(TINY).state_dict()[k]) for k, v in net.state_dict().items())
    assert model.present
    assert fetch("small", offline=True) == model.path == model_dir() / "small.pth"


def test_fetch_from_another_address(tmp_path: Path) -> None:
    model = entry(tmp_path)
    gone = replace(model, url="file:///nowhere/small.pth")
    with pytest.raises(WeightsError, match="cannot download file:///nowhere"):
        fetch(gone)
    assert fetch(gone, url=model.url).is_file()


def test_half_a_file_is_not_present(tmp_path: Path) -> None:
    model = entry(tmp_path)
    path = fetch(model)
    path.write_bytes(path.read_bytes()[:-10])
    assert not model.present
    assert fetch(model).stat().st_size == model.size


def test_file_with_another_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weights.MODELS, "small", replace(entry(tmp_path), config=VGG16))
    with pytest.raises(WeightsError, match="does not hold an encoder: features"):
        load_encoder("small")


def test_entry_that_is_no_state_dict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = entry(tmp_path)
    for content in (b"", b"no pickle", b"PK\x03\x04 no zip"):
        source = tmp_path / "server" / "small.pth"
        source.write_bytes(content)
        changed = replace(model, sha256=hashlib.sha256(content).hexdigest(), file=f"{len(content)}.pth")
        monkeypatch.setitem(weights.MODELS, "small", changed)
        with pytest.raises(WeightsError, match="is not a state dict") as caught:
            load_encoder("small")
        assert "\n" not in str(caught.value)


def test_other_kind_of_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weights.MODELS, "own", ModelInfo("own", "network", "own.safetensors", "-", "-"))
    with pytest.raises(
        WeightsError, match="own is a network that paints, not an encoder; give one of compact, vgg16, vgg19"
    ):
        load_encoder("own")


def test_bundled_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelInfo, "path", tmp_path / "compact.safetensors")
    with pytest.raises(WeightsError, match=r"compact\.safetensors, a part of impasto, is missing"):
        load_encoder()
    save_encoder(tiny(), tmp_path / "compact.safetensors", training={}, licence="MIT")
    monkeypatch.setitem(weights.MODELS, "compact", replace(find_model("compact"), sha256=""))
    assert load_encoder(offline=True).name == "compact"


# -- torchvision's layout ---------------------------------------------------------------------------------------------

PLACES = {  # index in torchvision's `features` of each convolution
    "vgg16": [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
    "vgg19": [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34],
}
SAMPLES = {
    "vgg16": {"conv1_1": 0, "conv3_3": 14, "conv4_2": 19, "conv5_3": 28},
    "vgg19": {"conv1_1": 0, "conv2_1": 5, "conv3_1": 10, "conv4_1": 19, "conv4_2": 21, "conv5_1": 28, "conv5_4": 34},
}


@pytest.mark.parametrize(("name", "config"), [("vgg16", VGG16), ("vgg19", VGG19)])
def test_torchvisions_state_dict(name: str, config: VGGConfig) -> None:
    widths = [w for w, d in zip(config.widths, config.depths, strict=True) for _ in range(d)]
    state, before = {}, 3
    for i, width in zip(PLACES[name], widths, strict=True):
        state[f"features.{i}.weight"] = torch.full((width, before, 3, 3), i / 100)
        state[f"features.{i}.bias"] = torch.full((width,), -i / 100)
        before = width
    with torch.device("meta"):
        net = VGG(config)
    net.load_state_dict(state, assign=True)
    for layer, conv in net.convolutions():
        assert conv.bias is not None
        i = net.layers[layer]
        assert isinstance(net.features[i + 1], nn.ReLU)
        assert conv.weight[0, 0, 0, 0].item() == pytest.approx(i / 100)
        assert conv.bias[0].item() == pytest.approx(-i / 100)
    assert {k: net.layers[k] for k in SAMPLES[name]} == SAMPLES[name]
