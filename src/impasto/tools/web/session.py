"""What the page does when something is chosen, clicked or loaded again: calls of the engine, on a session's jobs."""

import asyncio
import base64
import binascii
import io
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from ...errors import ImpastoError, OptionError
from ...image.heif import heif_size
from ...image.picture import over_white
from ...image.read import read_image
from ...options import OutputOptions, Quality, StylizeOptions
from ...style.target import builtin_names
from ...stylizers.schedule import painting_size
from .controls import Control, controls, options_of
from .engine import Engine
from .jobs import Job
from .painter import as_frame, frame_size, jpeg
from .uploads import Request, Upload, without_folder
from .widgets import WORDS, duration, shown

LOOK_SECONDS = 0.1
MOST_STYLES, REGIONS = 6, 3
ONLY = "only"
"""What the page calls the mask of where to paint at all."""
MASK_PREFIX, PREVIEW_PREFIX = "data:image/png;base64,", "data:image/jpeg;base64,"
BROWSERS_SHOW = frozenset(("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"))
"""Formats of photographs that need no preview of ours, as Pillow names them."""
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, RuntimeError, Image.DecompressionBombError)
"""What libraries raise for a file that is no picture."""
QUALITIES: tuple[Quality, ...] = ("instant", "draft", "good", "best")


def title_of(style: str) -> str:
    """A built-in style's name as people read it."""
    return style.replace("-", " ").title()


def page_controls() -> dict[str, Control]:
    """The controls of the page; the weights of styles are sliders of their own there."""
    painting = {k: c for k, c in controls(StylizeOptions).items() if k != "style_weights"}
    return {**painting, **controls(OutputOptions)}


def own_name(path: str) -> str:
    """A visitor's file as the page calls it."""
    return Path(path).name


class Session:
    """The page's events, on an engine.

    Parameters
    ----------
    engine : Engine
        What paints.
    """

    def __init__(self, engine: Engine):
        self.engine = engine
        self.controls = page_controls()

    def options(self, values: Sequence[Any], weights: Sequence[float]) -> tuple[StylizeOptions, OutputOptions]:
        """The options that the widgets' values make; OptionError if they do not fit."""
        given = dict(zip(self.controls, values, strict=True))
        output = {k: given.pop(k) for k in controls(OutputOptions)}
        options: StylizeOptions = options_of(given)
        if len(set(weights)) > 1:
            options = replace(options, style_weights=tuple(float(w) for w in weights))
        return options, replace(options_of(output, OutputOptions), max_megapixels=self.engine.options.max_megapixels)

    async def paint(
        self,
        request: gr.Request,
        masks: str,
        photo: str | None,
        styles: list[str] | None,
        own: list[str] | None,
        ids: list[str],
        *rest: Any,
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Put a painting into the queue and see it to its end; when the page goes away, it is stopped."""
        weights, rest = rest[:MOST_STYLES], rest[MOST_STYLES:]
        regions, values = rest[:REGIONS], rest[REGIONS:]
        try:
            wanted = self.request(masks, photo, styles or [], own or [], regions)
            options, output = self.options(values, weights[: len(wanted.styles)])
            owner = request.session_hash or ""
            job = await asyncio.to_thread(self.engine.submit, wanted, options, output, owner)
        except ImpastoError as error:
            raise said(error) from error
        try:
            yield job.id, job.command, ids, gr.skip()
            while not job.has_ended:
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            if not job.has_ended:
                self.engine.cancel(job)
        if job.has_picture:
            ids = [job.id, *ids]
        yield gr.skip(), gr.skip(), ids, self.history(ids)

    def request(
        self, masks: str, photo: str | None, styles: list[str], own: list[str], regions: Sequence[str | None]
    ) -> Request:
        """What the page's widgets ask for; OptionError if something is missing."""
        if not photo:
            raise OptionError("Choose a photograph first.")
        names = [*sorted(styles), *(f"file:{i}" for i in range(1, len(own) + 1))]
        if not names:
            raise OptionError("Choose a style, or bring a picture of your own.")
        if len(names) > MOST_STYLES:
            raise OptionError(f"{len(names)} styles are chosen; {MOST_STYLES} at most blend.")
        painted = read_masks(masks)
        parts = []
        for number, style in enumerate(regions, 1):
            mask = painted.get(str(number))
            if mask is not None and not style:
                raise OptionError(f"Region {number} is painted, but has no style: choose one, or clear the region.")
            if mask is not None:
                parts.append((Upload(f"region-{number}.png", mask), str(style)))
        only = painted.get(ONLY)
        return Request(
            read_file(photo),
            tuple(names),
            tuple(read_file(p) for p in own),
            tuple(parts),
            None if only is None else Upload("mask.png", only),
        )

    def history(self, ids: Sequence[str]) -> Any:
        """The list of a session's paintings that are still kept, the newest first."""
        jobs = [j for i in ids if (j := self.engine.find(i)) is not None]
        return gr.Radio([(self.describe(j), j.id) for j in jobs], value=None, visible=bool(jobs))

    def describe(self, job: Job) -> str:
        """A painting in a few words."""
        names = [title_of(s) if s in builtin_names() else Path(s).stem for s in job.paint.styles]
        size = "" if job.size is None else f", {job.size[1]}×{job.size[0]}"
        return f"{' + '.join(names)} ({job.paint.options.quality}{size})"

    def load(self, job_id: str | None) -> tuple[Any, ...]:
        """The widgets' values of a painting of this session, so that it can be changed and painted again."""
        job = self.engine.find(job_id or "")
        if job is None:
            raise said(OptionError("That painting is no longer kept."))
        builtin = [s for s in job.paint.styles if s in builtin_names()]
        own = [s for s in job.paint.styles if s not in builtin]
        both = {**job.paint.options.to_dict(), **vars(job.paint.output)}
        values = [shown(c, both[name]) for name, c in self.controls.items()]
        given = job.paint.options.style_weights or (1.0,) * len(job.paint.styles)
        weights = [*given, *[1.0] * (MOST_STYLES - len(given))]
        references = {s: s for s in builtin_names()} | {p: f"file:{i}" for i, p in enumerate(own, 1)}
        regions: list[str | None] = [None] * REGIONS
        for mask, style in job.paint.regions:
            regions[int(Path(mask).stem.rpartition("-")[2]) - 1] = references.get(style)
        choices = style_choices(own)
        parts = [gr.Dropdown(choices=choices, value=r) for r in regions]
        return job.paint.content, builtin, own or None, *weights, *parts, *values, job.id, job.command

    def preview(self, photo: str | None) -> str:
        """The photograph as a data address, if browsers cannot show its file as it is; else nothing."""
        if not photo or is_shown_by_browsers(photo):
            return ""
        try:
            with self.engine.reading:
                picture = read_image(photo, max_megapixels=self.engine.options.max_megapixels, sized=frame_size)
        except ImpastoError as error:
            raise said(error, Path(photo).parent) from error
        return PREVIEW_PREFIX + base64.b64encode(jpeg(over_white(as_frame(picture.pixels)))).decode()

    def estimates(self, photo: str | None, *values: Any) -> Any:
        """The quality's choices, each with the size and the time that it comes to for this photograph."""
        found = []
        size = photo_size(photo) if photo else None
        for quality in QUALITIES:
            label = WORDS[quality]
            try:
                options, _ = self.options(values, ())
                options = replace(options, quality=quality)
                if size is not None:
                    long = max(painting_size(size, options))
                    seconds = self.engine.pace.seconds(size, options)
                    label += f"\n{long} px, about {duration(seconds)}"
            except OptionError:
                pass  # said when it is painted
            found.append((label, quality))
        return gr.Radio(found)

    def weigh(self, styles: list[str] | None, own: list[str] | None) -> list[Any]:
        """The sliders of the styles' weights: one for each, where there are several."""
        names = [*(title_of(s) for s in sorted(styles or ())), *(own_name(p) for p in own or ())]
        sliders = [
            gr.Slider(label=f"Weight of {names[i]}", visible=True)
            if i < len(names) > 1
            else gr.Slider(visible="hidden")
            for i in range(MOST_STYLES)
        ]
        return [*sliders, *[gr.Dropdown(choices=style_choices(own or [])) for _ in range(REGIONS)]]

    def leave(self, request: gr.Request) -> None:
        """The page was closed: its work ends, and its files go."""
        self.engine.remove_of(request.session_hash or "")


def style_choices(own: Sequence[str]) -> list[tuple[str, str]]:
    """What a region's style is chosen from."""
    files = [(own_name(p), f"file:{i}") for i, p in enumerate(own, 1)]
    return [*files, *((title_of(n), n) for n in builtin_names())]


def read_file(path: str) -> Upload:
    """A file that the page uploaded."""
    return Upload(Path(path).name, Path(path).read_bytes())


def said(error: ImpastoError, folder: Path | None = None) -> gr.Error:
    """An error as the page says it, without the folder where the visitor's files lie."""
    text = str(error) if folder is None else without_folder(str(error), folder)
    return gr.Error(text, print_exception=False)


def is_shown_by_browsers(path: str) -> bool:
    """Whether every browser shows the picture."""
    try:
        with Image.open(path) as image:
            return image.format in BROWSERS_SHOW
    except UNREADABLE:
        return False


def photo_size(path: str) -> tuple[int, int] | None:
    """Height and width of a picture in pixels, from its header; None if it has none that is known."""
    try:
        with Path(path).open("rb") as file:
            found = heif_size(file)
        if found is not None:
            return found
        with Image.open(path) as image:
            return image.height, image.width
    except UNREADABLE:
        return None


def read_masks(text: str) -> dict[str, bytes]:
    """What was painted with the brush: which mask -> a PNG, white where it is; nothing of an empty one.

    Raises
    ------
    OptionError
        If the page sent something else.
    """
    try:
        given = json.loads(text or "{}")
        found = {}
        for name, data in given.items():
            if not data.startswith(MASK_PREFIX):
                raise ValueError("no PNG")
            with Image.open(io.BytesIO(base64.b64decode(data[len(MASK_PREFIX) :])), formats=["PNG"]) as image:
                alpha = np.asarray(image.convert("RGBA"))[..., 3]
            if alpha.any():
                file = io.BytesIO()
                Image.fromarray(alpha).save(file, "PNG")
                found[str(name)] = file.getvalue()
    except (AttributeError, OSError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise OptionError("the painted regions cannot be read; clear them and paint them again") from error
    return found
