"""The built-in styles as the page takes them: `styles.json` says what and where, `styles.bin` has the numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...models.network import Network
from ...style.target import StyleTarget, builtin_names, load_builtin
from .graphs import ReadingGraph


@torch.no_grad()
def readings_of(style: StyleTarget, reading: ReadingGraph) -> np.ndarray:
    """Return a style's readings (sizes, R), float32, at its stored sizes. They are computed in float64."""
    double = reading.double()
    rows = [double.read({k: m.double() for k, m in style.moments[size].items()}) for size in style.sizes]
    reading.float()
    return torch.cat(rows).float().numpy()


def write_styles(folder: Path, net: Network, reading: ReadingGraph) -> list[dict[str, Any]]:
    """Write `styles.json` and `styles.bin` and return the entries of the former.

    For each style, `styles.bin` has its readings (sizes, R), float32, and then the offset (P,) to the prediction that
    the network has learnt for it, float16, if it has learnt it. All is little-endian.
    """
    entries = []
    with open(folder / "styles.bin", "wb") as file:
        for name in builtin_names():
            style, learnt = load_builtin(name), net.learnt_style(name)
            entry = {"name": name, "sizes": list(style.sizes), "readings": file.tell()}
            file.write(readings_of(style, reading).astype("<f4").tobytes())
            if learnt is not None:
                entry["learnt"] = file.tell()
                file.write(learnt.detach().numpy().astype("<f2").tobytes())
            entries.append({**entry, **{k: style.about.get(k, "") for k in ("title", "artist", "date", "licence")}})
            file.write(bytes(-file.tell() % 4))
    (folder / "styles.json").write_text(json.dumps(entries, ensure_ascii=False, indent=1), encoding="utf-8")
    return entries
