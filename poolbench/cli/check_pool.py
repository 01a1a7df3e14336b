"""Run the public contract on a pool of yours: `poolbench check-pool mypkg.MyPool kernel_size=3`.

POOL is a name that `poolbench list pools` shows or a dotted path; options follow as option=value (YAML). Every promise
is one line: passed, failed (with what is wrong), or skipped (with the reason). Exit code 1 if one failed.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL", help="a name, or a dotted path such as mypkg.MyPool")
    parser.add_argument("options", nargs="*", metavar="option=value", help="the pool's own, as kernel_size=[3,2]")
    parser.add_argument("--only", metavar="CHECK,...", help="some checks, by name")
    parser.add_argument("--list", action="store_true", help="name the checks, run none")


def main(arguments: argparse.Namespace) -> int:
    import yaml

    options = {}
    for text in arguments.options:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is not an option: options look like kernel_size=3")
        options[name.removeprefix("pool.")] = yaml.safe_load(value)
    import torch

    from poolbench.pooling import create_pool
    from poolbench.registry import nearest
    from poolbench.testing import CHECKS, check_pool, promised

    chosen = list(CHECKS) if arguments.only is None else [name.strip() for name in arguments.only.split(",")]
    for name in chosen:
        if name not in CHECKS:
            raise ValueError(f"--only: unknown check {name!r}.{nearest(name, list(CHECKS))} Known: {', '.join(CHECKS)}")
    if arguments.list:
        for name in chosen:
            print(f"{name:<18}{promised(CHECKS[name])}")
        return 0
    if options.get("dims", 2) != 2:
        raise ValueError(f"dims must be 2, got {options['dims']!r}: the promises are about maps (N, C, H, W)")
    create_pool(arguments.pool, channels=4, **options)  # what is wrong with the name or an option is said now
    torch.set_num_threads(1)  # the maps are tiny
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for name in chosen:
        (outcome,) = check_pool(lambda channels: create_pool(arguments.pool, channels=channels, **options), [name])
        counts[outcome.state] += 1
        print(f"{outcome.state:<8}{name:<18}{outcome.promise}", flush=True)
        if outcome.explanation:
            for line in outcome.explanation.strip().splitlines():
                print(f"{'':<26}{line}")
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    return 1 if counts["failed"] else 0
