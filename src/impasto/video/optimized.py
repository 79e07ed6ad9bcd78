"""Painting the frames of a film by optimisation, each beginning with the last painting, moved along.

Ruder, Dosovitskiy, Brox, "Artistic Style Transfer for Videos", GCPR 2016. The first frame of a scene is painted as a
picture is. A later one begins with the last painting, moved along the optical flow, and a temporal loss holds it there.
What comes into view begins with the frame in the colours of the last painting.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..options import VideoOptions
from ..style.target import StyleTarget
from ..stylizers.choose import frame_stylizer
from ..stylizers.loss import Before, check_blend
from .looks import Keys
from .masks import MaskFilm
from .motion import Motion
from .painter import FramePainter, moved_painting

HIGHEST_WEIGHT = 40.0
"""Weight of the temporal loss at stability 1."""


class OptimizedPainter(FramePainter):
    """Paints the frames of a film by optimisation.

    Parameters
    ----------
    styles : sequence of Tensor or StyleTarget
        The styles: those that are blended throughout or, with `styles_at`, one for each key frame.
    options : VideoOptions
        The options.
    size : (int, int)
        Height and width of the frames in pixels.
    masks : MaskFilm, optional
        Where to paint. The rest stays as it is in the film.

    Raises
    ------
    ImpastoError
        If options, styles, size and machine do not fit together.
    """

    longest_segment = 24

    def __init__(
        self,
        styles: Sequence[Tensor | StyleTarget],
        options: VideoOptions,
        size: tuple[int, int],
        masks: MaskFilm | None = None,
    ):
        super().__init__(options, masks)
        check_blend(options, 1 if options.style_times else len(styles))
        self.keys = Keys(options)
        self.stylizer = frame_stylizer(styles, options.painting, size)
        self.compute = self.stylizer.compute
        self.weight = HIGHEST_WEIGHT * options.stability

    def painted(self, photo: Tensor, seconds: float, motion: Motion | None) -> Tensor:
        """Return the painting (1, 3, H, W), on the CPU, of a frame (1, 3, H, W) and its motion."""
        strength, before = self.keys.strength(seconds), None
        if not strength:
            return photo
        if motion is not None and self.last is not None and self.weight:
            trust = torch.from_numpy(motion.trust)[None, None]
            before = Before(moved_painting(self.last, motion), trust, self.weight)
        return self.stylizer.at(strength, self.keys.shares(seconds)).frame(photo, before).cpu().contiguous()
