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


HISTORY = 5
"""Steps that are remembered; 20 of them reach the same loss within 0.5 % and cost more memory and time."""
FIRST_STEP = 1.25
"""The first step over that which would make a loss with that slope zero, f / |g|^2: the least loss is near zero."""
CURVATURE = 1e-6
"""Least cosine between a step and the change of its gradient for the pair to be kept."""
QUARTERINGS = 6
"""A step is quartered at most so often; then the memory is emptied and the gradient followed."""


class LBFGS:
    """Minimise a function of one tensor in [0, 1] by L-BFGS without a line search.

    Liu, Nocedal, "On the Limited Memory BFGS Method for Large Scale Optimization", Mathematical Programming 45, 1989.
    A line search costs several evaluations of the networks. Instead every step is taken in full, and one that made the
    loss larger is taken back and quartered. Pixels are clamped after every step; keeping those at 0 and 1 out of the
    direction, as projected methods do, made no difference to paintings.

    The direction is a linear combination of the stored steps, the stored changes of the gradient and the gradient, so
    only their scalar products are needed to find it (Chen, Wang, Zhou, "Large-scale L-BFGS using MapReduce", NIPS
    2014).

    Parameters
    ----------
    x : Tensor
        Where to begin; any shape, float32.
    rate : float
        Factor on every step; 1 is Newton's.
    history : int
        How many steps are remembered.
    """

    def __init__(self, x: Tensor, rate: float = 1.0, history: int = HISTORY):
        self.x, self.rate, self.history = x.detach().clone(memory_format=torch.preserve_format), rate, history
        self.rows = history + 1  # a pair is measured before it takes the oldest one's place
        self.memory = x.new_zeros(2, self.rows, x.numel())  # steps, and changes of the gradient
        self.mixed = torch.zeros(self.rows, self.rows, dtype=torch.float64)  # products of steps (rows) and changes
        self.changes = torch.zeros(self.rows, self.rows, dtype=torch.float64)  # products of changes and changes
        self.order: list[int] = []  # the rows that are remembered, oldest first
        self.used = 0  # rows that have ever been
        self.last: tuple[Tensor, float, Tensor] | None = None  # the best place so far: picture, value, gradient
        self.tries = 0

    def step(self, value: float, gradient: Tensor) -> bool:
        """Take the value and the gradient at `x`, and move `x` to where they are wanted next.

        Returns
        -------
        bool
            Whether the step before was kept.
        """
        x, g = self._flat(self.x), self._flat(gradient.detach())
        if self.last is not None and value > self.last[1] and self.tries < QUARTERINGS:
            place, _, _ = self.last
            self.tries += 1
            self._move(torch.lerp(place, x, 0.25))
            return False
        if self.tries >= QUARTERINGS:
            self.order = []
        elif self.last is not None:
            self._remember(x, g, self.last[0], self.last[2])
        self.last, self.tries = (x, value, g), 0
        self._move(self._direction(value, g).mul_(self.rate).add_(x).clamp_(0, 1))
        return True

    def _flat(self, t: Tensor) -> Tensor:
        """Return a tensor of the shape of `x` as a row of numbers, in the order of the memory of `x`."""
        if self.x.ndim == 4 and self.x.is_contiguous(memory_format=torch.channels_last):
            return t.permute(0, 2, 3, 1).reshape(-1)
        return t.reshape(-1)

    def _move(self, flat: Tensor) -> None:
        if self.x.ndim == 4 and self.x.is_contiguous(memory_format=torch.channels_last):
            n, c, h, w = self.x.shape
            self.x = flat.view(n, h, w, c).permute(0, 3, 1, 2)
        else:
            self.x = flat.view(self.x.shape)

    def _remember(self, x: Tensor, g: Tensor, last_x: Tensor, last_g: Tensor) -> None:
        i = next(i for i in range(self.rows) if i not in self.order)
        s, y = self.memory[0, i], self.memory[1, i]
        torch.sub(x, last_x, out=s)
        torch.sub(g, last_g, out=y)
        ss, sy, yy = float(s @ s), float(s @ y), float(y @ y)
        if not sy > CURVATURE * (ss * yy) ** 0.5:
            return
        self.used = max(self.used, i + 1)
        # The recursion needs the products of steps with changes, and of changes with changes.
        steps, changes = self.memory[0, : self.used], self.memory[1, : self.used]
        by_step, by_change, of_changes = (t.double().cpu() for t in (changes @ s, steps @ y, changes @ y))
        self.mixed[i, : self.used], self.mixed[: self.used, i] = by_step, by_change
        self.changes[i, : self.used] = self.changes[: self.used, i] = of_changes
        self.order = [*self.order, i][-self.history :]

    def _direction(self, value: float, g: Tensor) -> Tensor:
        """Return minus the inverse Hessian, as far as it is known, times the gradient."""
        if not self.order:
            return g * (-FIRST_STEP * value / max(float(g @ g), 1e-30))
        n = self.used
        along = (self.memory[:, :n] @ g).double().cpu().tolist()  # of the steps, and of the changes
        sy, yy = self.mixed.tolist(), self.changes.tolist()
        # Coefficients in the direction: of each step, of each change, and of g.
        of_steps, of_changes, gain, alphas = [0.0] * n, [0.0] * n, 1.0, {}
        for i in reversed(self.order):
            alphas[i] = (along[0][i] + sum(sy[i][j] * of_changes[j] for j in self.order)) / sy[i][i]
            of_changes[i] -= alphas[i]
        last = self.order[-1]
        gain = sy[last][last] / yy[last][last]
        of_changes = [gain * c for c in of_changes]
        for i in self.order:
            product = gain * along[1][i]
            product += sum(sy[j][i] * of_steps[j] + yy[i][j] * of_changes[j] for j in self.order)
            of_steps[i] += alphas[i] - product / sy[i][i]
        weights = self.memory.new_tensor([of_steps, of_changes])
        step = g * -gain
        for rows, w in zip(self.memory[:, :n], weights, strict=True):
            step.addmv_(rows.t(), w, alpha=-1)
        return step

    def state_dict(self) -> dict[str, Any]:
        """Return all of it, as tensors and plain values."""
        return {
            "x": self.x,
            "memory": self.memory,
            "mixed": self.mixed,
            "changes": self.changes,
            "order": self.order,
            "used": self.used,
            "last": self.last,
            "tries": self.tries,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        device, last = self.x.device, state["last"]
        self.x, self.memory = state["x"].to(device), state["memory"].to(device)
        self.mixed, self.changes, self.used = state["mixed"], state["changes"], state["used"]
        self.last = None if last is None else (last[0].to(device), last[1], last[2].to(device))
        self.order, self.tries = list(state["order"]), state["tries"]
