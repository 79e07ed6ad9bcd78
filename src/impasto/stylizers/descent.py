"""Optimise a picture at one scale: the parameters, the optimisers and the choice of the painting."""

import copy
import math
from collections import deque
from collections.abc import Callable, Sequence
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
"""Number of iterations over which a plateau is detected."""
PLATEAU_FINISH = 12
"""Iterations that Adam still takes at a scale after a plateau, with a falling rate."""
LEVELS, LEAST_BAND = 5, 16
"""Maximum number of bands of a Laplacian pyramid, and minimum short side of the coarsest band in pixels."""


class Parameters:
    """The parameters of a picture that Adam optimises by its pixels. L-BFGS has none: it keeps the picture itself.

    Parameters
    ----------
    x : Tensor
        (1, 3, H, W), [0, 1]; or several, or none.
    """

    def __init__(self, *x: Tensor):
        self.tensors = [t.clone(memory_format=torch.preserve_format).requires_grad_(True) for t in x]

    def picture(self) -> Tensor:
        """Return the picture (1, 3, H, W), differentiable in the parameters."""
        return self.tensors[0]

    @torch.no_grad()
    def clamp(self) -> None:
        """Clamp the picture to [0, 1]."""
        self.tensors[0].clamp_(0, 1)


class Pyramid(Parameters):
    """A picture as a Laplacian pyramid (Burt, Adelson 1983), in which large shapes move as easily as details.

    Kolkin et al. optimise a pyramid in "Neural Neighbor Style Transfer", 2022, and in STROTSS, 2019.

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
        """Return a band resized to the next finer one, `like`."""
        return self.interpolate(x, (like.shape[-2], like.shape[-1]), mode="bilinear")

    def picture(self) -> Tensor:
        """Return the sum of the bands, (1, 3, H, W)."""
        x = self.tensors[-1]
        for band in reversed(self.tensors[:-1]):
            x = self.enlarged(x, band) + band
        return x

    @torch.no_grad()
    def clamp(self) -> None:
        """Clamp the picture to [0, 1] by changing its finest band."""
        x = self.picture()
        self.tensors[0] += x.clamp(0, 1) - x


class Descent:
    """Optimise a picture at one scale, one iteration at a time.

    Parameters
    ----------
    loss : callable
        Takes a picture and returns the terms and their sum `total`, which is minimised.
    x : Tensor
        (1, 3, H, W), the picture to start from.
    scale : Scale
        The iterations and the rate.
    options : OptimizeOptions
        The optimiser and its settings.
    carried : dict, optional
        Optimiser state of the previous scale (`carry`).
    wrap : bool
        Whether the picture tiles the plane.
    lbfgs : callable
        Takes the picture and the rate and returns the L-BFGS to use.
    before : callable
        Takes the index of the picture that the loss is evaluated for next: 0 for the first of the scale.
    canvas : callable
        Makes a painting of the picture, differentiably. The loss and everything returned are those of paintings.
    """

    def __init__(
        self,
        loss: Callable[[Tensor], dict[str, Tensor]],
        x: Tensor,
        scale: Scale,
        options: OptimizeOptions,
        carried: dict[str, Tensor] | None = None,
        wrap: bool = False,
        lbfgs: "Callable[[Tensor, float], LBFGS] | None" = None,
        before: Callable[[int], object] = lambda index: None,
        canvas: Callable[[Tensor], Tensor] = lambda picture: picture,
    ):
        self.loss, self.scale, self.options, self.before, self.canvas = loss, scale, options, before, canvas
        self.parameters = Parameters()
        self.optimiser: torch.optim.Adam | LBFGS
        if options.optimizer == "adam":
            self.parameters = Pyramid(x, wrap) if options.pyramid else Parameters(x)
            self.optimiser = torch.optim.Adam(self.parameters.tensors, lr=scale.rate, betas=BETAS)
        else:
            self.optimiser = (lbfgs or LBFGS)(x, scale.rate)
        tensors = self.parameters.tensors
        if carried and options.carry and isinstance(self.optimiser, torch.optim.Adam) and len(tensors) == 1:
            self._take(carried, self.optimiser)
        self.best, self.best_losses, self.iteration = canvas(x), {"total": math.inf}, 0
        self.average = torch.zeros_like(x) if options.average else None
        self.averaged = 0.0  # the sum of the average's weights so far, below 1
        self.done, self.pace = 0.0, 1 / scale.iterations
        self.recent: deque[float] = deque(maxlen=PLATEAU_SPAN + 1)
        self._terms: dict[str, Tensor] | None = None

    @property
    def left(self) -> int:
        """The number of iterations left."""
        return max(0, math.ceil((1 - self.done) / self.pace - 1e-6))

    @property
    def painted(self) -> Tensor:
        """The painting so far: the best by the total loss, or the average."""
        if self.average is None:
            return self.best
        return (self.average / max(self.averaged, 1e-12)).clamp(0, 1)

    def measured(self) -> dict[str, float]:
        """Return the losses of `painted`. Those of the best picture are known; for the average they are evaluated."""
        if self.average is None:
            return self.best_losses
        with torch.no_grad():
            return {k: float(v) for k, v in self.loss(self.painted).items()}

    def step(self) -> dict[str, float]:
        """Take one iteration and return the losses of the painting that it made.

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
        """Take a step of Adam and return the new painting, clamped to [0, 1], and its losses.

        The rate rises linearly, then falls by a cosine.
        """
        if self._terms is None:
            x = self.canvas(self.parameters.picture())
            self.before(self.iteration)
            self._terms = self.loss(x)
            if not self.iteration:
                self.best_losses = self._finite(x, self._terms)  # of the first picture, up to a pyramid's rounding
        assert isinstance(self.optimiser, torch.optim.Adam)
        self.optimiser.param_groups[0]["lr"] = self.scale.rate * rate_factor(self.done + 0.5 * self.pace)
        self.optimiser.zero_grad()
        self._terms["total"].backward()
        self.optimiser.step()
        self.parameters.clamp()
        self._terms = None  # free the graph before the next is built
        x = self.canvas(self.parameters.picture())
        self.before(self.iteration + 1)
        self._terms = self.loss(x)  # the next iteration takes its gradient
        return x.detach().clamp(0, 1), self._finite(x, self._terms)  # a pyramid's sum exceeds [0, 1] by rounding

    def _lbfgs(self) -> tuple[Tensor, dict[str, float]]:
        """Return the current painting and its losses, and take a step of L-BFGS from it."""
        assert isinstance(self.optimiser, LBFGS)
        # The optimiser never changes a picture in place.
        x = self.optimiser.x.detach().contiguous(memory_format=torch.channels_last).requires_grad_(True)
        self.before(self.iteration)
        painting = self.canvas(x)
        terms = self.loss(painting)
        losses = self._finite(painting, terms)
        if self.optimiser.keeps(losses["total"]):
            terms["total"].backward()
        gradient, x.grad = x.grad, None
        self.optimiser.step(losses["total"], gradient)
        return painting.detach(), losses

    def _finite(self, x: Tensor, terms: dict[str, Tensor]) -> dict[str, float]:
        # Check the picture too: a fused ReLU turns NaN into 0. A GPU is waited for once, for all numbers.
        *values, sum_of_pixels = torch.stack([*(v.detach().float() for v in terms.values()), x.detach().sum()]).tolist()
        losses = dict(zip(terms, values, strict=True))
        if not math.isfinite(losses["total"] + sum_of_pixels):
            h, w = self.scale.size
            raise DivergedError(
                f"the loss is no longer finite at iteration {self.iteration + 1} of the {w}x{h} scale; "
                f"lower --rate (now {self.scale.rate:g})"
            )
        return losses

    def carry(self) -> dict[str, Tensor]:
        """Return Adam's moments for the next scale, or nothing with L-BFGS or a pyramid."""
        if not isinstance(self.optimiser, torch.optim.Adam) or len(self.parameters.tensors) > 1:
            return {}
        state = self.optimiser.state[self.parameters.tensors[0]]
        return {k: state[k] for k in ("step", "exp_avg", "exp_avg_sq")}

    def _take(self, carried: dict[str, Tensor], optimiser: torch.optim.Adam) -> None:
        """Take over Adam's moments from a scale of another size.

        The loss is a mean over pixels, so its gradients are inversely proportional to their number.
        """
        (x,) = self.parameters.tensors
        ratio = carried["exp_avg"][0, 0].numel() / x[0, 0].numel()
        optimiser.state[x] = {
            "step": carried["step"].clone(),
            "exp_avg": ratio * _resized(carried["exp_avg"], x),
            "exp_avg_sq": ratio**2 * _resized(carried["exp_avg_sq"], x),
        }

    def state(self) -> dict[str, Any]:
        """Return the whole state as tensors and plain values. With the same loss, `load` continues exactly from it."""
        return {
            "tensors": [t.detach().clone() for t in self.parameters.tensors],
            "optimiser": self._optimiser_state(),
            "best": self.best,
            "best_losses": self.best_losses,
            "average": self.average,
            "values": [self.iteration, self.averaged, self.done, self.pace],
            "recent": list(self.recent),
        }

    def _optimiser_state(self) -> dict[str, Any]:
        """Return a copy of the optimiser's state, since later steps change it in place."""
        if isinstance(self.optimiser, LBFGS):
            return self.optimiser.snapshot()
        return copy.deepcopy(self.optimiser.state_dict())

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        with torch.no_grad():
            for mine, theirs in zip(self.parameters.tensors, state["tensors"], strict=True):
                mine.copy_(theirs)
        self.optimiser.load_state_dict(state["optimiser"])
        self.best, self.best_losses = state["best"].to(self.best.device), state["best_losses"]
        self.average = None if self.average is None else state["average"].to(self.average.device)
        self.iteration, self.averaged, self.done, self.pace = state["values"]
        self.recent.extend(state["recent"])


def _resized(x: Tensor, like: Tensor) -> Tensor:
    """Return a tensor (1, C, h, w) in the size and memory layout of `like`."""
    layout = torch.channels_last if like.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return F.interpolate(x, like.shape[-2:], mode="bilinear").to(memory_format=layout, copy=True)


HISTORY = 5
"""Number of steps in memory; 20 reach the same loss within 0.5 % and cost more memory and time."""
FIRST_STEP = 1.25
"""Factor on the first step's length, f / |g|^2, at which a linear loss would be zero: the minimum is near zero."""
CURVATURE = 1e-6
"""Minimum cosine between a step and the change of its gradient for the pair to be kept."""
QUARTERINGS = 6
"""Maximum number of times a step is quartered; then the memory is cleared and the step follows the gradient."""


class LBFGS:
    """Minimise a function of one tensor in [0, 1] by L-BFGS without a line search.

    Liu, Nocedal, "On the Limited Memory BFGS Method for Large Scale Optimization", Mathematical Programming 45, 1989.
    A line search costs several evaluations of the networks. Instead every step is taken in full, and a step that
    increases the loss is undone and quartered. Pixels are clamped after every step; excluding those at 0 and 1 from the
    direction, as projected methods do, made no difference to paintings.

    The direction is a linear combination of the stored steps, the stored changes of the gradient and the gradient, so
    only their scalar products are needed to find it (Chen, Wang, Zhou, "Large-scale L-BFGS using MapReduce", NIPS
    2014).

    Parameters
    ----------
    x : Tensor
        The starting point; any shape, float32.
    rate : float
        Factor on every step; 1 is the full quasi-Newton step.
    history : int
        Number of steps in memory.
    """

    def __init__(self, x: Tensor, rate: float = 1.0, history: int = HISTORY):
        self.x, self.rate, self.history = x.detach().clone(memory_format=torch.preserve_format), rate, history
        self._reserve()
        self.mixed = torch.zeros(self.rows, self.rows, dtype=torch.float64)  # products of steps (rows) and changes
        self.changes = torch.zeros(self.rows, self.rows, dtype=torch.float64)  # products of changes and changes
        self.order: list[int] = []  # the rows in use, oldest first
        self.used = 0  # number of rows ever used
        self.last: tuple[Tensor, float, Tensor] | None = None  # the best point so far: picture, value, gradient
        self.tries = 0

    def _reserve(self) -> None:
        """Reserve the memory for the pairs of a step and the change of its gradient."""
        self.rows = self.history + 1  # a pair is measured before it replaces the oldest one
        self.memory = self.x.new_zeros(2, self.rows, self.x.numel())  # steps, and changes of the gradient
        self.products = torch.zeros(2, 0, dtype=torch.float64)  # of these with the gradient

    def keeps(self, value: float) -> bool:
        """Return whether `step` will keep the step to `x`, given its value. Only then is the gradient needed."""
        return self.last is None or value <= self.last[1] or self.tries >= QUARTERINGS

    def step(self, value: float, gradient: Tensor | None) -> bool:
        """Take the value and the gradient at `x`, and move `x` to the next point to evaluate.

        Parameters
        ----------
        value : float
            The value.
        gradient : Tensor or None
            The gradient, in the shape of `x`; may be None if the step is not kept (`keeps`).

        Returns
        -------
        bool
            Whether the previous step was kept.
        """
        x = self._flat(self.x)
        if self.last is not None and not self.keeps(value):
            self.tries += 1
            self._move(torch.lerp(self.last[0], x, 0.25))
            return False
        assert gradient is not None
        g = self._flat(gradient.detach())
        if self.tries >= QUARTERINGS:
            self.order = []
        elif self.last is not None:
            self._remember(x, g, self.last[0], self.last[2])
        self.last, self.tries = (x, value, g), 0
        self._move(self._direction(value, g).mul_(self.rate).add_(x).clamp_(0, 1))
        return True

    def _flat(self, t: Tensor) -> Tensor:
        """Return a tensor of the shape of `x` flattened in the memory order of `x`."""
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
        # The recursion needs the products of steps with changes, of changes with changes, and of all with the gradient.
        # A GPU is waited for once, for all of them.
        n = max(self.used, i + 1)
        steps, changes = self.memory[:, :n]
        found = torch.cat([changes @ s, steps @ y, changes @ y, steps @ g, changes @ g, (s @ s)[None]]).cpu().double()
        (by_step, by_change, of_changes, *along), ss = found[:-1].view(5, n), float(found[-1])
        if by_step[i] > CURVATURE * (ss * float(of_changes[i])) ** 0.5:
            self.used = n
            self.mixed[i, :n], self.mixed[:n, i] = by_step, by_change
            self.changes[i, :n] = self.changes[:n, i] = of_changes
            self.order = [*self.order, i][-self.history :]
        self.products = torch.stack(along)[:, : self.used]

    def _direction(self, value: float, g: Tensor) -> Tensor:
        """Return minus the estimate of the inverse Hessian times the gradient."""
        if not self.order:
            return self._first(value, g)
        of_steps, of_changes, gain = self._coefficients(self.products.tolist())
        weights = self.memory.new_tensor([of_steps, of_changes])
        step = g * -gain
        for rows, w in zip(self.memory[:, : self.used], weights, strict=True):
            step.addmv_(rows.t(), w, alpha=-1)
        return step

    def _first(self, value: float, g: Tensor) -> Tensor:
        """Return the direction of the first step."""
        return g * (-FIRST_STEP * value / max(float(g @ g), 1e-30))

    def _coefficients(self, along: Sequence[Sequence[float]]) -> tuple[list[float], list[float], float]:
        """Return the coefficients of minus the direction: of each step, each change, and the gradient.

        Parameters
        ----------
        along : (2, used) floats
            Products of the steps and of the changes with the gradient.
        """
        n, sy, yy = self.used, self.mixed.tolist(), self.changes.tolist()
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
        return of_steps, of_changes, gain

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state as tensors and plain values."""
        return {**self._numbers(), "memory": self.memory}

    def snapshot(self) -> dict[str, Any]:
        """Return a state that later steps leave as it is."""
        return copy.deepcopy(self.state_dict())

    def _numbers(self) -> dict[str, Any]:
        """Return the state without the pairs."""
        return {
            "x": self.x,
            "mixed": self.mixed,
            "changes": self.changes,
            "order": self.order,
            "used": self.used,
            "last": self.last,
            "tries": self.tries,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self._load_numbers(state)
        self.memory = state["memory"].to(self.x.device)

    def _load_numbers(self, state: dict[str, Any]) -> None:
        device, last = self.x.device, state["last"]
        self.x = state["x"].to(device)
        self.mixed, self.changes, self.used = state["mixed"], state["changes"], state["used"]
        self.last = None if last is None else (last[0].to(device), last[1], last[2].to(device))
        self.order, self.tries = list(state["order"]), state["tries"]
