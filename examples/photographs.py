"""Make the dozen small photographs for `impasto learn` from those of scikit-image.

    python examples/photographs.py src/impasto/weights/photographs

All are in the public domain or CC0: the astronaut Eileen Collins (NASA), Chelsea the cat (Stefan van der Walt), a cup
of coffee (Rachel Michetti), a rocket's launch (SpaceX), and a photographer at work (Lav Varshney).
"""

import sys
from pathlib import Path

import skimage.data
from PIL import Image

SIDE = 288
"""Short side in pixels."""
CROPS = {
    "astronaut": ((0, 0, 512, 512), (120, 0, 408, 288), (0, 224, 288, 512)),
    "chelsea": ((0, 0, 451, 300), (60, 0, 348, 288)),
    "coffee": ((0, 0, 600, 400), (0, 60, 340, 400), (260, 0, 600, 340)),
    "rocket": ((0, 0, 640, 427), (180, 30, 480, 330)),
    "camera": ((0, 0, 512, 512), (90, 40, 402, 352)),
}
"""Photograph -> left, top, right and bottom of each crop, in pixels."""


def main(folder: Path) -> None:
    """Write the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, crops in CROPS.items():
        photo = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        for i, box in enumerate(crops, 1):
            part = photo.crop(box)
            scale = SIDE / min(part.size)
            part = part.resize((round(part.width * scale), round(part.height * scale)), Image.Resampling.LANCZOS)
            part.save(folder / f"{name}-{i}.webp", quality=85, method=6)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
