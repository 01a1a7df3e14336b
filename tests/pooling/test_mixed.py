import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_model, create_pool
from tests.pooling.reference import by_loop, geometries_and_maps, maps

ONE_TO_FOUR = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


@pytest.mark.parametrize("weight", ["fixed", "learned"])
@given(case=geometries_and_maps(), share=st.floats(0.01, 0.99))
def test_it_mixes_the_maximum_and_the_average_of_the_cells_inside(weight, case, share):
    options, x = case
    pool = create_pool("mixed", channels=x.shape[1], weight=weight, share=share, **options).double()
    expected = by_loop(x, lambda cells: share * cells.amax(-1) + (1 - share) * cells.mean(-1), **options)
    torch.testing.assert_close(pool(x), expected, rtol=1e-5, atol=1e-6)  # the logit was made in float32


@given(maps(2, 2))
def test_its_ends_are_maximum_and_average_bit_by_bit(x):
    for share, name in ((1.0, "max"), (0.0, "average")):
        y = create_pool("mixed", channels=x.shape[1], weight="fixed", share=share)(x)
        assert torch.equal(y, create_pool(name, channels=x.shape[1])(x))


def test_known_values_and_gradients():
    pool = create_pool("mixed", channels=1)
    y = pool(ONE_TO_FOUR)
    y.backward()
    assert y.item() == 3.25
    assert pool.logit.grad.item() == pytest.approx(1.5 * 0.25)  # maximum less average, slope of the sigmoid


@pytest.mark.parametrize(("per", "count"), [("layer", 1), ("channel", 5)])
def test_a_learned_share_moves_and_comes_back(per, count):
    pool = create_pool("mixed", channels=5, share=0.3, per=per)
    assert [tuple(p.shape) for p in pool.parameters()] == [(count,)]
    pool(torch.rand(2, 5, 4, 4)).sum().backward()
    assert (pool.logit.grad > 0).all()  # more of the maximum is more
    with torch.no_grad():
        pool.logit.add_(1)
    pool.reset_parameters()
    torch.testing.assert_close(pool.logit.sigmoid(), torch.full((count,), 0.3))


def test_one_share_can_be_learned_by_a_whole_net():
    first, second = create_pool("mixed", channels=3), create_pool("mixed", channels=5)
    second.share_with(first)
    net = torch.nn.ModuleList([first, second])
    assert len(list(net.parameters())) == 1
    with torch.no_grad():
        first.logit.fill_(50)
    x = torch.rand(1, 5, 4, 4)
    torch.testing.assert_close(second(x), create_pool("max", channels=5)(x))
    restored = torch.nn.ModuleList([create_pool("mixed", channels=3), create_pool("mixed", channels=5)])
    restored[1].share_with(restored[0])
    restored.load_state_dict(net.state_dict())
    assert restored[1].logit.item() == 50


@pytest.mark.parametrize("options", [{"weight": "fixed"}, {"per": "channel"}], ids=str)
def test_only_learned_shares_of_layers_can_be_shared(options):
    with pytest.raises(ValueError, match="can share"):
        create_pool("mixed", channels=3, **options).share_with(create_pool("mixed", channels=3))


@pytest.mark.parametrize(("per", "count"), [("layer", 1), ("channel", 64)])
def test_a_random_one_takes_either_all_of_the_maximum_or_all_of_the_average(per, count):
    pool = create_pool("mixed", channels=64, weight="random", share=0.7, per=per).train()
    x = torch.rand(2, 64, 6, 6)
    largest, average = (create_pool(name, channels=64)(x) for name in ("max", "average"))
    pool.generator = torch.Generator().manual_seed(0)
    passes, in_parts = 2000, 0
    seen = torch.zeros(count)
    for _ in range(passes):
        y = pool(x)
        took = (y == largest).all(3).all(2).all(0)
        assert (took | (y == average).all(3).all(2).all(0)).all()
        seen += took[:count]
        in_parts += int(took.any() and not took.all())
    # One bit for all; or one for each channel: all 64 of them agree in one of 8e9 passes.
    assert in_parts == (0 if per == "layer" else passes)
    assert torch.equal(pool.drawn_max, seen)
    assert pool.drawn == passes
    # Six standard deviations of the mean of these draws.
    assert abs(seen.mean() / passes - 0.7) < 6 * (0.7 * 0.3 / (passes * count)) ** 0.5


def test_evaluation_takes_what_was_drawn_more_often():
    pool = create_pool("mixed", channels=3, weight="random", per="channel").eval()
    pool.drawn_max.copy_(torch.tensor([2.0, 4.0, 3.0]))
    pool.drawn.fill_(6)
    x = torch.rand(1, 3, 4, 4)
    largest, average = (create_pool(name, channels=3)(x) for name in ("max", "average"))
    # As often: what is as probable or more, here the maximum
    assert torch.equal(pool(x), torch.stack([average[:, 0], largest[:, 1], largest[:, 2]], 1))


@pytest.mark.parametrize(("share", "name"), [(0.5, "max"), (0.4, "average")])
def test_before_any_draw_evaluation_takes_the_more_probable(share, name):
    x = torch.rand(1, 3, 4, 4)
    pool = create_pool("mixed", channels=3, weight="random", share=share).eval()
    assert torch.equal(pool(x), create_pool(name, channels=3)(x))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight": "free"}, "weight must be"),
        ({"share": 1.5}, "share must be a number from 0 to 1"),
        ({"share": 0.0}, "a learned share must start between 0 and 1"),
        ({"per": "site"}, "per must be 'layer', 'channel' or 'net', got 'site'"),
        ({"per": "net", "weight": "fixed"}, "per='net' is for weight='learned', got weight='fixed'"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("mixed", channels=3, **options)
    assert "MixedPool2d" in str(caught.value)


def test_flops_are_those_of_the_formula():
    # Comparisons; additions and a division; a difference and a multiply-add.
    assert create_pool("mixed", channels=5).flops((8, 6)) == 5 * 4 * 3 * (3 + 4 + 3)


def test_all_pools_of_a_model_learn_one_share():
    net = create_model("convnet", pool=lambda channels: create_pool("mixed", channels=channels, per="net"))
    pools = [module for module in net.modules() if type(module).__name__ == "MixedPool2d"]
    assert len(pools) == 3
    assert {pool.shared_in_net for pool in pools} == {("logit",)}
    assert len({id(pool.logit) for pool in pools}) == 1
    names = [name for name, _ in net.named_parameters() if name.endswith("logit")]
    assert len(names) == 1
    net(torch.rand(2, 3, 32, 32)).sum().backward()
    assert pools[0].logit.grad.abs() > 0
    apart = create_model("convnet", pool="mixed")
    assert len([name for name, _ in apart.named_parameters() if name.endswith("logit")]) == 3
    again = create_model("convnet", pool=lambda channels: create_pool("mixed", channels=channels, per="net"))
    with torch.no_grad():
        pools[0].logit.fill_(2.0)
    again.load_state_dict(net.state_dict())
    assert {pool.logit.item() for pool in again.modules() if hasattr(pool, "logit")} == {2.0}
