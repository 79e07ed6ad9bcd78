"""Paint many pictures in one style on several devices. Each picture is painted on one device."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue
from threading import Event
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from ..device import with_gradients
from ..errors import ImpastoError, OptionError
from ..image.decode import Sized
from ..image.read import like, to_picture
from ..options import OptimizeOptions
from ..options.changes import StylizeChanges
from .choose import choose_stylizer, planned_size, stylize_options
from .protocol import Step, Stylizer
from .sources import StyleSource, resolve_start, resolve_styles

AHEAD = 2
"""Pictures per device that are in progress or waiting for the caller. Bounds the memory."""


@with_gradients
def stylize_many(
    contents: Iterable[Any],
    style: StyleSource | Sequence[StyleSource],
    options: OptimizeOptions | None = None,
    *,
    devices: Sequence[str] | None = None,
    **changes: Unpack[StylizeChanges],
) -> Iterator[Any]:
    """Paint many photographs in one style, one per device at a time.

    Each device has its own stylizer, which takes the next photograph when it finishes one. Give several devices only if
    they are GPUs: workers on the CPU would share its cores.

    Parameters
    ----------
    contents : iterable
        The photographs, each of any kind that `stylize` takes. Read in order, a few ahead.
    style, options, **changes
        As for `stylize`.
    devices : sequence of str, optional
        `cuda:0`, `cuda:1` ... By default all GPUs if the option `device` is `auto` or `cuda`, else that device.

    Yields
    ------
    For each photograph, in order, its painting as the same kind of picture (a PIL image for a path), or the
    ImpastoError that it failed with: one bad photograph does not end the work. Closing the iterator early stops each
    thread after its current step.

    Raises
    ------
    ImpastoError
        Immediately, if options, styles and devices do not fit together.

    Examples
    --------
    >>> for path, painting in zip(paths, impasto.stylize_many(paths, "starry-night")):  # doctest: +SKIP
    ...     if not isinstance(painting, impasto.ImpastoError):
    ...         painting.save(path.with_suffix(".painted.png"))
    """
    if isinstance(contents, str | os.PathLike):
        raise OptionError(f"contents is the one path {contents}; give a list of photographs")
    chosen = stylize_options(options, changes)
    names = available_devices(chosen.device) if devices is None else devices
    if isinstance(names, str) or not names:
        raise OptionError(f"devices is {names!r}; give a list of names, as in ['cuda:0', 'cuda:1']")
    styles, start = resolve_styles(style, chosen.model), resolve_start(chosen)
    # A photograph that is scaled by a factor must be read at full size.
    sized = None if chosen.scale is not None else (lambda size: planned_size(size, replace(chosen, device=names[0])))
    return _paint([choose_stylizer(styles, replace(chosen, device=d), start) for d in names], contents, sized)


def available_devices(device: str) -> list[str]:
    """Return the devices that `--device` stands for: every GPU for `auto` and `cuda` if there is one, else itself."""
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") and torch.cuda.is_available() else 0
    return [f"cuda:{i}" for i in range(gpus)] or [device]


def _paint(stylizers: Sequence[Stylizer], contents: Iterable[Any], sized: Sized | None) -> Iterator[Any]:
    """Yield the paintings in the order of the contents, or the errors in their places."""
    idle: SimpleQueue[Stylizer] = SimpleQueue()
    for stylizer in stylizers:
        idle.put(stylizer)
    closed = Event()

    def paint(content: Any) -> Any:
        stylizer = idle.get()
        try:
            photo = to_picture(content, sized=sized)
            image = _last_image(stylizer.steps(photo.pixels), closed)
            return None if image is None else like(photo.with_tensor(image.cpu()), content)
        except ImpastoError as error:
            return error
        finally:
            idle.put(stylizer)

    pending: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(len(stylizers), "impasto") as pool:
        try:
            for content in contents:
                pending.append(pool.submit(paint, content))
                if len(pending) == AHEAD * len(stylizers):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            closed.set()
            for future in pending:
                future.cancel()


def _last_image(steps: Iterator[Step], closed: Event) -> Tensor | None:
    """Return the image of the last step, (1, 3, H, W), or None once `closed` is set."""
    last: Step | None = None
    for step in steps:
        if closed.is_set():
            return None
        last = step
    assert last is not None, "a stylizer yields at least one step"
    return last.image
