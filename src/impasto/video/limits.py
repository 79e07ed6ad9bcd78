"""Limits on films that strangers send: the formats that are read, and how large and how long a film may be.

Some formats are lists of other files and addresses, which FFmpeg would open: playlists, concatenations, manifests. A
stranger's film is only read if it is one of the formats that hold everything themselves.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from ..errors import FilmError
from .film import Description, Film, Frame

SELF_CONTAINED = "mov,matroska,avi,mpegts,mpeg,ogg,flv,gif"
"""FFmpeg's names of formats that name no other files. `mov` includes MP4, `matroska` includes WebM."""
HIGHEST_RATE = 240
"""Frames a second assumed at most for a film without a usable rate."""


@dataclass(frozen=True)
class Limits:
    """Limits on a stranger's film.

    Parameters
    ----------
    megapixels : float
        Largest frame, in megapixels.
    seconds : float
        Longest part that is painted.
    frames : int
        Most frames that are painted.
    """

    megapixels: float
    seconds: float
    frames: int

    @property
    def opening(self) -> Mapping[str, str]:
        """FFmpeg's options for opening a file: only formats that hold everything themselves, and no network."""
        return {"format_whitelist": SELF_CONTAINED, "protocol_whitelist": "file"}

    @property
    def decoding(self) -> Mapping[str, str]:
        """FFmpeg's options for decoding: frames that grow later are refused by the decoder."""
        return {"max_pixels": str(int(1e6 * self.megapixels))}

    def check_frame(self, name: str, width: int, height: int) -> None:
        """Raise FilmError if a frame of that size is too large."""
        if width * height > 1e6 * self.megapixels:
            raise FilmError(
                f"{name} has frames of {width}x{height}, and at most {self.megapixels:g} megapixels are accepted; make "
                "the film smaller first"
            )

    def check_length(self, about: Description) -> None:
        """Raise FilmError if the length that a film states is too long. `Limited` checks films that do not state it."""
        if about.seconds is None:
            return
        if about.seconds > self.seconds:
            raise FilmError(self.too_long(about.name, f"lasts {about.seconds:.0f} s"))
        rate = min(about.rate, Fraction(HIGHEST_RATE))
        if about.seconds * rate > self.frames:
            raise FilmError(self.too_many(about.name, f"about {round(about.seconds * rate)}"))

    def too_long(self, name: str, what: str) -> str:
        """Return the message that a film is too long."""
        return f"{name} {what}, and at most {self.seconds:g} s are accepted; choose a part with --start and --end"

    def too_many(self, name: str, count: str) -> str:
        """Return the message that a film has too many frames."""
        return f"{name} has {count} frames, and at most {self.frames} are accepted; give --end, or a lower --fps"


@dataclass(frozen=True)
class Limited:
    """A film that ends with an error when it turns out to be longer than allowed, whatever length it states.

    Parameters
    ----------
    film : Film
        The film, or the part of it that is painted.
    limits : Limits
        The limits.

    Raises
    ------
    FilmError
        If it says that it is longer.
    """

    film: Film
    limits: Limits

    def __post_init__(self) -> None:
        self.limits.check_length(self.about)

    @property
    def about(self) -> Description:
        """What is known of the film."""
        return self.film.about

    def frames(self, size: tuple[int, int], after: int | None = None) -> Generator[Frame, None, None]:
        """Yield the frames, as `Film.frames`. Raises FilmError at the first frame beyond the limits."""
        about = self.about
        for number, frame in enumerate(self.film.frames(size, after)):
            if number >= self.limits.frames:
                raise FilmError(self.limits.too_many(about.name, f"more than {self.limits.frames}"))
            if (frame.time - about.first) * about.time_base > self.limits.seconds:
                raise FilmError(self.limits.too_long(about.name, "is longer than it says"))
            yield frame
