"""What every model promises, whatever stands at its sites. A new model is tested by being in the table."""

import inspect
import io
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import poolbench
from poolbench import create_head, create_model, create_pool
from poolbench.heads import HEADS
from poolbench.models import MODELS
from poolbench.models.sites import is_site, map_sizes
from poolbench.pooling import POOLS

SMALL = {"convnet": {"widths": (4, 6, 8)}, "resnet": {"widths": (4, 6, 8), "blocks": 1}}

every_model = pytest.mark.parametrize("name", MODELS.table)
every_pool = pytest.mark.parametrize("pool", POOLS.table)


def make(name, **options):
    return create_model(name, **{**SMALL.get(name, {}), **options})


def sites(model):
    return {name: module for name, module in model.named_modules() if is_site(module)}


class RatioPool(nn.Module):
    """Averages to ``1 / ratio`` of a side, rounded."""

    def __init__(self, channels, ratio):
        super().__init__()
        self.ratio = ratio

    def forward(self, x):
        return F.adaptive_avg_pool2d(x, [max(1, round(side / self.ratio)) for side in x.shape[-2:]])


class DrawingPool(nn.Module):
    """Has weights drawn without ``reset_parameters``, draws in every forward pass, counts them, tells no ratio."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.randn(1, channels, 1, 1))
        self.norm = nn.BatchNorm2d(channels)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.passes += 1
        return self.norm(F.fractional_max_pool2d(x, 2, output_ratio=(0.5, 0.5))) * self.weight


def shared_weights(model):
    inside = tuple(f"{site}." for site in sites(model))
    return {key: value for key, value in model.state_dict().items() if not key.startswith(inside)}


@every_model
@every_pool
def test_it_trains_with_every_pool(name, pool):
    model = make(name, pool=pool)
    assert model.training
    assert all(type(module) is POOLS.find(pool) for module in sites(model).values())
    x, labels = torch.randn(4, 3, 32, 32), torch.randint(10, (4,))
    y = model(x)
    assert y.shape == (4, 10)
    F.cross_entropy(y, labels).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert any(p.grad.abs().sum() > 0 for p in model.features.parameters())


@every_model
@pytest.mark.parametrize("head", HEADS.table)
def test_it_takes_every_head(name, head):
    model = make(name, head=head, num_classes=7, input_size=(24, 40))
    assert type(model.head) is HEADS.find(head)
    assert model(torch.randn(2, 3, 24, 40)).shape == (2, 7)


@every_model
@pytest.mark.parametrize("pool", ["max", "overlapping", "strided_conv"])
@pytest.mark.parametrize("size", [(24, 24), (32, 32), (40, 40), (33, 31)])
def test_one_model_takes_images_of_any_size(name, pool, size):
    model = make(name, pool=pool).eval()  # built for 32x32
    assert model(torch.randn(2, 3, *size)).shape == (2, 10)
    *steps, (_, last) = map_sizes(model.features, size)
    assert len(steps) == len(sites(model))
    assert last == tuple(side // 2 ** len(steps) for side in size)
    assert make(name, pool=pool, input_size=size).head.size == last


@every_model
@every_pool
def test_all_pools_leave_maps_of_one_size(name, pool):
    sizes = [size for _, size in map_sizes(make(name, pool=pool).features, (33, 28))]
    usual = [size for _, size in map_sizes(make(name, pool="max").features, (33, 28))]
    if create_pool(pool, channels=4).ratio == 2:
        assert sizes == usual
    else:  # other sites, but the last map is about as large
        assert all(abs(ours - theirs) <= 1 for ours, theirs in zip(sizes[-1], usual[-1], strict=True))


@every_model
@pytest.mark.parametrize("ratio", [math.sqrt(2), 2.0, 3.0, 4.0])
def test_the_last_map_has_about_the_same_size_whatever_the_ratio(name, ratio):
    usual = map_sizes(make(name).features, (64, 64))
    other = map_sizes(make(name, pool=lambda channels: RatioPool(channels, ratio)).features, (64, 64))
    assert abs(math.log(other[-1][1][0] / usual[-1][1][0])) <= math.log(ratio) / 2 + 0.01
    if ratio == math.sqrt(2):
        assert len(other) - 1 == 2 * (len(usual) - 1)
        assert other[-1] == usual[-1]


@every_model
def test_a_pool_that_does_not_shrink_stands_where_a_usual_one_would(name):
    still = map_sizes(make(name, pool=lambda channels: RatioPool(channels, 1)).features, (16, 12))
    assert len(still) == len(sites(make(name))) + 1
    assert {size for _, size in still} == {(16, 12)}


@every_model
def test_a_list_names_one_pool_per_site(name):
    count = len(sites(make(name)))
    chosen = (["average", "lp", "overlapping"] * count)[:count]
    model = make(name, pool=chosen)
    assert [type(module) for module in sites(model).values()] == [POOLS.find(pool) for pool in chosen]
    for wrong in (["max"] * (count - 1), ["max"] * (count + 1), []):
        with pytest.raises(ValueError, match=r"pool: a list .*site"):
            make(name, pool=wrong)


@every_model
def test_shared_layers_start_alike_whatever_the_pool(name):
    reference = shared_weights(make(name, pool="max", seed=3))
    learned = {"learnable": "channel", "p": 3.0}
    others = [
        "strided_conv",
        DrawingPool,
        lambda channels: create_pool("lp", channels=channels, **learned),
        lambda channels: RatioPool(channels, math.sqrt(2)),
    ]
    for pool in others:
        torch.rand(7)  # nor does it matter what was drawn before
        weights = shared_weights(make(name, pool=pool, seed=3))
        assert weights.keys() == reference.keys()
        assert all(torch.equal(weights[key], reference[key]) for key in reference)
    other_seed = shared_weights(make(name, pool="max", seed=4))
    assert not torch.equal(other_seed["head.classifier.0.weight"], reference["head.classifier.0.weight"])


@every_model
def test_other_heads_leave_the_trunk_as_it_is(name):
    reference = make(name).features.state_dict()
    for head in ("flatten", lambda channels, num_classes, size: create_head("global_max", channels, num_classes)):
        features = make(name, head=head).features.state_dict()
        assert all(torch.equal(features[key], value) for key, value in reference.items())


@every_model
@pytest.mark.parametrize("pool", ["max", "strided_conv", DrawingPool])
def test_building_draws_nothing_from_the_global_generator(name, pool):
    before = torch.get_rng_state()
    make(name, pool=pool)
    assert torch.equal(torch.get_rng_state(), before)


@every_model
@pytest.mark.parametrize("pool", ["max", "strided_conv", DrawingPool])
def test_the_check_of_sizes_moves_no_statistic(name, pool):
    model = make(name, pool=pool)
    assert all(module.training for module in model.modules())
    for key, value in model.named_buffers():
        fresh = 1.0 if key.endswith("running_var") else 0.0
        assert (value == fresh).all(), key


@every_model
def test_a_map_that_shrinks_to_nothing_is_refused_by_its_site(name):
    *steps, _ = map_sizes(make(name).features, (64, 64))
    site = steps[-1][0]
    side = 2 ** len(steps) // 2  # 1 pixel reaches the last site
    with pytest.raises(ValueError, match=f"images of {side}x{side} do not fit: at site {site} .map of 1x1") as caught:
        make(name, input_size=(side, side))
    assert "stride 2" in str(caught.value)
    assert f"so far {side}x{side}" in str(caught.value)
    make(name, input_size=(2 * side, 2 * side))


@every_model
@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda x: x[:, 1:, ::2, ::2], "it must give .N, C, H', W'. with the same N and C"),
        (lambda x: x[:1, :, ::2, ::2], "with the same N and C"),
        (lambda x: x.mean((2, 3)), "the pool gave"),
        (lambda x: x[..., :0, :0], "at least 1"),
        (lambda x: F.max_pool2d(x, 2, return_indices=True), "the pool gave tuple"),
    ],
    ids=["fewer channels", "fewer images", "no map", "empty", "tuple"],
)
def test_a_pool_that_gives_something_else_is_refused_by_its_site(name, forward, words):
    class Wrong(nn.Module):
        ratio = 2.0

        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            return forward(x)

    class WrongAndSilent(Wrong):
        ratio = None

    first = map_sizes(make(name).features, (32, 32))[0][0]
    for pool in (Wrong, WrongAndSilent):
        with pytest.raises(ValueError, match=words) as caught:
            make(name, pool=pool)
        assert f"site {first}" in str(caught.value)


@every_model
def test_ready_classes_and_functions_stand_at_sites(name):
    expected = make(name, pool="max").eval()
    x = torch.randn(2, 3, 32, 32)
    for pool in (
        lambda channels: nn.MaxPool2d(2),
        lambda channels: create_pool("max", channels=channels),
        "poolbench.pooling.MaxPool2d",
        POOLS.find("max"),
    ):
        torch.testing.assert_close(make(name, pool=pool).eval()(x), expected(x))
    with pytest.raises(ValueError, match="pool 'MaxPool2d' needs a value for kernel_size"):
        make(name, pool=nn.MaxPool2d)


@every_model
def test_an_image_does_not_see_the_others_in_evaluation(name):
    model, x = make(name).eval(), torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(model(x), torch.cat([model(one) for one in x.split(1)]))
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(x), model(x))


@every_model
def test_its_state_comes_back(name):
    model, x, file = make(name, pool="strided_conv", seed=1), torch.randn(4, 3, 32, 32), io.BytesIO()
    model(x)  # moves statistics
    torch.save(model.state_dict(), file)
    file.seek(0)
    again = make(name, pool="strided_conv", seed=2)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again.eval()(x), model.eval()(x))


@every_model
def test_it_compiles_in_one_graph_and_exports(name):
    torch._dynamo.reset()
    model, x = make(name, pool=["overlapping", "lp", "average"][: len(sites(make(name)))]), torch.randn(2, 3, 24, 24)
    model.eval()
    torch.testing.assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(x), model(x))
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))


@every_model
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": (4, 6)}, "has no option 'width'. Did you mean 'widths'"),
        ({"widths": ()}, "widths must be a list of numbers of at least 1"),
        ({"widths": 32}, "widths must be"),
        ({"widths": (4, 0, 4)}, "widths must be"),
        ({"widths": (4, 4.0, 4)}, "widths must be"),
        ({"pool": "maxx"}, "unknown pool 'maxx'. Did you mean 'max'"),
        ({"head": "flat"}, "unknown head 'flat'. Did you mean 'flatten'"),
        ({"num_classes": 0}, "num_classes must be"),
        ({"input_size": 32}, "input_size must be .height, width. in pixels, got 32"),
    ],
    ids=str,
)
def test_values_that_are_not_allowed_are_named(name, options, words):
    with pytest.raises(ValueError, match=words):
        make(name, **options)


@every_model
def test_it_is_reached_by_its_name_and_its_class_and_documented(name):
    model_class = MODELS.find(name)
    assert getattr(poolbench.models, model_class.__name__) is model_class
    assert type(create_model(model_class, **SMALL.get(name, {}))) is model_class
    for part in ("Args:", "Shape:", "Raises:", "Source:", *inspect.signature(model_class).parameters):
        assert part in model_class.__doc__
    assert all(MODELS.describe(name))


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'resnet20'. Did you mean 'resnet'"):
        create_model("resnet20")
