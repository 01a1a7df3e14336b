import pytest
import torch
from torch import nn

from poolbench import create_model
from poolbench.models.sites import map_sizes


def test_patches_then_a_pool_before_each_stage():
    for pool, sizes in (("native", [8, 4, 4]), ("max", [8, 4, 4]), ("fractional_max", [11, 8, 6, 4, 4])):
        net = create_model("patch_net", pool, widths=(4, 6, 8))
        assert [size for _, (size, _) in map_sizes(net.features, (32, 32))] == sizes
    assert net.features.stage1.patches(torch.zeros(1, 3, 32, 32)).shape == (1, 4, 16, 16)
    assert create_model("patch_net", "max", widths=(4, 6), patch=4).features(torch.zeros(1, 3, 32, 32)).shape[2:] == (
        4,
        4,
    )


def test_a_patch_is_seen_by_itself():
    net = create_model("patch_net", "max", widths=(4, 6))
    x = torch.randn(1, 3, 16, 16)
    other = x.clone()
    other[..., 2:4, 6:8] += 1
    changed = (net.features.stage1.patches(x) != net.features.stage1.patches(other)).any(1)[0]
    assert changed.nonzero().tolist() == [[1, 3]]


def test_a_block_without_its_depthwise_part_mixes_channels_alone():
    block = create_model("patch_net", "max", widths=(4, 6)).features.stage1.block1.eval()
    nn.init.zeros_(block.norm1.weight)
    x = torch.randn(2, 4, 8, 8)
    assert torch.allclose(block(x), block.norm2(block.gelu(block.pointwise(x))), atol=1e-6)


@pytest.mark.parametrize(("option", "value"), [("patch", 0), ("widths", []), ("depth", 0), ("kernel", 4)])
def test_errors_name_the_option(option, value):
    with pytest.raises(ValueError, match=f"model patch_net: {option} must be"):
        create_model("patch_net", **{option: value})
