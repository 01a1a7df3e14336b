"""The heads that reduce each channel to one number."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_head

REDUCTION = {"global_average": lambda x: x.flatten(2).mean(-1), "global_max": lambda x: x.flatten(2).amax(-1)}
every_reduction = pytest.mark.parametrize("name", REDUCTION)


@every_reduction
@given(st.integers(1, 9), st.integers(1, 9), st.random_module())
def test_each_channel_gives_one_number(name, height, width, seed):
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


def test_class_maps_are_a_convolution_a_relu_and_their_average():
    head, x = create_head("global_average", channels=3, num_classes=4, class_maps=True), torch.randn(2, 3, 5, 4)
    linear = head.classifier[0]
    maps = F.conv2d(x, linear.weight[:, :, None, None], linear.bias).relu()
    assert (maps == 0).any()
    torch.testing.assert_close(head(x), maps.mean((2, 3)))
    assert head.state_dict().keys() == create_head("global_average", channels=3, num_classes=4).state_dict().keys()


def test_where_the_relu_cuts_nothing_class_maps_change_nothing():
    plain, with_maps = (create_head("global_average", channels=3, num_classes=4, class_maps=c) for c in (False, True))
    for head in (plain, with_maps):
        torch.nn.init.constant_(head.classifier[0].weight, 0.5)
        torch.nn.init.constant_(head.classifier[0].bias, 0.1)
    x = torch.rand(2, 3, 5, 4)
    torch.testing.assert_close(with_maps(x), plain(x))


def test_nothing_follows_class_maps():
    with pytest.raises(ValueError, match=r"GlobalAverage: hidden must be empty with class_maps.*got \(7,\)"):
        create_head("global_average", channels=3, num_classes=4, hidden=(7,), class_maps=True)
    with pytest.raises(ValueError, match="class_maps must be true or false, got 'yes'"):
        create_head("global_average", channels=3, num_classes=4, class_maps="yes")


def test_flops():
    assert create_head("global_average", channels=3, num_classes=2).flops((4, 5)) == 3 * (19 + 1)
    assert create_head("global_average", channels=3, num_classes=2, class_maps=True).flops((4, 5)) == 2 * (19 + 1)
    assert create_head("global_max", channels=3, num_classes=2).flops((4, 5)) == 3 * 19
