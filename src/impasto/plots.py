"""Figures of a run: loss curves, and content, style and result side by side. Needs matplotlib (extra `plots`)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor

from .errors import ImpastoError


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure  # without pyplot: no window system, no global state
    except ImportError as error:
        raise ImpastoError('figures need matplotlib: pip install "impasto[plots]"') from error
    return Figure(figsize=(width, height), layout="constrained", dpi=120)


def plot_losses(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Plot total, content and style loss over the iterations, as a PNG.

    Parameters
    ----------
    rows : sequence of dict
        One per iteration, with `iteration`, `scale` and the losses by name.
    path : Path
        The file to write.

    Raises
    ------
    ImpastoError
        If matplotlib is not installed.
    """
    figure = _figure(10, 4)
    iterations = [r["iteration"] for r in rows]
    changes = [b["iteration"] for a, b in pairwise(rows) if a["scale"] != b["scale"]]
    names = [k for k in rows[0] if k not in ("iteration", "scale", "seconds", "total")]
    colours = {"total": "tab:red", "content": "tab:green", "style": "tab:blue", "tv": "tab:orange"}
    for axes, title, shown in zip(
        figure.subplots(1, 2), ("Total loss", "Content and style loss"), (["total"], names), strict=True
    ):
        for name in shown:
            axes.plot(iterations, [r[name] for r in rows], label=name, color=colours.get(name), linewidth=1.2)
        for x in changes:
            axes.axvline(x, color="0.8", linewidth=0.8, zorder=0)
        axes.set(title=title, xlabel="iteration", yscale="log")
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path)


def plot_pictures(pictures: Sequence[tuple[str, Tensor]], path: Path) -> None:
    """Show pictures side by side with their titles, as a PNG.

    Parameters
    ----------
    pictures : sequence of (str, Tensor)
        Title and picture (1, 3, H, W), [0, 1].
    path : Path
        The file to write.
    """
    ratios = [p.shape[-1] / p.shape[-2] for _, p in pictures]
    figure = _figure(4 * sum(ratios), 4.4)
    columns = figure.subplots(1, len(pictures), width_ratios=ratios, squeeze=False)[0]
    for axes, (title, picture) in zip(columns, pictures, strict=True):
        axes.imshow(picture[0].permute(1, 2, 0).clamp(0, 1).cpu().numpy())
        axes.set_title(title)
        axes.axis("off")
    figure.savefig(path)
