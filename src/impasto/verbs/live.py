"""The verb `live`: paint what a camera sees."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro
from typing_extensions import Doc

from ..options import LiveOptions
from ..options.kinds import INT
from ..ranges import Range
from .arguments import Flat
from .show import say

DEFAULT_STYLE = "starry-night"


@dataclass(frozen=True)
class Live:
    """Paint what a camera sees, in the browser or in a window."""

    styles: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[STYLE ...]", help_behavior_hint=""),
        Doc(
            "Pictures, style files or built-in styles (see `impasto styles`). Several styles are blended. Default: "
            f"{DEFAULT_STYLE}."
        ),
    ] = ()
    source: Annotated[
        str | None,
        tyro.conf.arg(metavar="SOURCE"),
        Doc(
            "What to paint: `camera` or `camera:1`, `screen` or a region `screen:640x360+0+0` (width, height, left, "
            "top), or a film, which is played again and again. Default: the browser's camera, or this machine's for "
            "a window."
        ),
    ] = None
    show: Annotated[
        Literal["browser", "window", "virtual-camera"],
        Doc(
            "Where to show it. `window` needs an OpenCV with windows; without one, the browser is used. "
            "`virtual-camera` needs the extra `camera`; other programs then see the painting as a camera."
        ),
    ] = "browser"
    port: Annotated[
        int, INT, Doc("Port of the page, which only this machine reaches; 0 picks a free one."), Range(0, 65535)
    ] = 7860
    options: Annotated[LiveOptions, Flat] = field(default_factory=LiveOptions)

    def __call__(self) -> None:
        from ..video.extra import prepare

        prepare()
        from ..stylizers.sources import resolve_style
        from ..tools.live import KEYS, LiveLoop, VirtualCamera, Window, show_live, why_no_window
        from ..tools.progress import start_logging
        from ..video.camera import open_camera
        from ..video.live import LivePainter

        start_logging()
        styles, show = self.styles or (DEFAULT_STYLE,), self.show
        if show == "window" and (reason := why_no_window()):
            say(f"{reason}: showing it in the browser")
            show = "browser"
        if show == "browser":
            from ..tools.web.extra import prepare as prepare_web

            prepare_web()
            from ..tools.web.live_page import serve_live

            serve_live(styles, self.source, self.options, self.port, say)
            return
        screen = Window() if show == "window" else VirtualCamera(self.options.rate, self.options.largest)
        camera = open_camera(self.source or "camera", self.options.size or self.options.largest)
        painter = LivePainter(resolve_style, styles, self.options)
        say(KEYS if show == "window" else "Ctrl-C stops it")
        show_live(LiveLoop(camera, painter), screen)
