"""What the tests of training share: a folder of photographs, and a training in small."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from impasto.options import TrainFeedforwardOptions


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of smooth random colours, in a tree."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(6):
        rng = np.random.default_rng(i)
        path = folder / f"tree{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((160, 120), Image.Resampling.BICUBIC).save(path)
    return folder


@pytest.fixture
def brief(photos: Path, tmp_path: Path) -> Callable[..., TrainFeedforwardOptions]:
    """Options of a training of seconds."""

    def options(**changes: Any) -> TrainFeedforwardOptions:
        values: dict[str, Any] = {
            "styles": ("starry-night", "great-wave"),
            "photos": (photos,),
            "out": tmp_path / "net.safetensors",
            "steps": 6,
            "batch": 4,
            "crop": 64,
            "width": 4,
            "blocks": 1,
            "warm_up": 2,
            "identity": 0.3,
            "checkpoint_every": 2,
            "sample_every": 0,
            "device": "cpu",
            "precision": "float32",
        }
        return TrainFeedforwardOptions(**{**values, **changes})

    return options
