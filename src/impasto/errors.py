"""The errors that a user can meet, each with the exit code of the command line.

ImpastoError            1
├── OptionError         2   an option or argument is wrong
├── PictureError        1   a picture cannot be read or written
├── WeightsError        1   weights are missing, damaged or cannot be fetched
├── StyleError          1   a style is unknown or does not fit the encoder
├── MemoryNeedError     1   what was asked for does not fit into memory
├── DivergedError       1   the optimisation left the finite numbers
└── TrainingError       1   training data or a checkpoint is not usable

Each message is one line: what is wrong with which file or option, and what to do next.
"""


class ImpastoError(Exception):
    """Base of every error that is the input's fault or the machine's, not the program's."""

    exit_code = 1


class OptionError(ImpastoError):
    """An option or argument is wrong."""

    exit_code = 2


class PictureError(ImpastoError):
    """A picture cannot be read or written."""


class WeightsError(ImpastoError):
    """Weights are missing, damaged or cannot be fetched."""


class StyleError(ImpastoError):
    """A style is unknown, or was made for another encoder."""


class MemoryNeedError(ImpastoError):
    """What was asked for does not fit into memory."""


class DivergedError(ImpastoError):
    """The optimisation left the finite numbers."""


class TrainingError(ImpastoError):
    """Training data or a checkpoint is not usable."""
