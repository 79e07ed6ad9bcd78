"""Painting the frames of a film by optimisation, each beginning with the last painting, moved along.

Ruder, Dosovitskiy, Brox, "Artistic Style Transfer for Videos", GCPR 2016. The first frame of a scene is painted as a
picture is. A later one begins with the last painting, moved along the optical flow, and a temporal loss holds it there.

What comes into view begins with the network's steady painting, in the colours of the optimised one. If it began with
the frame itself, it would stay a photograph: a few steps only add strokes.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from ..image.color import fit_colours
from ..options import VideoOptions
from ..style.target import StyleTarget
from ..stylizers.choose import frame_stylizer
from ..stylizers.loss import Before, check_blend
from ..stylizers.protocol import Run, last_image
from .looks import Looks
from .masks import MaskFilm
from .motion import Motion, settled
from .steady import Begun, SteadyPainter

TEMPORAL_WEIGHT = 20.0
"""Weight of the temporal loss at stability 1."""
NARROWER = np.ones((5, 5), np.uint8)
"""Trust is the minimum over a box of this size. Otherwise, colours of the background would stick to moving edges."""
MARGIN = 16.0
"""Pixels from a border at which what comes in there is settled. Nearer, strokes are drawn along the motion."""


class OptimizedPainter(SteadyPainter):
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
    run : callable
        Runs the steps of each frame.

    Raises
    ------
    ImpastoError
        If options, styles, size and machine do not fit together.
    """

    segment = 24
    at_once = 1

    def __init__(
        self,
        styles: Sequence[Tensor | StyleTarget],
        options: VideoOptions,
        size: tuple[int, int],
        masks: MaskFilm | None = None,
        run: Run = last_image,
    ):
        check_blend(options, 1 if options.style_times else len(styles))
        self.stylizer, self.run = frame_stylizer(styles, options.optimising, size), run
        super().__init__(Looks(styles, options, self.stylizer.compute), options, masks)

    def continued(self, photo: Tensor, begun: Begun) -> Tensor:
        """Return the painting (1, 3, H, W), on the CPU, of a frame (1, 3, H, W), which continues the last painting."""
        motion, keys = begun.seen.motion, self.looks.keys
        strength, shares = keys.strength(begun.seconds), keys.shares(begun.seconds)
        if not strength:
            return photo
        before, network = None, begun.alone()
        if motion is not None and self.last is not None and self.options.stability:
            before = self.before(self.last, motion, network)
        return self.stylizer.at(strength, shares).frame(photo, before, self.run, network).cpu().contiguous()

    def before(self, last: Tensor, motion: Motion, network: Tensor) -> Before:
        """Return what the next painting continues.

        Parameters
        ----------
        last : Tensor
            (1, 3, H, W), the last painting.
        motion : Motion
            How the film moved since.
        network : Tensor
            (1, 3, H, W), the network's painting of the frame.
        """
        pixels = motion.moved(last[0].permute(1, 2, 0).contiguous().numpy())
        moved = torch.from_numpy(pixels).permute(2, 0, 1)[None].clamp(0, 1).contiguous()
        holds = cv2.erode(motion.trust, NARROWER) * settled(motion.flow, MARGIN)
        trust = torch.from_numpy(holds)[None, None]
        start = torch.lerp(fit_colours(network, moved, trust), moved, trust)
        return Before(moved, trust, start, TEMPORAL_WEIGHT * self.options.stability)
