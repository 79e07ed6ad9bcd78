"""Fixtures for training: a folder of photographs, and a brief training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from impasto.options import TrainNetworkOptions

Brief = Callable[..., TrainNetworkOptions]
SMALL: dict[str, Any] = {
    "steps": 6,
    "batch": 4,
    "crop": 64,
    "width": 4,
    "blocks": 1,
    "fine": 1,
    "rank": 1,
    "hidden": 8,
    "warm_up": 2,
    "identity": 0.2,
    "mixed": 0.4,
    "checkpoint_every": 2,
    "sample_every": 0,
    "workers": 0,
    "device": "cpu",
    "precision": "float32",
}


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write six pictures of smooth random colours, in a tree of folders."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(6):
        rng = np.random.default_rng(i)
        path = folder / f"tree{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((160, 120), Image.Resampling.BICUBIC).save(path)
    return folder


@pytest.fixture(scope="session")
def paintings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three pictures of stripes and spots, each in its own colours."""
    folder = tmp_path_factory.mktemp("paintings")
    y, x = np.mgrid[:140, :150]
    for i, pattern in enumerate((np.sin(x / 3), np.sin(y / 2), np.sin(x / 5) * np.sin(y / 5))):
        colour = np.roll([0.9, 0.5, 0.1], i)
        Image.fromarray((255 * (0.5 + 0.5 * pattern[..., None]) * colour).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def brief(photos: Path, paintings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Brief:
    """Return `brief(steps=3, ...)`: options of a training of a few seconds, for any style and for two learnt ones."""
    monkeypatch.setattr("impasto.train.network.CALIBRATION", 6)

    def options(**changes: Any) -> TrainNetworkOptions:
        return TrainNetworkOptions(
            **{
                **SMALL,
                "photos": (photos,),
                "paintings": (paintings,),
                "styles": ("starry-night", "great-wave"),
                "out": tmp_path / "net.safetensors",
                **changes,
            }
        )

    return options
