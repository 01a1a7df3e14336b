"""Time every operator, in all settings, and keep the measurements for the docs.

    python scripts/benchmark_operators.py            # all settings into docs/speed.json; 10 minutes on 2 cores
    python scripts/benchmark_operators.py --peers    # against other packages' layers, outputs compared first

The same measurement on fewer pools or other shapes: ``poolbench bench pools NAME ... --shape N,C,H,W``.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.cli.main import main as poolbench
from poolbench.measure.speed import Setting, time_operators
from poolbench.pooling import create_pool
from poolbench.training.process import set_up

ROOT = Path(__file__).resolve().parents[1]


def peers(channels: int) -> dict[str, tuple[str, dict, Callable[[Tensor], Tensor]]]:
    """What is compared -> (our pool, its options, the peer); all give the same output on maps >= 0."""
    from antialiased_cnns import BlurPool
    from timm.layers import BlurPool2d

    def blurred(layer: nn.Module) -> Callable[[Tensor], Tensor]:
        return layer.to(memory_format=torch.channels_last)

    max1 = nn.MaxPool2d(2, stride=1)
    return {
        "max: torch": ("max", {}, lambda x: F.max_pool2d(x, 2)),
        "average: torch": ("average", {}, lambda x: F.avg_pool2d(x, 2)),
        "lp p=2: torch": ("lp", {"norm": "sum"}, lambda x: F.lp_pool2d(x, 2, 2)),
        "lp p=3: torch": ("lp", {"norm": "sum", "p": 3.0}, lambda x: F.lp_pool2d(x, 3, 2)),
        "leap: torch": ("leap", {}, _average_filter(channels)),
        "blur_average 4: antialiased-cnns": (
            "blur_average",
            {"filter_size": 4},
            blurred(BlurPool(channels, filt_size=4, stride=2)),
        ),
        "blur_average 3: timm": (
            "blur_average",
            {"filter_size": 3},
            blurred(BlurPool2d(channels, filt_size=3, stride=2)),
        ),
        "blur_max 3: antialiased-cnns": (
            "blur_max",
            {"filter_size": 3},
            nn.Sequential(max1, blurred(BlurPool(channels, filt_size=3, stride=2))),
        ),
        "blur_max 4: antialiased-cnns": (
            "blur_max",
            {"filter_size": 4},
            nn.Sequential(max1, blurred(BlurPool(channels, filt_size=4, stride=2))),
        ),
        "fractional_max: torch": (  # torch draws for every channel: not the same regions, so not the same output
            "fractional_max",
            {},
            lambda x: F.fractional_max_pool2d(x, 2, output_size=(22, 22)),
        ),
    }


DIFFERENT = ("fractional_max: torch",)


def _average_filter(channels: int) -> nn.Module:
    conv = nn.Conv2d(channels, channels, 2, 2, groups=channels, bias=False)
    nn.init.constant_(conv.weight, 0.25)
    return conv.to(memory_format=torch.channels_last)


def against_peers(rounds: int) -> int:
    setting = Setting((256, 64, 32, 32))
    set_up(torch.device("cpu"), setting.threads, keep_memory=True)
    x = torch.rand(4, *setting.shape[1:]).to(memory_format=torch.channels_last)
    slower = []
    print(f"{setting}; {rounds} rounds; multiples of torch's max pooling\n{'':<36}{'ours':>8}{'theirs':>8}")
    for what, (name, options, peer) in peers(setting.shape[1]).items():
        ours = create_pool(name, channels=setting.shape[1], **options).to(memory_format=torch.channels_last)
        with torch.no_grad():
            if what not in DIFFERENT:
                torch.testing.assert_close(ours.eval()(x), peer(x))
        results = time_operators({"ours": ours, "theirs": peer}, setting, rounds)
        multiples = [results[who]["multiple"] for who in ("ours", "theirs")]
        if results["ours"]["multiple_quartiles"][0] > results["theirs"]["multiple_quartiles"][1]:
            slower.append(what)
        print(f"{what:<36}{multiples[0]:>8.2f}{multiples[1]:>8.2f}", flush=True)
    print("slower than a peer: " + (", ".join(slower) or "none (quartiles do not separate)"))
    return 1 if slower else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", action="store_true", help="compare with other packages (extra dev)")
    arguments = parser.parse_args()
    if arguments.peers:
        return against_peers(arguments.rounds)
    target = str(ROOT / "docs" / "speed.json")
    return poolbench(["bench", "pools", "--full", "--rounds", str(arguments.rounds), "--json", target])


if __name__ == "__main__":
    sys.exit(main())
