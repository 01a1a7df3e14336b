"""What a pool gives: sizes, images apart, memory formats."""

import torch
from torch import Tensor

from poolbench.testing.face import CHANNELS, Failed, Maker, Skipped, close, new, run


def shape(make: Maker) -> None:
    """It maps (N, C, H, W) to (N, C, H', W'), and to the size that its ``output_size`` and ``ratio`` tell."""
    pool = new(make)
    for height, width in [(8, 8), (12, 12), (32, 32), (9, 9), (8, 12), (11, 8), (17, 13)]:
        y = run(pool, torch.rand(2, CHANNELS, height, width))
        if not isinstance(y, Tensor) or y.dim() != 4 or y.shape[:2] != (2, CHANNELS):
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise Failed(f"a map (2, {CHANNELS}, {height}, {width}) gave {got}, not (2, {CHANNELS}, H', W')")
        if hasattr(pool, "output_size"):
            told = tuple(pool.output_size((height, width)))
            if tuple(y.shape[2:]) != told:
                raise Failed(f"a map of {height}x{width} gave {tuple(y.shape[2:])}, but output_size tells {told}")
        ratio = getattr(pool, "ratio", None)
        ratios = ratio if isinstance(ratio, tuple | list) else (ratio, ratio)
        # Whole numbers drop what is left over, others round somehow: within a pixel.
        sides = zip((height, width), y.shape[2:], ratios, strict=True)
        if ratio and any(abs(after - before / by) >= 1 for before, after, by in sides):
            said = ", ".join(f"{by:g}" for by in dict.fromkeys(ratios))
            raise Failed(f"a map of {height}x{width} gave {tuple(y.shape[2:])}, which ratio {said} does not tell")


def images_apart(make: Maker) -> None:
    """In evaluation an image does not see the others of its batch."""
    pool, x = new(make), torch.randn(3, CHANNELS, 9, 12)
    if getattr(pool, "random_evaluation", False):
        raise Skipped("its evaluation draws one number after the other: no two batches are alike")
    close(pool(x), torch.cat([pool(one) for one in x.split(1)]), "a batch differs from its images one by one")
    order = torch.tensor([2, 0, 1])
    close(pool(x[order]), pool(x)[order], "the order of the batch matters")


def memory_format(make: Maker) -> None:
    """It keeps the memory format, in one piece of memory, and gives the same values and gradients in both."""
    for size in [(8, 8), (9, 11)]:
        pool = new(make)
        x = torch.randn(2, CHANNELS, *size)
        results = []
        for memory_format in (torch.contiguous_format, torch.channels_last):
            one = x.clone(memory_format=memory_format).requires_grad_()
            y = run(pool, one)
            (gradient,) = torch.autograd.grad(y, one, torch.ones_like(y))
            last = memory_format == torch.channels_last
            for what, of in (("output", y), ("gradient", gradient)):
                if (of.stride(1) == 1) != last:
                    raise Failed(f"the {what} of a map stored as {memory_format} has strides {of.stride()}")
            if not y.is_contiguous(memory_format=memory_format):
                words = "a view, so that y.view(...) fails: give a copy, .contiguous(memory_format=...)"
                raise Failed(f"the output of a map of {size[0]}x{size[1]} has strides {y.stride()}, as of {words}")
            results.append((y, gradient))
        close(results[1][0], results[0][0], "channels_last gives other values than the default format")
        close(results[1][1], results[0][1], "channels_last gives other gradients than the default format")


def input_untouched(make: Maker) -> None:
    """It leaves its input alone, and so does a layer that works in place on its output."""
    for size in [(8, 8), (9, 9)]:
        x = torch.randn(2, CHANNELS, *size)
        before = x.clone()
        y = run(new(make).train(), x)
        if not torch.equal(x, before):
            raise Failed("forward writes into its input")
        y.detach().fill_(7)
        if not torch.equal(x, before):
            raise Failed("the output is a view of the input: return a copy (.clone())")
