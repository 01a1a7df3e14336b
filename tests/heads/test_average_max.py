import pytest
import torch

from poolbench import create_head


def make(channels=3, **options):
    return create_head("average_max", channels=channels, num_classes=2, **options)


def test_it_is_the_mean_of_average_and_maximum_or_both_side_by_side():
    x = torch.randn(2, 3, 5, 4)
    average, most = (create_head(name, channels=3, num_classes=2).pool(x) for name in ("global_average", "global_max"))
    torch.testing.assert_close(make().pool(x), (average + most) / 2)
    assert torch.equal(make(mode="cat").pool(x), torch.cat([average, most], 1))


@pytest.mark.parametrize(("mode", "theirs"), [("mean", "avgmax"), ("cat", "catavgmax")])
@pytest.mark.parametrize("size", [(5, 4), (1, 1), (7, 9)], ids=str)
def test_it_is_that_of_timm_and_so_are_its_gradients(mode, theirs, size):
    layers = pytest.importorskip("timm.layers")
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    ours, other = make(mode=mode).double().pool(x), layers.SelectAdaptivePool2d(pool_type=theirs, flatten=True)(x)
    torch.testing.assert_close(ours, other)
    slope = torch.randn_like(ours)
    gradients = [torch.autograd.grad(y, x, slope)[0] for y in (ours, other)]
    torch.testing.assert_close(*gradients)


def test_of_equal_maxima_one_gets_the_gradient():
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    make(channels=1).pool(x).sum().backward()
    assert sorted(x.grad.flatten().tolist()) == [0.125, 0.125, 0.125, 0.625]


def test_a_large_sum_is_no_overflow_in_half_precision():
    x = torch.full((1, 3, 2, 2), 60000.0, dtype=torch.float16)
    assert torch.equal(make().pool(x), x[:, :, 0, 0])


def test_both_side_by_side_have_twice_the_weights():
    assert make(mode="cat").classifier[0].in_features == 6
    assert make().classifier[0].in_features == 3


def test_flops():
    assert make().flops((4, 5)) == 3 * (20 + 19 + 3)  # additions and a division, comparisons, two halves and their sum
    assert make(mode="cat").flops((4, 5)) == 3 * (20 + 19)


@pytest.mark.parametrize("mode", ["sum", None, 2])
def test_errors_name_the_option(mode):
    with pytest.raises(ValueError, match=f"head AverageMax: mode must be 'mean' or 'cat', got {mode!r}"):
        make(mode=mode)
