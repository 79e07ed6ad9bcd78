"""Make the dozen small photographs that `impasto learn` learns styles on, from those of scikit-image.

    python examples/photographs.py src/impasto/weights/photographs.zip

All are in the public domain or CC0: the astronaut Eileen Collins (NASA), Chelsea the cat (Stefan van der Walt), a cup of
coffee (Rachel Michetti), a rocket's launch (SpaceX), and a photographer at work (Lav Varshney).
"""

import sys
import tempfile
from pathlib import Path

import skimage.data
from PIL import Image

from impasto.options import TrainPackOptions
from impasto.train.pack import pack_pictures
from impasto.train.pictures import PictureSet

SIDE = 288
"""Short side in pixels."""
CROPS = {
    "astronaut": ((0, 0, 512, 512), (120, 0, 408, 288), (0, 224, 288, 512)),
    "chelsea": ((0, 0, 451, 300), (60, 0, 348, 288)),
    "coffee": ((0, 0, 600, 400), (0, 60, 340, 400), (260, 0, 600, 340)),
    "rocket": ((0, 0, 640, 427), (180, 30, 480, 330)),
    "camera": ((0, 0, 512, 512), (90, 40, 402, 352)),
}
"""Photograph -> left, top, right and bottom of each part, in pixels."""


def main(out: Path) -> None:
    """Write the packed file."""
    with tempfile.TemporaryDirectory() as folder:
        for name, crops in CROPS.items():
            photo = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
            for i, box in enumerate(crops):
                photo.crop(box).save(Path(folder, f"{name}-{i}.png"))
        options = TrainPackOptions(folders=(Path(folder),), out=out, short_side=SIDE, workers=0)
        packed = pack_pictures(options, PictureSet.open(options.folders, None, SIDE))
    print(f"{out}: {packed.pictures} photographs, {packed.size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
