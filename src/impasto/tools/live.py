"""Paint what a camera sees, and show it in a window or as a virtual camera. Needs the extra `video`."""

import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import cv2

from ..errors import ImpastoError
from ..image.resize import fit_size
from ..style.target import builtin_names
from ..video.camera import Camera, Newest
from ..video.film import Pixels, even
from ..video.live import LivePainter, Painted

log = logging.getLogger(__name__)

STRENGTH_STEP, MOST_STRENGTH = 0.1, 1.5
KEYS = "n and p change the style, + and - the strength, q quits"
TITLE = "Impasto"


@dataclass(frozen=True)
class Shown:
    """A painted frame, and what became of the frames around it.

    Parameters
    ----------
    painted : Painted
        The painting.
    lag : int
        Frames that the camera delivered while it was painted.
    dropped : int
        Frames of the camera that were never painted.
    """

    painted: Painted
    lag: int
    dropped: int


class LiveLoop:
    """Paints the newest frame of a camera again and again, in a thread. The newest painting can be waited for.

    Parameters
    ----------
    camera : Camera
        The camera.
    painter : LivePainter
        Paints its frames.
    """

    def __init__(self, camera: Camera, painter: LivePainter):
        self.camera, self.painter = camera, painter
        self.error: BaseException | None = None
        self._shown: Shown | None = None
        self._state = threading.Condition()
        self._ended = False
        self._newest = Newest(camera)
        self._thread = threading.Thread(target=self._work, name="live", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            while not self._ended and (found := self._newest.take()) is not None:
                number, pixels = found
                painted = self.painter.paint(pixels)
                with self._state:
                    self._shown = Shown(painted, self._newest.number - number, self._newest.dropped)
                    self._state.notify_all()
        except BaseException as error:
            self.error = error
        finally:
            with self._state:
                self._ended = True
                self._state.notify_all()

    def wait(self, after: int = 0, timeout: float = 5.0) -> Shown | None:
        """Return the newest painting, once its number is larger than `after`.

        Returns None at the timeout, and after the camera's last frame.

        Raises
        ------
        ImpastoError
            If the camera failed.
        """

        def is_newer() -> bool:
            return self._shown is not None and self._shown.painted.number > after

        with self._state:
            self._state.wait_for(lambda: self._ended or is_newer(), timeout)
            if is_newer():
                return self._shown
        if self.error is not None:
            raise self.error
        return None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will be painted."""
        return self._ended

    def close(self) -> None:
        """Stop painting, and release the camera."""
        self._ended = True
        self._newest.close()
        self._thread.join(10.0)


class Keys:
    """What keys do: change the style and the strength of a painter.

    Parameters
    ----------
    painter : LivePainter
        The painter.
    """

    def __init__(self, painter: LivePainter):
        self.painter = painter
        own = [s for s in painter.styles if s not in builtin_names()]
        self.choice: Sequence[str] = [*own, *builtin_names()]

    def press(self, key: str) -> str:
        """Do what a key stands for, and return what to tell the user, empty if nothing changed."""
        if key in ("n", "p"):
            now = self.choice.index(self.painter.styles[0])
            style = self.choice[(now + (1 if key == "n" else -1)) % len(self.choice)]
            self.painter.choose([style])
            return style
        if key in ("+", "=", "-"):
            step = -STRENGTH_STEP if key == "-" else STRENGTH_STEP
            strength = round(min(MOST_STRENGTH, max(0.0, self.painter.options.strength + step)), 2)
            self.painter.choose(strength=strength)
            return f"strength {strength:g}"
        return ""


class Screen(Protocol):
    """Where paintings are shown."""

    def show(self, pixels: Pixels) -> None:
        """Show a painting (H, W, 3), uint8, sRGB."""
        ...

    def key(self) -> str:
        """Return the key that was pressed, empty if none was."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


class Window:
    """A window of OpenCV. Closing it counts as the key q."""

    def __init__(self) -> None:
        cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def show(self, pixels: Pixels) -> None:
        """Show a painting."""
        cv2.imshow(TITLE, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))

    def key(self) -> str:
        """Return the key that was pressed."""
        code = cv2.waitKey(1)
        if cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
            return "q"
        return chr(code & 0xFF) if code >= 0 else ""

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()


def why_no_window() -> str:
    """Return why OpenCV cannot open a window, empty if it can."""
    if not any("GUI:" in line and "NONE" not in line for line in cv2.getBuildInformation().splitlines()):
        return 'this OpenCV has no windows (pip install "opencv-python" in place of opencv-python-headless for them)'
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no screen here (DISPLAY is not set)"
    return ""


class VirtualCamera:
    """A camera that other programs see, of one size. Needs pyvirtualcam.

    Parameters
    ----------
    rate : float
        Frames a second that it promises.

    Raises
    ------
    ImpastoError
        If pyvirtualcam is not installed, or the system has no virtual camera.
    """

    def __init__(self, rate: float, largest: int):
        if find_spec("pyvirtualcam") is None:
            raise ImpastoError('a virtual camera needs pyvirtualcam: pip install "impasto[camera]"')
        self.rate, self.largest = rate, largest
        self.device: Any = None

    def show(self, pixels: Pixels) -> None:
        """Show a painting, at the size of the camera."""
        if self.device is None:
            height, width = even(fit_size((pixels.shape[0], pixels.shape[1]), long_side=self.largest, enlarge=True))
            module = importlib.import_module("pyvirtualcam")
            try:
                self.device = module.Camera(width=width, height=height, fps=self.rate)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise ImpastoError(
                    f"there is no virtual camera ({reason}); set one up as pyvirtualcam's page says"
                ) from error
            log.info("the virtual camera is %s, %dx%d", self.device.device, width, height)
        if pixels.shape[:2] != (self.device.height, self.device.width):
            pixels = cv2.resize(pixels, (self.device.width, self.device.height), interpolation=cv2.INTER_LINEAR)
        self.device.send(pixels)

    def key(self) -> str:
        """Return no key: a camera has none."""
        return ""

    def close(self) -> None:
        """Release the camera."""
        if self.device is not None:
            self.device.close()


def show_live(loop: LiveLoop, screen: Screen) -> None:
    """Show a loop's paintings until the camera ends, or the key q is pressed.

    Raises
    ------
    ImpastoError
        If the camera failed.
    """
    keys, number, told = Keys(loop.painter), 0, time.monotonic()
    try:
        while not loop.has_ended:
            shown = loop.wait(number, timeout=0.2)
            if shown is not None:
                number = shown.painted.number
                screen.show(shown.painted.pixels)
                if time.monotonic() - told > 10:
                    told = time.monotonic()
                    height, width = shown.painted.pixels.shape[:2]
                    log.info("%dx%d, %.1f frames a second, %d late", width, height, shown.painted.rate, shown.lag)
            key = screen.key()
            if key == "q":
                return
            if said := keys.press(key):
                log.info("%s", said)
    finally:
        loop.close()
        screen.close()
