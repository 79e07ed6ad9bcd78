"""Live painting in the studio: sessions whose frames a browser sends, and this machine's own camera.

A browser sends a frame, gets its painting, and sends the next one. So nothing queues: what the camera saw meanwhile is
dropped in the browser. Frames that overlap are dropped here.
"""

import io
import itertools
import secrets
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ...errors import OptionError, PictureError
from ...image.source import decoding
from ...options import LiveOptions, ServeOptions
from ...style.target import builtin_names
from ...stylizers.sources import resolve_style
from ...video.extra import prepare
from .engine import BusyError
from .uploads import Upload, Uploads

IDLE_SECONDS = 15.0
"""Seconds without a frame after which a session ends, because its page was closed."""
MOST_BYTES, MOST_PIXELS = 8_000_000, 8_400_000
"""Largest file of a frame, and its most pixels."""
QUALITY = 85
"""Quality of the painted frames' JPEG files."""
WAIT_SECONDS = 5.0
"""Seconds to wait for a frame of this machine's camera."""


@dataclass(frozen=True)
class LiveFrame:
    """A painted frame: a JPEG file, its number, and the rate and long side at which frames are painted now."""

    data: bytes
    number: int
    rate: float
    long_side: int
    lag: int = 0


class Session(Protocol):
    """A camera that is painted live."""

    id: str
    painter: Any

    def view(self) -> dict[str, Any]:
        """Return its state for the HTTP interface."""
        ...


class BrowserSession:
    """Paints the frames that a browser sends.

    Parameters
    ----------
    painter : LivePainter
        The painter.
    folder : Path
        The session's own folder, with its style files.
    """

    def __init__(self, painter: Any, folder: Path):
        self.id, self.painter, self.folder = secrets.token_urlsafe(16), painter, folder
        self.begun = self.used = time.monotonic()
        self._numbers, self._newest, self._turn = itertools.count(1), 0, threading.Lock()
        self._encoding = 0.0

    def paint(self, data: bytes) -> LiveFrame | None:
        """Paint the file of a frame. None if a newer one has come before its turn.

        Raises
        ------
        PictureError
            If it is not a JPEG, PNG or WebP, or too large.
        """
        self._newest = number = next(self._numbers)
        with self._turn:
            if number < self._newest:
                return None
            begun = time.monotonic()
            pixels = decoded_frame(data, self.painter.pacer.long_side)
            painted = self.painter.paint(pixels, time.monotonic() - begun + self._encoding)
            begun = time.monotonic()
            file = as_jpeg(painted.pixels)
            self.used = time.monotonic()
            self._encoding = self.used - begun
            return LiveFrame(file, painted.number, painted.rate, self.painter.pacer.long_side)

    def view(self) -> dict[str, Any]:
        """Return its state for the HTTP interface."""
        return {"id": self.id, "frames": self.painter.number, **state_of(self.painter)}

    def close(self) -> None:
        """Remove its files."""
        shutil.rmtree(self.folder, ignore_errors=True)


class CameraSession:
    """Shows the paintings of this machine's camera to every page that asks.

    Parameters
    ----------
    loop : LiveLoop
        Paints the camera's frames.
    """

    def __init__(self, loop: Any):
        self.id, self.loop, self.painter = secrets.token_urlsafe(16), loop, loop.painter

    def wait(self, after: int) -> LiveFrame | None:
        """Return the newest painted frame, once its number is larger than `after`. None if none comes in time."""
        shown = self.loop.wait(after, WAIT_SECONDS)
        if shown is None:
            return None
        painted = shown.painted
        return LiveFrame(as_jpeg(painted.pixels), painted.number, painted.rate, self.painter.pacer.long_side, shown.lag)

    def view(self) -> dict[str, Any]:
        """Return its state for the HTTP interface."""
        return {"id": self.id, "frames": self.painter.number, **state_of(self.painter)}


def state_of(painter: Any) -> dict[str, Any]:
    """Return what a painter paints, for the HTTP interface."""
    height, width = painter.size
    return {
        "styles": [Path(s).name for s in painter.styles],
        "strength": painter.options.strength,
        "stability": painter.options.stability,
        "rate": round(painter.rate, 2),
        "long_side": painter.pacer.long_side,
        **({"size": [width, height]} if height else {}),
    }


@dataclass(frozen=True)
class Given:
    """What `impasto live` was started with: styles, options, and this machine's camera if it is the source.

    Parameters
    ----------
    styles : tuple of str
        Names that pages use for the styles.
    sources : mapping
        Name -> path or built-in name, for the styles above.
    options : LiveOptions
        The options that pages begin with.
    loop : LiveLoop or None
        Paints this machine's camera.
    """

    styles: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    options: LiveOptions = field(default_factory=LiveOptions)
    loop: Any = None


class LiveStage:
    """The live sessions of a server.

    Parameters
    ----------
    options : ServeOptions
        The server's limits.
    folder : Path
        Where to keep the sessions' style files.
    given : Given
        What the server was started with.
    """

    def __init__(self, options: ServeOptions, folder: Path, given: Given | None = None):
        self.options, self.folder, self.given = options, folder, given or Given()
        self.own = None if self.given.loop is None else CameraSession(self.given.loop)
        self._sessions: dict[str, BrowserSession] = {}
        self._lock = threading.Lock()

    def begin(self, styles: Sequence[str], style_files: Sequence[Upload], changes: Mapping[str, Any]) -> BrowserSession:
        """Begin a session.

        Parameters
        ----------
        styles : sequence of str
            Names of styles that the server was started with or that are built in, or `file:1` for the first file. If
            empty, all files are used.
        style_files : sequence of Upload
            Pictures and style files.
        changes : mapping
            Options that differ from those that the server was started with.

        Raises
        ------
        BusyError
            If the maximum number of sessions is reached.
        ImpastoError
            If the extra `video` is missing, or the session cannot be painted.
        """
        prepare()
        from ...video.live import LivePainter

        self._check_room()
        options = replace(self.given.options, **changes)
        if max(options.size or 0, options.largest) > self.options.max_size:
            long = self.options.max_size
            options = replace(options, size=min(options.size, long)) if options.size else replace(options, largest=long)
        device = self.options.devices[0] if self.options.devices else "auto"
        folder = self.folder / f"live-{secrets.token_hex(8)}"
        folder.mkdir()
        try:
            uploads = Uploads(folder)
            uploads.put_styles(style_files)

            def find(name: str) -> Any:
                source = self.given.sources.get(name) or uploads.style(name)
                long = float(options.size or options.largest)
                return resolve_style(source, self.options.max_megapixels, options.model, long)

            names = tuple(styles) or tuple(f"file:{i}" for i in range(1, len(uploads.styles) + 1))
            if not names:
                raise OptionError("no style given; name a built-in style, or send a picture or style file")
            session = BrowserSession(LivePainter(find, names, replace(options, device=device, offline=True)), folder)
            with self._lock:
                self._check_room()
                self._sessions[session.id] = session
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return session

    def _check_room(self) -> None:
        self.tidy()
        if len(self._sessions) >= self.options.max_live:
            raise BusyError(
                "other cameras are being painted already; try again in a minute"
                if self.options.max_live
                else "this server paints no cameras (--max-live 0)"
            )

    def find(self, session_id: str) -> BrowserSession | CameraSession | None:
        """Return a session by its id, None if it has ended."""
        self.tidy()
        if self.own is not None and session_id == self.own.id:
            return self.own
        return self._sessions.get(session_id)

    def end(self, session: BrowserSession | CameraSession) -> None:
        """End a session. This machine's own camera goes on."""
        if isinstance(session, BrowserSession):
            self._sessions.pop(session.id, None)
            session.close()

    def tidy(self) -> None:
        """End the sessions that are idle, or longer than a painting may take."""
        now = time.monotonic()
        for session in list(self._sessions.values()):
            if now - session.used > IDLE_SECONDS or now - session.begun > self.options.max_seconds:
                self.end(session)

    def close(self) -> None:
        """End everything."""
        for session in list(self._sessions.values()):
            self.end(session)
        if self.own is not None:
            self.own.loop.close()

    def view(self) -> dict[str, Any]:
        """Return what a page begins with."""
        given, options = self.given, self.given.options
        found: dict[str, Any] = {
            "styles": list(given.styles),
            "own_styles": [s for s in given.styles if s not in builtin_names()],
            "strength": options.strength,
            "stability": options.stability,
            "rate": options.rate,
            "largest": options.largest,
        }
        found |= {} if options.size is None else {"size": options.size}
        if self.own is not None:
            found |= {"camera": self.own.loop.camera.name, "id": self.own.id}
        return found


def decoded_frame(data: bytes, long_side: int) -> Any:
    """Return a frame's file as pixels (H, W, 3), uint8. Large JPEG files are reduced while they are decoded.

    Raises
    ------
    PictureError
        If it is not a JPEG, PNG or WebP, or too large.
    """
    with decoding("the frame"), Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
        if image.width * image.height > MOST_PIXELS:
            raise PictureError(f"the frame has {image.width}x{image.height} pixels; send at most {MOST_PIXELS}")
        if min(image.size) < 8:
            raise PictureError(f"the frame has {image.width}x{image.height} pixels; send at least 8 a side")
        image.draft("RGB", (long_side, long_side))
        return np.asarray(image.convert("RGB"))


def as_jpeg(pixels: Any) -> bytes:
    """Return pixels (H, W, 3), uint8, as the bytes of a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
