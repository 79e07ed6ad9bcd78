"""The errors that users may see, each with the exit code of the command line.

ImpastoError            1
├── OptionError         2   an option or argument is wrong
├── PictureError        1   a picture cannot be read or written
├── WeightsError        1   weights are missing, damaged or cannot be downloaded
├── StyleError          1   a style is unknown or does not fit the encoder
├── MemoryNeedError     1   the request does not fit into memory
├── DivergedError       1   the optimisation diverged
├── TrainingError       1   training data or a checkpoint is not usable
├── FilmError           1   a film cannot be read or written
├── BrokenFramesError   3   the film is painted, but some of its frames could not be read
└── IncompleteError     3   some of many pictures failed; the rest is done

Each message is one line: which file or option is wrong, why, and what to do next.
"""


class ImpastoError(Exception):
    """Base class of errors caused by the input or the machine, not by a bug."""

    exit_code = 1


class OptionError(ImpastoError):
    """An option or argument is wrong."""

    exit_code = 2


class PictureError(ImpastoError):
    """A picture cannot be read or written."""


class WeightsError(ImpastoError):
    """Weights are missing, damaged or cannot be downloaded."""


class StyleError(ImpastoError):
    """A style is unknown, or was made for another encoder."""


class MemoryNeedError(ImpastoError):
    """The request does not fit into memory."""


class DivergedError(ImpastoError):
    """The optimisation diverged: the loss is no longer finite."""


class TrainingError(ImpastoError):
    """Training data or a checkpoint is not usable."""


class FilmError(ImpastoError):
    """A film cannot be read or written."""


class BrokenFramesError(ImpastoError):
    """A film is painted, but some of its frames could not be read. The paintings before them stand in."""

    exit_code = 3


class IncompleteError(ImpastoError):
    """Some of many pictures failed, and the rest is done."""

    exit_code = 3
