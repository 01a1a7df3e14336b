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
    from poolbench.pooling import POOLS, create_pool

    names = POOLS.names() if arguments.pools is None else [name.strip() for name in arguments.pools.split(",")]
    for name in names:  # a wrong name is told before anything is drawn
        create_pool(name, channels=3)
    windows = [arguments.output / f"windows.{kind}" for kind in ("png", "svg")]
    if {path.resolve() for path in windows} & {path.resolve() for path in arguments.images}:
        raise ValueError(f"windows.png in --output {arguments.output} would take the place of your image of that name")
    images = [gallery.load_image(path, arguments.size) for path in arguments.images]
    for image, path in zip(images or [gallery.scene(arguments.size)], _places(arguments), strict=True):
        gallery.draw_gallery(image, names, path, arguments.seed)
        print(path)
    for path in windows:
        gallery.draw_windows(["max", "average"] if arguments.pools is None else names, path, arguments.seed)
        print(path)
    return 0


def _places(arguments: argparse.Namespace) -> list[Path]:
    """Where each image's figure goes: under the image's name, in the place of no other figure and of no image."""
    taken = {path.resolve() for path in arguments.images} | {(arguments.output / "windows.png").resolve()}
    places: list[Path] = []
    for stem in [path.stem for path in arguments.images] or ["scene"]:
        free = (arguments.output / f"{stem}{suffix}.png" for suffix in ("", *(f"-{n}" for n in range(2, 10**6))))
        place = next(path for path in free if path.resolve() not in taken)
        taken.add(place.resolve())
        places.append(place)
    return places
