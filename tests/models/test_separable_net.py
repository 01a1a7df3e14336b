import pytest
import torch
from torch import nn

from poolbench import create_model
from poolbench.models.sites import map_sizes


def test_subsampling_is_the_net_whose_depthwise_convolutions_have_the_stride():
    net = create_model("separable_net", "subsample", stem=4, widths=(6, 8), depth=2).eval()
    for module in net.modules():  # statistics that are no identity
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    x = torch.randn(2, 3, 32, 32)
    expected = net(x)
    for stage in (net.features.stage1, net.features.stage2):
        stage.depthwise1.stride = (2, 2)
        stage.pool1 = nn.Identity()
    assert torch.allclose(net(x), expected, atol=1e-5)


def test_each_stage_halves_the_map_by_one_pool_or_two():
    for pool, sizes in (("max", [16, 8, 4, 4]), ("fractional_max", [23, 16, 11, 8, 6, 4, 4])):
        net = create_model("separable_net", pool)
        assert [size for _, (size, _) in map_sizes(net.features, (32, 32))] == sizes
    names = [name for name, _ in net.features.stage2.named_children()]
    assert names.index("pool1") == names.index("pointwise1") + 1
    assert names.index("pool2") == names.index("pointwise2") + 1


def test_no_convolution_but_the_first_is_dense_and_large():
    convolutions = [m for m in create_model("separable_net").features.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 1 + 3 * 2 * 2
    for conv in convolutions[1:]:
        assert conv.kernel_size == (1, 1) or conv.groups == conv.in_channels == conv.out_channels


@pytest.mark.parametrize("option", ["stem", "widths", "depth"])
def test_errors_name_the_option(option):
    with pytest.raises(ValueError, match=f"model separable_net: {option} must be"):
        create_model("separable_net", **{option: 0})
