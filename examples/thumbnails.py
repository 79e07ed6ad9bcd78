"""Paint the studio's thumbnails: one free photograph in each built-in style, as small JPEGs among the page's files.

python examples/thumbnails.py --all                      # at the default quality
python examples/thumbnails.py --all --method network     # with the network
"""

import argparse
from pathlib import Path

from PIL import Image

import impasto
from impasto.style.target import builtin_names

HERE = Path(__file__).parent
FOLDER = HERE.parent / "src" / "impasto" / "tools" / "web" / "static" / "thumbnails"
SIDE = 160


def main() -> None:
    """Paint the missing thumbnails, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=HERE / "photo.jpg")
    parser.add_argument("--size", type=int, default=256, help="long side of the paintings, in pixels")
    parser.add_argument("--method", default="optimize", choices=("network", "optimize"))
    parser.add_argument("--iterations", type=int, help="iterations of the optimisation")
    parser.add_argument("--all", action="store_true", help="also paint existing thumbnails")
    args = parser.parse_args()
    options = {"size": args.size, "method": args.method, "iterations": args.iterations}
    FOLDER.mkdir(parents=True, exist_ok=True)
    with Image.open(args.photo) as photo:
        photo = photo.convert("RGB")
    for name in builtin_names():
        path = FOLDER / f"{name}.jpg"
        if args.all or not path.exists():
            painting: Image.Image = impasto.stylize(photo, name, **options)
            painting.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            painting.save(path, "JPEG", quality=82, optimize=True)
            print(name, path.stat().st_size)


if __name__ == "__main__":
    main()
