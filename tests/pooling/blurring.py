"""Blurring the slow and obvious way: for each output pixel, tap by tap, where the filter looks."""

import torch

# As the paper lists them, before they are divided by their sum.
TAPS = {
    1: [1],
    2: [1, 1],
    3: [1, 2, 1],
    4: [1, 3, 3, 1],
    5: [1, 4, 6, 4, 1],
    6: [1, 5, 10, 10, 5, 1],
    7: [1, 6, 15, 20, 15, 6, 1],
}


def blurred(x, filter_size, stride, output, border):
    """``output`` ``(H', W')`` pixels of float64 maps; a side with too few pixels to be reflected is replicated."""
    rows, columns = (_line(side, filter_size, stride, n, border) for side, n in zip(x.shape[2:], output, strict=True))
    return torch.einsum("ih,nchw,jw->ncij", rows, x, columns)


def _line(side, filter_size, stride, output, border):
    taps, start = TAPS[filter_size], (filter_size - 1) // 2
    beyond = (output - 1) * stride - start + filter_size - side  # pixels by which the last filter passes the end
    if border == "reflect" and max(start, beyond) >= side:
        border = "replicate"
    weights = torch.zeros(output, side, dtype=torch.float64)
    for i in range(output):
        for j, tap in enumerate(taps):
            place = i * stride - start + j
            if border == "replicate":
                place = min(max(place, 0), side - 1)
            if border == "reflect":
                place = abs(place)
                place = place if place < side else 2 * (side - 1) - place
            if 0 <= place < side:
                weights[i, place] += tap / sum(taps)
    return weights
