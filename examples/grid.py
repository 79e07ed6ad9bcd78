"""Paint every photograph in every style and arrange the paintings: photographs down the side, styles along the top.

python examples/grid.py --photos a.jpg b.jpg --styles great-wave painting.jpg --out grid.jpg
python examples/grid.py --photos a.jpg b.jpg --styles great-wave painting.jpg --out grid.jpg --quality good
"""

import argparse
from pathlib import Path

from PIL import Image, ImageOps

import impasto

GAP = 3


def square(picture: Image.Image, side: int) -> Image.Image:
    """Crop a picture to a square around its middle."""
    return ImageOps.fit(picture.convert("RGB"), (side, side), Image.Resampling.LANCZOS)


def main() -> None:
    """Paint and write the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--styles", type=Path, nargs="+", required=True, help="pictures")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--method", default="auto", choices=("auto", "optimize", "network"))
    parser.add_argument(
        "--quality",
        default="instant",
        choices=("instant", "draft", "good", "best"),
        help="--method optimize needs another than instant",
    )
    parser.add_argument("--size", type=int, default=512, help="long side of the paintings, in pixels")
    parser.add_argument("--cell", type=int, default=200, help="side of a cell, in pixels")
    args = parser.parse_args()
    step = args.cell + GAP
    columns, rows = len(args.styles) + 1, len(args.photos) + 1
    grid = Image.new("RGB", (columns * step - GAP, rows * step - GAP), "white")

    def put(picture: Image.Image, column: int, row: int) -> None:
        grid.paste(square(picture, args.cell), (column * step, row * step))

    photos = [Image.open(p).convert("RGB") for p in args.photos]
    for row, photo in enumerate(photos, 1):
        put(photo, 0, row)
    for column, style in enumerate(args.styles, 1):
        put(Image.open(style), column, 0)
        for row, photo in enumerate(photos, 1):
            put(impasto.stylize(photo, style, method=args.method, quality=args.quality, size=args.size), column, row)
    grid.save(args.out, quality=88, optimize=True)


if __name__ == "__main__":
    main()
