import pytest
from torch import nn

from poolbench import create_model
from poolbench.models.sites import map_sizes


@pytest.mark.parametrize(
    ("depth", "parameters"), [(11, 9_231_114), (13, 9_416_010), (16, 14_728_266), (19, 20_040_522)]
)
def test_parameters_and_layers_of_the_published_depths(depth, parameters):
    model = create_model("vgg", depth=depth)
    assert sum(p.numel() for p in model.parameters()) == parameters
    convolutions = sum(isinstance(m, nn.Conv2d) for m in model.modules())
    assert convolutions + 3 == depth  # the paper has three fully connected layers, this form one


def test_five_pools_leave_one_pixel():
    model = create_model("vgg", width=1 / 32)
    sizes = [size for _, size in map_sizes(model.features, (32, 32))]
    assert sizes == [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
    for stage in model.features:
        assert [name for name, _ in stage.named_children()][-2:] == [f"relu{len(stage) // 3}", "pool1"]


def test_the_width_scales_all_channels():
    def channels(**options):
        return [m.out_channels for m in create_model("vgg", depth=11, **options).modules() if isinstance(m, nn.Conv2d)]

    assert channels() == [64, 128, 256, 256, 512, 512, 512, 512]
    assert channels(width=0.125) == [8, 16, 32, 32, 64, 64, 64, 64]
    assert channels(width=0.001) == [1] * 8


def test_two_pools_of_a_stage_are_spread_over_its_convolutions():
    model = create_model("vgg", depth=19, width=1 / 32, pool="fractional_max", input_size=(64, 64))
    names = [name for name, _ in model.features.stage3.named_children()]
    assert names.index("pool1") == names.index("relu2") + 1
    assert names[-2:] == ["relu4", "pool2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 12}, "depth must be 11, 13, 16 or 19, got 12"),
        ({"depth": "16"}, "depth must be"),
        ({"width": 0}, "width must be a number above 0, got 0"),
        ({"width": float("inf")}, "width must be"),
        ({"width": True}, "width must be"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=f"model vgg: {words}"):
        create_model("vgg", **options)
