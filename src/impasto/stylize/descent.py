"""The descent at one scale: what is optimised, by which optimiser, and what of it is the painting."""

import copy
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import DivergedError
from ..image.resize import interpolate_wrapped
from ..options import OptimizeOptions
from .lbfgs import LBFGS
from .schedule import WARM_UP, Scale, rate_factor

BETAS = (0.9, 0.99)
PLATEAU_SPAN = 10
"""Iterations over which a plateau is looked for."""
PLATEAU_FINISH = 12
"""Iterations that a scale of Adam's still takes, its rate falling, once it has reached a plateau."""
LEVELS, LEAST_BAND = 5, 16
"""Most bands of a Laplacian pyramid, and the shorter side that the coarsest one has at least, in pixels."""


class Parameters:
    """The picture as what is optimised: its pixels.

    Parameters
    ----------
    x : Tensor
        (1, 3, H, W), [0, 1].
    """

    def __init__(self, x: Tensor):
        self.tensors = [x.clone(memory_format=torch.preserve_format).requires_grad_(True)]

    def picture(self) -> Tensor:
        """(1, 3, H, W), with its gradient."""
        return self.tensors[0]

    @torch.no_grad()
    def clamp(self) -> None:
        """Bring the picture back into [0, 1]."""
        self.tensors[0].clamp_(0, 1)


class Pyramid(Parameters):
    """The picture as a Laplacian pyramid (Burt, Adelson 1983), so that large shapes move as easily as details.

    Kolkin et al. optimise one, in "Neural Neighbor Style Transfer", 2022, and in STROTSS, 2019.

    Parameters
    ----------
    x : Tensor
        (1, 3, H, W), [0, 1].
    wrap : bool
        Whether the picture tiles the plane.
    """

    def __init__(self, x: Tensor, wrap: bool = False):
        bands, self.interpolate = [], interpolate_wrapped if wrap else F.interpolate
        while len(bands) < LEVELS - 1 and min(x.shape[-2:]) >= 2 * LEAST_BAND:
            low = self.interpolate(x, (x.shape[-2] // 2, x.shape[-1] // 2), mode="bilinear", antialias=True)
            bands.append(x - self.enlarged(low, x))
            x = low
        self.tensors = [b.clone(memory_format=torch.contiguous_format).requires_grad_(True) for b in (*bands, x)]

    def enlarged(self, x: Tensor, like: Tensor) -> Tensor:
        """A band in the size of the next finer one."""
        return self.interpolate(x, (like.shape[-2], like.shape[-1]), mode="bilinear")

    def picture(self) -> Tensor:
        """The bands added up, (1, 3, H, W)."""
        x = self.tensors[-1]
        for band in reversed(self.tensors[:-1]):
            x = self.enlarged(x, band) + band
        return x

    @torch.no_grad()
    def clamp(self) -> None:
        """Bring the picture back into [0, 1], by its finest band."""
        x = self.picture()
        self.tensors[0] += x.clamp(0, 1) - x


class Descent:
    """The optimisation of a picture at one scale, an iteration at a time.

    Parameters
    ----------
    loss : callable
        Picture -> the terms and their sum `total`, which falls.
    x : Tensor
        (1, 3, H, W), the picture to begin with.
    scale : Scale
        Its iterations and its rate.
    options : OptimizeOptions
        The optimiser and how it goes.
    carried : dict, optional
        What the scale before handed on (`carry`).
    wrap : bool
        Whether the picture tiles the plane.
    """

    def __init__(
        self,
        loss: Callable[[Tensor], dict[str, Tensor]],
        x: Tensor,
        scale: Scale,
        options: OptimizeOptions,
        carried: dict[str, Tensor] | None = None,
        wrap: bool = False,
    ):
        self.loss, self.scale, self.options = loss, scale, options
        self.parameters = Pyramid(x, wrap) if options.pyramid else Parameters(x)
        tensors = self.parameters.tensors
        self.optimiser: torch.optim.Adam | LBFGS
        if options.optimizer == "adam":
            self.optimiser = torch.optim.Adam(tensors, lr=scale.rate, betas=BETAS)
        else:
            self.optimiser = LBFGS(x, scale.rate)
        if carried and options.carry and isinstance(self.optimiser, torch.optim.Adam) and len(tensors) == 1:
            self._take(carried, self.optimiser)
        self.best, self.best_losses, self.iteration = x, {"total": math.inf}, 0
        self.average = torch.zeros_like(x) if options.average else None
        self.averaged = 0.0  # how much of the average is there yet
        self.done, self.pace = 0.0, 1 / scale.iterations
        self.recent: deque[float] = deque(maxlen=PLATEAU_SPAN + 1)
        self._terms: dict[str, Tensor] | None = None

    @property
    def left(self) -> int:
        """Iterations still to come."""
        return max(0, math.ceil((1 - self.done) / self.pace - 1e-6))

    @property
    def painted(self) -> Tensor:
        """The painting so far: the best picture by the total loss, or the average."""
        if self.average is None:
            return self.best
        return (self.average / max(self.averaged, 1e-12)).clamp(0, 1)

    def measured(self) -> dict[str, float]:
        """The losses of `painted`: known of the best picture, evaluated for the average."""
        if self.average is None:
            return self.best_losses
        with torch.no_grad():
            return {k: float(v) for k, v in self.loss(self.painted).items()}

    def step(self) -> dict[str, float]:
        """One iteration; the losses of the picture that it made.

        Raises
        ------
        DivergedError
            If a loss is no longer finite.
        """
        x, losses = self._adam() if self.options.optimizer == "adam" else self._lbfgs()
        self.iteration += 1
        if losses["total"] < self.best_losses["total"]:
            self.best, self.best_losses = x, losses
        if self.average is not None:
            decay = self.options.average
            self.average = torch.lerp(x, self.average, decay)
            self.averaged = 1 - (1 - self.averaged) * decay
        self.done += self.pace
        self.recent.append(self.best_losses["total"])
        if self.done > WARM_UP and self._on_plateau():
            finish = PLATEAU_FINISH if isinstance(self.optimiser, torch.optim.Adam) else 1
            self.pace = max(self.pace, (1 - self.done) / finish)
        return losses

    def _on_plateau(self) -> bool:
        if not self.options.plateau or len(self.recent) <= PLATEAU_SPAN:
            return False
        return self.recent[0] - self.recent[-1] < self.options.plateau * abs(self.recent[0])

    def _adam(self) -> tuple[Tensor, dict[str, float]]:
        """The rate rises, then falls by a cosine; the picture is kept within [0, 1]."""
        if self._terms is None:
            x = self.parameters.picture()
            self._terms = self.loss(x)
            if not self.iteration:
                self.best_losses = self._finite(x, self._terms)  # of what it begins with, but for a pyramid's rounding
        assert isinstance(self.optimiser, torch.optim.Adam)
        self.optimiser.param_groups[0]["lr"] = self.scale.rate * rate_factor(self.done + 0.5 * self.pace)
        self.optimiser.zero_grad()
        self._terms["total"].backward()
        self.optimiser.step()
        self.parameters.clamp()
        self._terms = None  # or two graphs would be held at a time
        x = self.parameters.picture()
        self._terms = self.loss(x)  # of the picture as it is now, and for the next iteration's gradient
        return x.detach().clamp(0, 1), self._finite(x, self._terms)  # a pyramid's sum is there but for rounding

    def _lbfgs(self) -> tuple[Tensor, dict[str, float]]:
        """The picture that the iteration before arrived at, and one step on from it."""
        assert isinstance(self.optimiser, LBFGS)
        x = self.optimiser.x.clone(memory_format=torch.channels_last).requires_grad_(True)
        terms = self.loss(x)
        losses = self._finite(x, terms)
        terms["total"].backward()
        assert x.grad is not None
        self.optimiser.step(losses["total"], x.grad)
        return x.detach(), losses

    def _finite(self, x: Tensor, terms: dict[str, Tensor]) -> dict[str, float]:
        losses = {k: float(v.detach()) for k, v in terms.items()}
        # The picture, too: a fused ReLU takes what is no number for 0.
        if not math.isfinite(losses["total"] + float(x.detach().sum())):
            h, w = self.scale.size
            raise DivergedError(
                f"the loss is no longer finite at iteration {self.iteration + 1} of the {w}x{h} scale; "
                f"lower --rate (now {self.scale.rate:g})"
            )
        return losses

    def carry(self) -> dict[str, Tensor]:
        """What the next scale may begin with: Adam's moments."""
        if not isinstance(self.optimiser, torch.optim.Adam) or len(self.parameters.tensors) > 1:
            return {}
        state = self.optimiser.state[self.parameters.tensors[0]]
        return {k: state[k] for k in ("step", "exp_avg", "exp_avg_sq")}

    def _take(self, carried: dict[str, Tensor], optimiser: torch.optim.Adam) -> None:
        """Adam's moments of another size; the gradients of a loss that is a mean over pixels fall with their number."""
        (x,) = self.parameters.tensors
        ratio = carried["exp_avg"][0, 0].numel() / x[0, 0].numel()
        optimiser.state[x] = {
            "step": carried["step"].clone(),
            "exp_avg": ratio * _resized(carried["exp_avg"], x),
            "exp_avg_sq": ratio**2 * _resized(carried["exp_avg_sq"], x),
        }

    def state(self) -> dict[str, Any]:
        """All of it, as tensors and plain values: with the same loss, `load` goes on from here as if nothing were."""
        return {
            "tensors": [t.detach().clone() for t in self.parameters.tensors],
            "optimiser": copy.deepcopy(self.optimiser.state_dict()),  # which goes on changing
            "best": self.best,
            "best_losses": self.best_losses,
            "average": self.average,
            "values": [self.iteration, self.averaged, self.done, self.pace],
            "recent": list(self.recent),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        with torch.no_grad():
            for mine, theirs in zip(self.parameters.tensors, state["tensors"], strict=True):
                mine.copy_(theirs)
        self.optimiser.load_state_dict(state["optimiser"])
        self.best, self.best_losses = state["best"].to(self.best.device), state["best_losses"]
        self.average = None if self.average is None else state["average"].to(self.average.device)
        self.iteration, self.averaged, self.done, self.pace = state["values"]
        self.recent.extend(state["recent"])


def _resized(x: Tensor, like: Tensor) -> Tensor:
    """A tensor (1, C, h, w) in another's size and layout."""
    layout = torch.channels_last if like.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return F.interpolate(x, like.shape[-2:], mode="bilinear").to(memory_format=layout, copy=True)
