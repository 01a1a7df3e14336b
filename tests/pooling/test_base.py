"""What the base does for every pool: it checks its input, serves no images, and stays whole for torch.fx."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poolbench import create_pool
from poolbench.pooling import POOLS
from poolbench.pooling.base import Pool

GEOMETRIES = ((2, 2, 1), (3, 2, 1), (2, 3, 0), (1, 2, 0), (5, 2, 2), (3, 1, 1))


class Watched(Pool):
    """Has all that a pass without images must leave alone."""

    random = True

    def __init__(self, channels):
        super().__init__(channels)
        self.norm = nn.BatchNorm2d(channels)
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def pool(self, x):
        self.output_size((x.shape[-2], x.shape[-1]))
        return self.norm(F.avg_pool2d(F.dropout(x, training=self.training), 2)) * self.scale


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(4, 8, 8), r"it takes maps \(N, C, H, W\) of 4 dimensions, got \(4, 8, 8\)"),
        (torch.zeros(1, 2, 4, 8, 8), r"of 4 dimensions, got \(1, 2, 4, 8, 8\)"),
        (torch.zeros(2, 4, 8, 8, dtype=torch.uint8), "it takes maps of a floating point dtype, got torch.uint8"),
        (torch.zeros(2, 4, 8, 8, dtype=torch.complex64), "a floating point dtype, got torch.complex64"),
        (torch.zeros(2, 3, 8, 8), r"it was made for maps of 4 channels, got 3: \(2, 3, 8, 8\)"),
        (torch.zeros(0, 3, 8, 8), "it was made for maps of 4 channels, got 3"),
        ([[0.0]], r"it takes a tensor \(N, C, H, W\), got list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_map_for_it_is_named(x, words):
    with pytest.raises(ValueError, match=f"pool MaxPool2d: .*{words}"):
        create_pool("max", channels=4)(x)


def test_no_images_move_no_statistic_and_draw_nothing():
    pool = Watched(4).train()
    state, generator = {name: value.clone() for name, value in pool.state_dict().items()}, torch.get_rng_state()
    x = torch.zeros(0, 4, 9, 8, dtype=torch.float32, requires_grad=True)
    y = pool(x)
    assert y.shape == (0, 4, 4, 4)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert not pool.scale.grad.any()
    assert all(torch.equal(value, state[name]) for name, value in pool.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(module.training for module in pool.modules())


def test_no_images_of_a_map_that_is_too_small_are_refused_and_change_no_mode():
    pool = Watched(4).train()
    pool.norm.eval()
    with pytest.raises(ValueError, match="smaller than stride 2"):
        pool(torch.zeros(0, 4, 1, 8))
    assert pool.training
    assert not pool.norm.training


def test_a_class_that_writes_forward_itself_goes_on_working():
    class Own(Pool):
        def __init__(self, channels):
            super().__init__(channels)
            self.pool = nn.MaxPool2d(2)  # a name that the base asks for

        def forward(self, x):
            return self.pool(x)

    class Twice(type(create_pool("average", channels=4))):
        def forward(self, x):
            return 2 * super().forward(x)

    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(Own(4)(x), F.max_pool2d(x, 2))
    assert torch.equal(Twice(4)(x), 2 * F.avg_pool2d(x, 2))


def test_torch_fx_sees_one_call_and_says_so_of_a_pool_alone():
    pool = create_pool("lip", channels=4).eval()
    net = torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 1), pool, nn.ReLU()))
    assert [node.op for node in net.graph.nodes] == ["placeholder", *["call_module"] * 3, "output"]
    with pytest.raises(ValueError, match=r"takes LipPool2d as one call.*trace the net that holds it"):
        torch.fx.symbolic_trace(pool)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_what_is_cut_off_leaves_an_output_in_one_piece_of_memory(memory_format):
    for name in POOLS.table:
        taken = inspect.signature(POOLS.find(name)).parameters
        for geometry in GEOMETRIES:
            options = dict(zip(("kernel_size", "stride", "padding"), geometry, strict=True))
            try:
                pool = create_pool(name, channels=4, **{k: v for k, v in options.items() if k in taken})
            except ValueError:
                continue
            for size in ((8, 8), (9, 11), (13, 6)):
                y = pool(torch.randn(2, 4, *size).to(memory_format=memory_format))
                assert y.is_contiguous(memory_format=memory_format), (name, options, size, y.stride())
