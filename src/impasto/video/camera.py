"""Cameras: this machine's, its screen, or a film that is played as if it were one.

A camera does not wait. Frames that nobody took in time are dropped, so that what is shown is never late by more than
the frame that is being painted.
"""

import re
import sys
import threading
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import ImageGrab

from ..errors import FilmError, OptionError
from ..image.resize import fit_size
from .film import Film, Pixels, even
from .read import open_film

SCREEN_RATE = 30.0
"""Pictures taken of the screen per second."""
LEAST_GAP = 0.001
"""Minimum seconds to wait after a frame, so that a film without times does not keep a core busy."""
CAMERA = re.compile(r"camera(?::([0-9]{1,2}))?")
REGION = re.compile(r"screen(?::([0-9]{1,5})x([0-9]{1,5})\+([0-9]{1,5})\+([0-9]{1,5}))?")


class Camera(Protocol):
    """A source of frames (H, W, 3), uint8, sRGB, which it delivers at its own pace."""

    name: str

    def frames(self) -> Generator[Pixels, None, None]:
        """Yield frames until the camera ends. Closing the generator releases the camera."""
        ...


def open_camera(source: str, largest: int) -> Camera:
    """Open what a text names: `camera`, `camera:1`, `screen`, `screen:640x360+0+0`, or the path of a film.

    Parameters
    ----------
    largest : int
        Long side to which the frames of a film are reduced, in pixels.

    Raises
    ------
    ImpastoError
        If it cannot be opened.
    """
    if found := CAMERA.fullmatch(source):
        return DeviceCamera(int(found[1] or 0))
    if found := REGION.fullmatch(source):
        return ScreenCamera(None if found[1] is None else tuple(int(n) for n in found.groups()))
    if re.match(r"(camera|screen):", source):
        raise OptionError(f"--source {source}: write it as camera:1 or screen:640x360+0+0")
    return FilmCamera(open_film(Path(source)), largest)


class FilmCamera:
    """A film, played again and again at its own speed.

    Parameters
    ----------
    film : Film
        The film.
    largest : int
        Long side to which its frames are reduced, in pixels.
    repeat : bool
        Whether to begin again at its end.
    """

    def __init__(self, film: Film, largest: int, repeat: bool = True):
        self.film, self.name, self.repeat = film, film.about.name, repeat
        self.size = even(fit_size(film.about.size, long_side=largest))

    def frames(self) -> Generator[Pixels, None, None]:
        """Yield the frames, each at its own time. Frames that cannot be decoded are left out."""
        about = self.film.about
        gap = float(1 / about.rate)
        begin = time.monotonic()
        while True:
            last = 0.0
            with closing(self.film.frames(self.size)) as frames:
                for frame in frames:
                    last = float((frame.time - about.first) * about.time_base)
                    time.sleep(max(LEAST_GAP, begin + last - time.monotonic()))
                    if frame.pixels is not None:
                        yield np.ascontiguousarray(as_uint8(frame.pixels)[..., :3])
            if not self.repeat:
                return
            begin = max(begin + last + gap, time.monotonic())


def as_uint8(pixels: Pixels) -> Pixels:
    """Return pixels with 8 bits per sample."""
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


class DeviceCamera:
    """A camera of this machine.

    Parameters
    ----------
    number : int
        Which one, counted from 0.

    Raises
    ------
    FilmError
        If it does not exist, or another program uses it.
    """

    def __init__(self, number: int):
        self.name = f"camera {number}"
        before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it would print its own complaint
        try:
            self.device = cv2.VideoCapture(number)
        finally:
            cv2.utils.logging.setLogLevel(before)
        if not self.device.isOpened():
            raise FilmError(
                f"{self.name} cannot be opened; close other programs that use it, or give --source camera:N or a film"
            )
        self.device.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def frames(self) -> Generator[Pixels, None, None]:
        """Yield the frames until the camera is unplugged."""
        try:
            while True:
                good, pixels = self.device.read()
                if not good:
                    return
                yield cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        finally:
            self.device.release()


class ScreenCamera:
    """The screen, or a region of it.

    Parameters
    ----------
    region : tuple of int, optional
        Width, height, left and top in pixels; the whole screen if not given.

    Raises
    ------
    FilmError
        If there is no screen that can be seen from here.
    """

    def __init__(self, region: tuple[int, ...] | None):
        self.name, self.box = "the screen", None
        if region is not None:
            width, height, left, top = region
            self.box = (left, top, left + width, top + height)
        self.grab()

    def grab(self) -> Pixels:
        """Return what the screen shows now. Raises FilmError if it cannot be seen."""
        try:
            return np.asarray(ImageGrab.grab(self.box).convert("RGB"))
        except (OSError, ValueError) as error:
            where = "; set DISPLAY" if sys.platform.startswith("linux") else ""
            raise FilmError(
                f"the screen cannot be seen from here ({error}){where}, or give a film or a camera"
            ) from error

    def frames(self) -> Generator[Pixels, None, None]:
        """Yield what the screen shows, at a steady rate."""
        following = time.monotonic()
        while True:
            yield self.grab()
            following = max(following + 1 / SCREEN_RATE, time.monotonic())
            time.sleep(max(LEAST_GAP, following - time.monotonic()))


class Newest:
    """The newest frame of a camera, which a thread reads. Older frames are dropped.

    Parameters
    ----------
    camera : Camera
        The camera.
    """

    def __init__(self, camera: Camera):
        self.camera = camera
        self.number, self.taken, self.dropped = 0, 0, 0
        self.error: BaseException | None = None
        self._pixels: Pixels | None = None
        self._state = threading.Condition()
        self._stopped = self._ended = False
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            with closing(self.camera.frames()) as frames:
                for pixels in frames:
                    with self._state:
                        if self._pixels is not None:
                            self.dropped += 1
                        self.number, self._pixels = self.number + 1, pixels
                        self._state.notify_all()
                        if self._stopped:
                            return
        except BaseException as error:
            self.error = error
        finally:
            with self._state:
                self._ended = True
                self._state.notify_all()

    def take(self) -> tuple[int, Pixels] | None:
        """Wait for a frame that was not taken yet, and return its number and the frame. None after the last one.

        Raises
        ------
        ImpastoError
            If the camera failed.
        """
        with self._state:
            self._state.wait_for(lambda: self._pixels is not None or self._ended)
            if self._pixels is None:
                if self.error is not None:
                    raise self.error
                return None
            pixels, self._pixels = self._pixels, None
            self.taken = self.number
            return self.number, pixels

    def close(self) -> None:
        """Stop reading, and release the camera."""
        with self._state:
            self._stopped = True
        self._thread.join(5.0)
