"""Networks and encoders that do not fit each other give a one-line error wherever they are used."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import impasto
from impasto.cli import main
from impasto.models.model_file import write_model_file
from impasto.models.network import Network, NetworkConfig, save_network
from impasto.models.vgg import COMPACT, VGG
from impasto.models.weights import load_encoder, save_encoder
from impasto.stylizers.learn import BUNDLED

PHOTO = next(BUNDLED.glob("*.webp"))
LAYERS = {"relu1_1": 16, "relu2_1": 32, "relu3_1": 80, "relu4_1": 144}


def one_line(err: str) -> bool:
    return err.startswith("impasto: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    "layers",
    [
        {**LAYERS, "relu4_1": 145},
        {"relu1_1": 32},
        {"relu1_2": 16},
        {**LAYERS, "relu6_1": 128},
        {"brush": 16},
    ],
    ids=str,
)
def test_a_network_of_other_layers(tmp_path: Path, layers: dict[str, int], capsys: Any) -> None:
    path = str(tmp_path / "net.safetensors")
    net = Network(NetworkConfig(load_encoder().digest, layers, 4, 1, 1, 1, 1, 8))
    save_network(net, Path(path), training={}, licence="MIT")
    for style in ("starry-night", str(PHOTO)):
        with pytest.raises(impasto.WeightsError, match=r"does not fit its encoder: it reads .*; train it again"):
            impasto.stylize(PHOTO, style, model=path, size=48)
        with pytest.raises(impasto.WeightsError, match="does not fit its encoder"):
            impasto.learn(style, model=path, steps=1)
    out = str(tmp_path / "out.png")
    assert main(["stylize", str(PHOTO), "starry-night", "--model", path, "--size", "48", "-o", out]) == 1
    assert one_line(capsys.readouterr().err)
    assert main(["learn", "starry-night", "--model", path, "-o", str(tmp_path)]) == 1
    assert one_line(capsys.readouterr().err)
    assert main(["models", "show", path]) == 0  # what it is can still be seen


def test_a_network_of_another_encoder(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_network(Network(NetworkConfig("0" * 16, {"relu1_1": 4}, 4, 1, 1, 1, 1, 8)), path, training={}, licence="MIT")
    for use in (
        lambda: impasto.stylize(PHOTO, "udnie", model=str(path)),
        lambda: impasto.learn("udnie", model=str(path)),
    ):
        with pytest.raises(impasto.StyleError, match=r"trained with another encoder than compact.*; train it again"):
            use()


@pytest.mark.parametrize(
    "changes",
    [
        {"heads": 3},
        {"heads": {"relu1_1": "wide"}},
        {"heads": None},
        {"widths": None},
        {"widths": [16, 32, 80, 144, "x"]},
        {"depths": 4},
        {"mean": [0, 0]},
        {"padding": ["reflect"]},
        {"batch_norm": True},
    ],
    ids=str,
)
def test_an_encoder_whose_config_is_no_encoders(tmp_path: Path, changes: dict[str, Any], capsys: Any) -> None:
    path, net = tmp_path / "encoder.safetensors", load_encoder()
    write_model_file(path, "encoder", {**COMPACT.to_dict(), **changes}, net.state_dict(), licence="MIT")
    assert main(["stylize", str(PHOTO), str(PHOTO), "--encoder", str(path), "-o", str(tmp_path / "out.png")]) == 1
    assert one_line(capsys.readouterr().err)


def test_an_encoder_that_is_still_in_training(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "encoder.safetensors"
    net = VGG(replace(COMPACT, batch_norm=True))
    net.initialise(torch.Generator().manual_seed(0))
    save_encoder(net, path, training={}, licence="MIT")
    assert main(["stylize", str(PHOTO), str(PHOTO), "--encoder", str(path), "-o", str(tmp_path / "out.png")]) == 1
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == (
        "impasto: encoder still has the batch norm of its training; give the encoder of a later step"
    )
    assert not (tmp_path / "out.png").exists()


def test_a_config_of_endless_brackets(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    metadata = {"format": "impasto", "kind": "network", "config": "[" * 200_000, "licence": "MIT"}
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, metadata)
    with pytest.raises(impasto.WeightsError, match="config is missing or not JSON"):
        impasto.stylize(PHOTO, "udnie", model=str(path))
