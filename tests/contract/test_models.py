"""What every model promises, whatever stands at its sites. A new model is tested by being in the table; one that is
large adds small options to ``SMALL``."""

import inspect
import io
import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import poolbench
from poolbench import create_head, create_model, create_pool
from poolbench.assembly import build_model
from poolbench.heads import HEADS
from poolbench.measure.cost import cost
from poolbench.models import MODELS
from poolbench.models.sites import is_site, map_sizes
from poolbench.pooling import POOLS
from poolbench.sweep.plan import make_plan
from tests.width import ALL

# Options with which a model is quickly made and run, several where its variants differ in kind.
SMALL: dict[str, tuple[dict[str, Any], ...]] = {
    "convnet": ({"widths": (4, 6, 8)},),
    "resnet": ({"widths": (4, 6, 8), "blocks": 1},),
    "lenet": ({}, {"variant": "lenet5"}),
    "cuda_convnet": ({}, {"variant": "18pct"}, {"variant": "11pct"}),
    "nin": ({"widths": (6, 5, 4, 6, 6, 6, 6, 6), "init": "he"},),  # the default gives faint maps
    "vgg": ({"width": 1 / 16, "depth": 13},),
    "all_cnn": ({"widths": (6, 8)},),
    "fractional_net": ({"width": 3, "depth": 2, "field": 80},),  # room for the images of these tests
    "capsnet": ({"width": 6, "types": 2}, {"variant": "baseline", "width": 6, "hidden": (7, 5)}),
    "fast_cnn": ({"widths": (4, 6, 8)}, {"widths": (4, 6, 8), "mirror": True}),
    "spp_net": ({"widths": (4, 6, 8), "depth": 1},),
    "separable_net": ({"stem": 4, "widths": (4, 6, 8)},),
    "patch_net": ({"widths": (4, 6, 8), "depth": 1},),
    "torchvision": ({"name": "shufflenet_v2_x0_5", "small_stem": True},),
}
# Models that replace what another net has, so that each pool must shrink as much as what it replaces.
FIXED_RATIOS = ("torchvision",)
# These meet every pool and every head; the others a choice that has one of each kind.
THOROUGH = ("convnet", "resnet") if ALL else ("resnet",)
FEW_POOLS = ("max", "strided_conv", "overlapping", "fractional_max", "spectral")


@dataclass(frozen=True)
class Case:
    """A model with small options."""

    name: str
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self):
        said = [v if k == "variant" else k for k, v in self.options.items() if k in ("variant", "mirror")]
        return "-".join([self.name, *said])


CASES = [Case(name, options) for name in MODELS.table for options in SMALL.get(name, ({},))]
WITH_POOLS = [
    (case, pool)
    for case in CASES
    for pool in (POOLS.table if case.name in THOROUGH else FEW_POOLS)
    if case.name not in FIXED_RATIOS or create_pool(pool, channels=4).ratio == 2
]
# Three heads for each model in turn, so that each head meets several.
WITH_HEADS = [
    (case, head)
    for number, case in enumerate(CASES)
    for index, head in enumerate(HEADS.table)
    if case.name in THOROUGH or (index - 3 * number) % len(HEADS.table) < 3
]
every_model = pytest.mark.parametrize("case", CASES, ids=str)
every_pool = pytest.mark.parametrize(("case", "pool"), WITH_POOLS, ids=str)
every_head = pytest.mark.parametrize(("case", "head"), WITH_HEADS, ids=str)


def make(case, **options):
    side = roomy(case)
    return create_model(case.name, **{"input_size": (side, side), **case.options, **options})


@cache
def least(case):
    """The smallest side of an image that the model takes with the usual pool, in pixels."""
    for side in range(1, 129):
        try:
            create_model(case.name, pool="max", head="global_average", input_size=(side, side), **case.options)
        except ValueError:
            continue
        return side
    raise AssertionError("no image is large enough")


@cache
def roomy(case):
    """A side that leaves more than one pixel, also for pools that need more than the usual one."""
    return max(32, 2 * least(case))


def sites(model):
    return {name: module for name, module in model.named_modules() if is_site(module)}


def images(case, count=2, size=None):
    return torch.randn(count, 3, *(size or (roomy(case), roomy(case))))


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


def layer(key):
    return key.rpartition(".")[0]


def check_that_it_trains(model, case):
    assert model.training
    labels = torch.randint(10, (4,))
    loss, logits = model.loss(images(case, 4), labels)
    assert logits.shape == (4, 10)
    assert loss.isfinite()
    loss.backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert any(p.grad.abs().sum() > 0 for p in model.features.parameters() if p.requires_grad)


@every_pool
def test_it_trains_with_pools_of_every_kind(case, pool):
    model = make(case, pool=pool)
    assert sites(model)
    assert all(type(module) is POOLS.find(pool) for module in sites(model).values())
    check_that_it_trains(model, case)


@every_model
def test_it_trains_as_its_paper_had_it(case):
    check_that_it_trains(make(case), case)


@every_head
def test_it_takes_heads_of_every_kind(case, head):
    size = (roomy(case), roomy(case) + 16)
    model = make(case, head=head, num_classes=7, input_size=size)
    assert type(model.head) is HEADS.find(head)
    assert model(images(case, size=size)).shape == (2, 7)


def test_the_pairs_of_models_and_heads_cover_both():
    assert all(sum(head == name for _, head in WITH_HEADS) >= 2 for name in HEADS.table)
    assert all(sum(one is case for one, _ in WITH_HEADS) >= 3 for case in CASES)


@every_model
@pytest.mark.parametrize("pool", ["max", "overlapping", "strided_conv"] if ALL else ["overlapping"])
def test_one_model_takes_images_of_any_size_unless_its_weights_are_for_one(case, pool):
    side = roomy(case)
    model = make(case, pool=pool, head="global_average").eval()
    for size in [(side - 8, side - 8), (side, side), (side + 1, side - 1), (side + 8, side - 8)]:
        again = make(case, pool=pool, head="global_average", input_size=size)
        assert sites(again).keys() == sites(model).keys()
        assert again.head.size == map_sizes(again.features, size)[-1][1]
        ours, theirs = (
            {key: value.shape for key, value in one.features.state_dict().items()} for one in (model, again)
        )
        if ours == theirs:
            assert model(images(case, size=size)).shape == (2, 10)
            assert map_sizes(model.features, size) == map_sizes(again.features, size)
        else:  # weights for each position
            assert "input_size" in inspect.signature(MODELS.find(case.name)).parameters
            with pytest.raises(ValueError, match=r"model .*: .*built for maps of \d+x\d+ pixels and got \d+x\d+"):
                model(images(case, size=size))


@every_model
def test_each_site_halves_the_map_that_reaches_it(case):
    steps, size = [], (roomy(case) + 1, roomy(case) - 4)
    model = make(case, pool="max", input_size=size)
    for module in sites(model).values():
        module.register_forward_hook(lambda _, args, output: steps.append((args[0].shape[2:], output.shape[2:])))
    model.features(images(case, size=size))
    assert len(steps) == len(sites(model))
    assert all((height // 2, width // 2) == tuple(after) for (height, width), after in steps)


@every_pool
def test_all_pools_leave_maps_of_one_size(case, pool):
    size = (roomy(case) + 1, roomy(case) - 4)
    sizes = [one for _, one in map_sizes(make(case, pool=pool, input_size=size).features, size)]
    usual = [one for _, one in map_sizes(make(case, pool="max", input_size=size).features, size)]
    if create_pool(pool, channels=4).ratio == 2:
        assert sizes == usual
    else:  # other sites, but the last map is about as large
        assert all(abs(ours - theirs) <= 1 for ours, theirs in zip(sizes[-1], usual[-1], strict=True))


@every_model
@pytest.mark.parametrize("ratio", [math.sqrt(2), 2.0, 3.0, 4.0])
def test_the_last_map_has_about_the_same_size_whatever_the_ratio(case, ratio):
    side = 2 * roomy(case)

    def shrink(channels):
        return RatioPool(channels, ratio)

    if case.name in FIXED_RATIOS and ratio > 2:  # two of sqrt 2 stand where one of 2 would
        with pytest.raises(ValueError, match="ratio"):
            make(case, pool=shrink)
        return
    usual, other = [], []
    for found, pool in ((usual, "max"), (other, shrink)):
        if found is other and math.sqrt(ratio) >= 2 ** (len(usual) - 1):
            with pytest.raises(ValueError, match="more than the whole model is made for"):
                make(case, pool=pool, input_size=(side, side))
            return
        found += map_sizes(make(case, pool=pool, input_size=(side, side)).features, (side, side))
    last, expected = other[-1][1][0], usual[-1][1][0]
    exact = expected * 2 ** (len(usual) - 1) == side  # else there were odd maps, or convolutions without padding
    spread, pixel = math.sqrt(ratio) * 1.01, 0 if exact else 1
    assert expected / spread - pixel <= last <= (expected + pixel) * spread
    if ratio == math.sqrt(2):
        assert len(other) - 1 == 2 * (len(usual) - 1)
        assert abs(last - expected) <= pixel


@every_model
def test_a_pool_that_does_not_shrink_stands_where_a_usual_one_would(case):
    def keep(channels):
        return RatioPool(channels, 1)

    if case.name in FIXED_RATIOS:
        with pytest.raises(ValueError, match="ratio"):
            make(case, pool=keep)
        return
    kept = []
    model = make(case, pool=keep)
    for module in sites(model).values():
        module.register_forward_hook(lambda _, args, output: kept.append(args[0].shape == output.shape))
    model.features(images(case))
    assert all(kept)
    # A net of small steps has more of them than pools of ratio 2 take.
    assert len(kept) == max(len(sites(make(case, pool=pool))) for pool in ("native", "max"))


@every_model
def test_a_list_names_one_pool_per_site(case):
    count = len(sites(make(case, pool="max")))
    chosen = (["average", "lp", "overlapping"] * count)[:count]
    model = make(case, pool=chosen)
    assert [type(module) for module in sites(model).values()] == [POOLS.find(pool) for pool in chosen]
    for wrong in (["max"] * (count - 1), ["max"] * (count + 1), []):
        with pytest.raises(ValueError, match=r"pool: a list .*site"):
            make(case, pool=wrong)


@every_model
def test_a_list_of_native_pools_is_the_published_net(case):
    published = make(case).eval()
    count, x = len(sites(published)), images(case)
    if count:
        torch.testing.assert_close(make(case, pool=["native"] * count).eval()(x), published(x))
    else:  # it had strides, or nothing
        with pytest.raises(ValueError, match=r"^pool: |^model .* pool"):
            make(case, pool=["native", "max"])


@every_model
def test_shared_layers_start_alike_whatever_the_pool(case):
    reference = shared_weights(make(case, pool="max", seed=3))
    learned = {"learnable": "channel", "p": 3.0}
    others = ["native", "strided_conv", DrawingPool, lambda channels: create_pool("lp", channels=channels, **learned)]
    if case.name not in FIXED_RATIOS:
        others.append(lambda channels: RatioPool(channels, math.sqrt(2)))
    for pool in others:
        torch.rand(7)  # nor does it matter what was drawn before
        weights = shared_weights(make(case, pool=pool, seed=3))
        assert weights.keys() == reference.keys()
        # Where the paper had no pool, or a ratio rounds otherwise, layers for each position meet another size.
        resized = {layer(key) for key in reference if weights[key].shape != reference[key].shape}
        assert not resized or pool == "native" or pool is others[-1]
        assert all(torch.equal(weights[key], reference[key]) for key in reference if layer(key) not in resized)
    other_seed = shared_weights(make(case, pool="max", seed=4))
    drawn = [key for key, value in reference.items() if value.dim() > 1 and value.std() > 0]
    assert any(key.startswith("head.") for key in drawn)
    assert not any(torch.equal(other_seed[key], reference[key]) for key in drawn)


@every_model
def test_other_heads_leave_the_trunk_as_it_is(case):
    reference = make(case).features.state_dict()
    for head in ("flatten", lambda channels, num_classes, size: create_head("global_max", channels, num_classes)):
        features = make(case, head=head).features.state_dict()
        assert features.keys() == reference.keys()
        assert all(torch.equal(features[key], value) for key, value in reference.items())


@every_model
@pytest.mark.parametrize("pool", ["native", "max", "strided_conv", DrawingPool])
def test_building_draws_nothing_from_the_global_generator(case, pool):
    before = torch.get_rng_state()
    make(case, pool=pool)
    assert torch.equal(torch.get_rng_state(), before)


@every_model
@pytest.mark.parametrize("pool", ["native", "max", "strided_conv", DrawingPool])
def test_the_check_of_sizes_moves_no_statistic(case, pool):
    model = make(case, pool=pool)
    assert all(module.training for module in model.modules())
    fresh = {"running_var": 1.0, "running_mean": 0.0, "num_batches_tracked": 0.0, "passes": 0.0}
    for key, value in model.named_buffers():
        kind = key.rpartition(".")[2]
        assert kind not in fresh or (value == fresh[kind]).all(), key


@every_model
def test_a_map_that_shrinks_to_nothing_is_refused_by_its_place(case):
    side = least(case) - 1
    if not side:
        return  # it pads images to the size that it needs
    with pytest.raises(ValueError, match=f"images of {side}x{side} do not fit: at ") as caught:
        make(case, pool="max", head="global_average", input_size=(side, side))
    message = str(caught.value)
    assert f"so far {side}x{side}" in message
    enough = [name for name, _ in map_sizes(make(case, pool="max").features, (roomy(case), roomy(case)))][:-1]
    if "at site" in message:
        assert "stride 2" in message
        assert message.partition("at site ")[2].partition(" (")[0] in enough
        assert "(map of 1x1)" in message
    else:  # a convolution without padding is larger than its map
        assert "a layer before the first site or between sites: " in message


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
def test_a_pool_that_gives_something_else_is_refused_by_its_site(case, forward, words):
    class Wrong(nn.Module):
        ratio = 2.0

        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            return forward(x)

    class WrongAndSilent(Wrong):
        ratio = None

    first = next(iter(sites(make(case, pool="max").features)))
    for pool in (Wrong, WrongAndSilent):
        with pytest.raises(ValueError, match=words) as caught:
            make(case, pool=pool)
        assert f"site {first}" in str(caught.value)


@every_model
def test_ready_classes_and_functions_stand_at_sites(case):
    expected = make(case, pool="max").eval()
    x = images(case)
    for pool in (
        lambda channels: nn.MaxPool2d(2),
        lambda channels: create_pool("max", channels=channels),
        "poolbench.pooling.MaxPool2d",
        POOLS.find("max"),
    ):
        torch.testing.assert_close(make(case, pool=pool).eval()(x), expected(x))
    with pytest.raises(ValueError, match="pool 'MaxPool2d' needs a value for kernel_size"):
        make(case, pool=nn.MaxPool2d)


@every_model
def test_an_image_does_not_see_the_others_in_evaluation(case):
    model, x = make(case).eval(), images(case, 3)
    tolerance = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(model(x), torch.cat([model(one) for one in x.split(1)]), **tolerance)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(x), model(x), **tolerance)


@every_model
@pytest.mark.parametrize("pool", ["native", "strided_conv"])
def test_its_state_comes_back(case, pool):
    model, x, file = make(case, pool=pool, seed=1), images(case, 4), io.BytesIO()
    model(x)  # moves statistics
    torch.save(model.state_dict(), file)
    file.seek(0)
    again = make(case, pool=pool, seed=2)
    assert not torch.equal(again.eval()(x), model.eval()(x))
    again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again.eval()(x), model.eval()(x))


# In the quick suite each net once, of torchvision one with half of the layers.
COMPILED = {case.name: case for case in CASES} | {"torchvision": Case("torchvision", {"name": "squeezenet1_1"})}


@pytest.mark.parametrize("case", CASES if ALL else COMPILED.values(), ids=str)
def test_it_compiles_in_one_graph_and_exports(case):
    torch._dynamo.reset()
    count = len(sites(make(case, pool="max")))
    x = images(case)
    mixed = (["overlapping", "lp", "average"] * count)[:count]
    # In the quick suite most as published, those that meet every pool with one of each kind.
    for pool in ("native", mixed) if ALL else (mixed if case.name in THOROUGH else "native",):
        model = make(case, pool=pool).eval()
        torch.testing.assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(x), model(x))
        if ALL or case.name in THOROUGH:
            torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))


@every_model
def test_its_cost_is_known(case):
    model = make(case, pool="average")
    told = cost(model, (roomy(case), roomy(case)))
    assert told["parameters"] == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert 0 < told["pool_flops"] < told["forward_flops"]


@every_model
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pool": "maxx"}, "unknown pool 'maxx'. Did you mean 'max'"),
        ({"head": "flat"}, "unknown head 'flat'. Did you mean 'flatten'"),
        ({"num_classes": 0}, "num_classes must be"),
        ({"input_size": 32}, "input_size must be .height, width. in pixels, got 32"),
    ],
    ids=str,
)
def test_values_that_are_not_allowed_are_named(case, options, words):
    with pytest.raises(ValueError, match=words):
        make(case, **options)


@every_model
def test_every_option_refuses_what_it_cannot_be_by_name(case):
    for option in inspect.signature(MODELS.find(case.name)).parameters.keys() - {"pool", "input_size"}:
        for wrong in ("?", -1):
            with pytest.raises(ValueError, match=rf"model {case.name}: {option}\b.*{wrong!r}".replace("?", "[?]")):
                make(case, **{option: wrong})
        with pytest.raises(ValueError, match=rf"has no option '{option}_'. Did you mean .*'{option}'"):
            make(case, **{f"{option}_": 1})


@every_model
def test_it_is_reached_by_its_name_and_its_class_and_documented(case):
    model_class = MODELS.find(case.name)
    assert getattr(poolbench.models, model_class.__name__) is model_class
    assert type(create_model(model_class, input_size=(roomy(case), roomy(case)), **case.options)) is model_class
    for part in ("Args:", "Shape:", "Raises:", "Use:", "Source:", *inspect.signature(model_class).parameters):
        assert part in model_class.__doc__
    assert all(MODELS.describe(case.name))


@pytest.mark.parametrize("name", MODELS.table)
def test_its_file_alone_builds_the_published_net(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (cell,) = make_plan([f"model={name}"], single=True).cells
    config = {**cell.config, "trainer": {**cell.config["trainer"], "channels_last": False}}
    built, published = (one.state_dict() for one in (build_model(config, 10, (32, 32)), create_model(name)))
    assert built.keys() == published.keys()
    assert all(torch.equal(built[key], published[key]) for key in published)


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'resnet20'. Did you mean 'resnet'"):
        create_model("resnet20")
