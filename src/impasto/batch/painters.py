"""The stylizers of a batch, made once for each look and kept, and pictures of the same size in one pass."""

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..errors import ImpastoError
from ..image.picture import Picture
from ..options import OutputOptions
from ..stylizers.choose import choose_stylizer
from ..stylizers.colours import ColourKeeper
from ..stylizers.network import NetworkStylizer
from ..stylizers.network_memory import strip_budget
from ..stylizers.protocol import Step
from ..stylizers.sources import resolve_start, resolve_style
from ..tools.job import PaintJob, describe
from ..tools.pace import at_own_size
from ..tools.run import make_record
from .pictures import Found
from .plan import Look

KEPT = 64
"""Stylizers that are kept."""
PASS_PIXELS = {"cpu": 2**20}
"""Device -> pixels of one pass of the network beyond which more pictures make it hardly faster."""
GPU_PASS_PIXELS = 2**23
MOST_PER_PASS = 64
"""Maximum number of pictures in one pass."""

Painting = tuple[Picture, dict[str, Any]]
"""A painting, and its record."""


class Painters:
    """The painters of a batch, one for each look.

    Parameters
    ----------
    output : OutputOptions
        The options of reading and writing, for the records and for reading styles.
    per_pass : int or None
        Most pictures in one pass; None for as many as make it faster.
    """

    def __init__(self, output: OutputOptions, per_pass: int | None = None):
        self.output, self.per_pass = output, per_pass
        self.kept: OrderedDict[Look, Painter | ImpastoError] = OrderedDict()
        self.same: dict[Any, bool] = {}

    def of(self, look: Look) -> "Painter":
        """Return the painter of a look. Raises ImpastoError, each time, if it cannot be made."""
        if look not in self.kept:
            try:
                self.kept[look] = Painter(look, self.output, self.per_pass, self.same)
            except ImpastoError as error:
                self.kept[look] = error
            if len(self.kept) > KEPT:
                self.kept.popitem(last=False)
        self.kept.move_to_end(look)
        found = self.kept[look]
        if isinstance(found, ImpastoError):
            raise found
        return found


class Painter:
    """A stylizer with a style bound, and the record of what it paints.

    Parameters
    ----------
    look : Look
        The style and the options.
    output, per_pass
        As for `Painters`.
    same : dict
        Whether a pass of several pictures gives the same bits as passes of one: a cache, shared by all painters.
    """

    def __init__(self, look: Look, output: OutputOptions, per_pass: int | None, same: dict[Any, bool]):
        options, limit = look.options, output.limit
        style = resolve_style(look.style, limit, options.model)
        self.stylizer = choose_stylizer([style], options, resolve_start(options, limit))
        self.options, self.per_pass, self.same = options, per_pass, same
        job = PaintJob("", (look.style,), options, output)
        self.described = {"method": self.stylizer.method, **describe(job, self.stylizer.compute)}

    def most(self, photo: Found) -> int:
        """Return how many photographs like this one to paint in one pass."""
        inner = self.stylizer.inner if isinstance(self.stylizer, ColourKeeper) else self.stylizer
        if not isinstance(inner, NetworkStylizer) or photo.cutout:
            return 1
        (height, width), most = photo.size, self.per_pass
        if most is None:
            best = PASS_PIXELS.get(inner.compute.device.type, GPU_PASS_PIXELS) // (height * width)
            most = min(MOST_PER_PASS, best)
        limit, _ = strip_budget(inner.compute, self.options.max_memory)
        while most > 1 and limit is not None and inner.memory_need((most * height, width)) > limit:
            most //= 2
        return max(1, most)

    def each(self, photos: Sequence[Found]) -> Iterator[tuple[Painting | Exception, float]]:
        """Paint photographs of the same size, and yield for each its painting, or its error, and the seconds.

        If they cannot be painted together, they are painted one by one.
        """
        begun = time.perf_counter()
        try:
            found = self.paint(photos)
        except (ImpastoError, RuntimeError, MemoryError) as error:
            if len(photos) > 1:  # one of them may be at fault, or together they are too large
                for photo in photos:
                    yield from self.each([photo])
            else:
                yield readable(error), time.perf_counter() - begun
            return
        seconds = (time.perf_counter() - begun) / len(photos)
        yield from ((painting, seconds) for painting in found)

    def paint(self, photos: Sequence[Found]) -> list[Painting]:
        """Paint photographs of the same size.

        On the CPU, they are painted in one pass only if that gives the same bits as one by one. That is not so where
        the processor's library computes several small pictures differently, so each size and number is tested once.

        Raises
        ------
        ImpastoError
            If they cannot be painted.
        """
        compute, several = self.stylizer.compute, len(photos) > 1
        key = self.options.model, str(compute), self.options.strength == 1, photos[0].shape, len(photos)
        if several and self.same.get(key) is False:
            return [painting for photo in photos for painting in self._pass([photo])]
        found = self._pass(photos)
        if several and key not in self.same and compute.device.type == "cpu":
            ((alone, _),) = self._pass(photos[-1:])
            self.same[key] = torch.equal(alone.tensor, found[-1][0].tensor)
            if not self.same[key]:
                return self.paint(photos)
        return found

    def _pass(self, photos: Sequence[Found]) -> list[Painting]:
        """Paint photographs of the same size in one pass."""
        pictures = [photo.packed.picture for photo in photos]
        # What was reduced while it was read must not be scaled again.
        stylizer = at_own_size(self.stylizer) if pictures[0].size == photos[0].size else self.stylizer
        last: Step | None = None
        for step in stylizer.steps(torch.cat([picture.pixels for picture in pictures])):
            last = step
        assert last is not None, "a stylizer yields at least one step"
        found = []
        for i, (picture, photo) in enumerate(zip(pictures, photos, strict=True)):
            own = replace(last, painted=last.image[i : i + 1], finish=None)
            record = make_record({**self.described, "content": dict(photo.entry)}, own, True)
            found.append((picture.with_tensor(own.image.cpu()), record))
        return found


def readable(error: Exception) -> ImpastoError:
    """Return an error of painting with a message in one line."""
    if isinstance(error, ImpastoError):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "alloc" in text.lower() or "out of memory" in text.lower():
        return ImpastoError("out of memory; try a smaller --size")
    return ImpastoError(f"it could not be painted ({type(error).__name__}: {text})")
