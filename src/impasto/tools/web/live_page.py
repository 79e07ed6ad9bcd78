"""Serve `impasto live`: the studio, whose Live tab shows this machine's camera, or paints the browser's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import OptionError
from ...options import LiveOptions, ServeOptions
from ...stylizers.sources import resolve_style
from ...video.camera import open_camera
from ...video.live import LivePainter
from ..live import LiveLoop
from .live import Given
from .server import serve
from .uploads import Uploads


def serve_live(
    styles: tuple[str, ...], source: str | None, options: LiveOptions, port: int, say: Callable[[str], None]
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Parameters
    ----------
    styles : tuple of str
        Paths or built-in names.
    source : str or None
        This machine's camera, as for `open_camera`; None paints the browser's.
    options : LiveOptions
        The options that pages begin with.
    port : int
        Port on this machine's own address.
    say : callable
        Prints a line to the user who started the server.

    Raises
    ------
    ImpastoError
        If a style or the camera cannot be opened, or the server cannot start.
    """
    sources = {Path(style).name: style for style in styles}
    if len(sources) < len(styles):
        raise OptionError("two styles have the same file name; rename one")
    uploads = Uploads(Path())

    def find(name: str) -> Any:
        path = sources.get(name) or uploads.style(name)  # pages name no other files
        return resolve_style(path, model=options.model, long_side=float(options.size or options.largest))

    painter = LivePainter(find, tuple(sources), options)  # styles that cannot be read are reported now
    loop = None
    if source is not None:
        loop = LiveLoop(open_camera(source, options.size or options.largest), painter)
    device = () if options.device == "auto" else (options.device,)
    serve(ServeOptions(port=port, devices=device), say, Given(tuple(sources), sources, options, loop))
