"""The heads that reduce each channel to one number."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_head

REDUCTION = {"global_average": lambda x: x.flatten(2).mean(-1), "global_max": lambda x: x.flatten(2).amax(-1)}
every_reduction = pytest.mark.parametrize("name", REDUCTION)


@every_reduction
@given(st.integers(1, 9), st.integers(1, 9))
def test_each_channel_gives_one_number(name, height, width):
    x = torch.randn(2, 3, height, width)
    torch.testing.assert_close(create_head(name, channels=3, num_classes=2).pool(x), REDUCTION[name](x))


@every_reduction
def test_positions_do_not_matter(name):
    head, x = create_head(name, channels=3, num_classes=2), torch.randn(2, 3, 4, 6)
    moved = x.flatten(2)[..., torch.randperm(24)].view(2, 3, 6, 4)
    torch.testing.assert_close(head(moved), head(x))


def test_the_average_spreads_its_gradient_and_the_maximum_gives_it_to_one_cell():
    for name, expected in (("global_average", [1 / 6] * 6), ("global_max", [1.0] + [0.0] * 5)):
        x = torch.zeros(1, 1, 2, 3, requires_grad=True)  # all equal, as after a ReLU
        create_head(name, channels=1, num_classes=1).pool(x).sum().backward()
        torch.testing.assert_close(x.grad.flatten(), torch.tensor(expected))


def test_flops():
    assert create_head("global_average", channels=3, num_classes=2).flops((4, 5)) == 3 * (19 + 1)
    assert create_head("global_max", channels=3, num_classes=2).flops((4, 5)) == 3 * 19
