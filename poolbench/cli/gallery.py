"""Draw what pools do to images: `poolbench gallery photo.jpg --pools max,average,blur_max`.

Writes one figure an image, with a row a pool: its output, the gradient back to the image, repeated halvings, and a draw
of those that draw; and windows.png and windows.svg, a 4x4 map with its 2x2 windows in colours and what the pools make
of it. Without an image a small scene made for it is drawn.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files (default: a built-in scene)")
    parser.add_argument("--output", type=Path, default=Path("gallery"), metavar="DIR", help="folder (default: gallery)")
    parser.add_argument("--pools", metavar="A,B,...", help="names or dotted paths of pools (default: all)")
    parser.add_argument("--size", type=int, default=32, help="side to which images are resized (default: 32)")
    parser.add_argument("--seed", type=int, default=0, help="of untrained weights and draws (default: 0)")


def main(arguments: argparse.Namespace) -> int:
    if not 16 <= arguments.size <= 256:
        raise ValueError(f"--size must be from 16 to 256, got {arguments.size}")
    from poolbench import gallery
    from poolbench.pooling import POOLS

    names = [name.strip() for name in arguments.pools.split(",")] if arguments.pools else POOLS.names()
    gallery.modules(names)
    pictures = {path.stem: gallery.load_image(path, arguments.size) for path in arguments.images}
    for stem, image in (pictures or {"scene": gallery.scene(arguments.size)}).items():
        path = arguments.output / f"{stem}.png"
        gallery.draw_gallery(image, names, path, arguments.seed)
        print(path)
    few = names if arguments.pools and len(names) <= 6 else ["max", "average"]
    for kind in ("png", "svg"):
        path = arguments.output / f"windows.{kind}"
        gallery.draw_windows(few, path)
        print(path)
    return 0
