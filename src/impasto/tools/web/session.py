"""Handle the page's events: call the engine and update the widgets."""

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
from .jobs import PictureJob
from .painter import as_frame, frame_size, jpeg
from .uploads import Request, Upload, without_folder
from .widgets import WORDS, duration, shown

LOOK_SECONDS = 0.1
MOST_STYLES, REGIONS = 6, 3
ONLY = "only"
"""The page's name of the mask of where to paint."""
MASK_PREFIX, PREVIEW_PREFIX = "data:image/png;base64,", "data:image/jpeg;base64,"
BROWSERS_SHOW = frozenset(("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"))
"""Pillow's names of the formats that every browser shows without our preview."""
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, RuntimeError, Image.DecompressionBombError)
"""Exceptions that libraries raise for a file that is not a picture."""
QUALITIES: tuple[Quality, ...] = ("instant", "draft", "good", "best")


def title_of(style: str) -> str:
    """Return a built-in style's name as a title."""
    return style.replace("-", " ").title()


def page_controls() -> dict[str, Control]:
    """Return the page's controls, without the style weights, which have their own sliders."""
    painting = {k: c for k, c in controls(StylizeOptions).items() if k != "style_weights"}
    return {**painting, **controls(OutputOptions)}


def own_name(path: str) -> str:
    """Return the name of a visitor's file without its folder."""
    return Path(path).name


class Session:
    """Handlers of the page's events.

    Parameters
    ----------
    engine : Engine
        The engine that paints.
    """

    def __init__(self, engine: Engine):
        self.engine = engine
        self.controls = page_controls()

    def options(self, values: Sequence[Any], weights: Sequence[float]) -> tuple[StylizeOptions, OutputOptions]:
        """Return the options from the widgets' values. Raises OptionError if they do not fit together."""
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
        """Queue a painting and wait until it ends. It is stopped if the page is closed."""
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
        """Return the request from the widgets' values. Raises OptionError if something is missing."""
        if not photo:
            raise OptionError("Choose a photograph first.")
        names = [*sorted(styles), *(f"file:{i}" for i in range(1, len(own) + 1))]
        if not names:
            raise OptionError("Choose a style, or add a picture of your own.")
        if len(names) > MOST_STYLES:
            raise OptionError(f"{len(names)} styles are chosen; choose at most {MOST_STYLES}.")
        painted = read_masks(masks)
        parts = []
        for number, style in enumerate(regions, 1):
            mask = painted.get(str(number))
            if mask is not None and not style:
                raise OptionError(f"Region {number} is marked but has no style: choose one, or clear the region.")
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
        """Return the list of the session's kept paintings, newest first."""
        jobs = [j for i in ids if (j := self.engine.find(i, PictureJob)) is not None]
        return gr.Radio([(self.describe(j), j.id) for j in jobs], value=None, visible=bool(jobs))

    def describe(self, job: PictureJob) -> str:
        """Return a short description of a painting: styles, quality and size."""
        names = [title_of(s) if s in builtin_names() else Path(s).stem for s in job.paint.styles]
        size = "" if job.size is None else f", {job.size[1]}×{job.size[0]}"
        return f"{' + '.join(names)} ({job.paint.options.quality}{size})"

    def load(self, job_id: str | None) -> tuple[Any, ...]:
        """Return the widgets' values of an earlier painting, so that it can be changed and painted again."""
        job = self.engine.find(job_id or "", PictureJob)
        if job is None:
            raise said(OptionError("This painting is no longer available."))
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
        """Return the photograph as a data URL if browsers cannot show its file, else an empty string."""
        if not photo or is_shown_by_browsers(photo):
            return ""
        try:
            with self.engine.reading:
                picture = read_image(photo, max_megapixels=self.engine.options.max_megapixels, sized=frame_size)
        except ImpastoError as error:
            raise said(error, Path(photo).parent) from error
        return PREVIEW_PREFIX + base64.b64encode(jpeg(over_white(as_frame(picture.pixels)))).decode()

    def estimates(self, photo: str | None, *values: Any) -> Any:
        """Return the choices of quality, with the size and the estimated time for this photograph."""
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
                pass  # reported when it is painted
            found.append((label, quality))
        return gr.Radio(found)

    def weigh(self, styles: list[str] | None, own: list[str] | None) -> list[Any]:
        """Return the sliders of the styles' weights, one for each of several styles, and the regions' choices."""
        names = [*(title_of(s) for s in sorted(styles or ())), *(own_name(p) for p in own or ())]
        sliders = [
            gr.Slider(label=f"Weight of {names[i]}", visible=True)
            if i < len(names) > 1
            else gr.Slider(visible="hidden")
            for i in range(MOST_STYLES)
        ]
        return [*sliders, *[gr.Dropdown(choices=style_choices(own or [])) for _ in range(REGIONS)]]

    def leave(self, request: gr.Request) -> None:
        """Remove the jobs of a page that was closed."""
        self.engine.remove_of(request.session_hash or "")


def style_choices(own: Sequence[str]) -> list[tuple[str, str]]:
    """Return the choices for a region's style."""
    files = [(own_name(p), f"file:{i}") for i, p in enumerate(own, 1)]
    return [*files, *((title_of(n), n) for n in builtin_names())]


def read_file(path: str) -> Upload:
    """Read a file that the page uploaded."""
    return Upload(Path(path).name, Path(path).read_bytes())


def said(error: ImpastoError, folder: Path | None = None) -> gr.Error:
    """Return an error for the page, without the path of the visitor's files."""
    text = str(error) if folder is None else without_folder(str(error), folder)
    return gr.Error(text, print_exception=False)


def is_shown_by_browsers(path: str) -> bool:
    """Return whether every browser can show the picture."""
    try:
        with Image.open(path) as image:
            return image.format in BROWSERS_SHOW
    except UNREADABLE:
        return False


def photo_size(path: str) -> tuple[int, int] | None:
    """Return height and width of a picture in pixels from its header, or None if it cannot be read."""
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
    """Return the masks drawn with the brush: name -> PNG, white where drawn. Empty masks are left out.

    Raises
    ------
    OptionError
        If the text is not the page's masks.
    """
    try:
        given = json.loads(text or "{}")
        found = {}
        for name, data in given.items():
            if not data.startswith(MASK_PREFIX):
                raise ValueError("not a PNG")
            with Image.open(io.BytesIO(base64.b64decode(data[len(MASK_PREFIX) :])), formats=["PNG"]) as image:
                alpha = np.asarray(image.convert("RGBA"))[..., 3]
            if alpha.any():
                file = io.BytesIO()
                Image.fromarray(alpha).save(file, "PNG")
                found[str(name)] = file.getvalue()
    except (AttributeError, OSError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise OptionError("the marked regions cannot be read; clear them and mark them again") from error
    return found
