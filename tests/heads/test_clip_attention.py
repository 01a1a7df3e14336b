import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_head
from poolbench.heads.clip_attention import _resampling
from poolbench.measure.cost import _count


def make(channels=6, size=(5, 4), **options):
    return create_head("clip_attention", channels=channels, num_classes=3, size=size, **options)


def stir(head):
    """Other weights than those at the start."""
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    return head


def of_timm(head):
    """timm's, with the same weights; a bias of the keys, whatever it is, cancels."""
    attention_pool2d = pytest.importorskip("timm.layers.attention_pool2d")
    channels, ours = head.channels, head.state_dict()
    theirs = attention_pool2d.AttentionPool2d(channels, head.grid, num_heads=head.heads, head_dim=None).double()
    layers = ("query", "key", "value")
    state = {
        "pos_embed": ours["table"],
        "qkv.weight": torch.cat([ours[f"{layer}.weight"] for layer in layers]),
        "qkv.bias": torch.cat([ours["query.bias"], torch.randn(channels).double(), ours["value.bias"]]),
    }
    theirs.load_state_dict({**theirs.state_dict(), **state})
    return theirs


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("size", [(5, 4), (9, 7), (3, 3), (2, 4), (1, 1), (5, 9)], ids=str)
def test_it_is_that_of_timm_at_any_size_and_so_are_its_gradients(heads, size):
    head = stir(make(heads=heads)).double()
    theirs = of_timm(head)
    x = torch.randn(2, 6, *size, dtype=torch.float64, requires_grad=True)
    found, expected = head.pool(x), theirs(x, pre_logits=True)
    near = {} if size == (5, 4) else {"rtol": 1e-5, "atol": 1e-5}  # timm resamples in float32
    torch.testing.assert_close(found, expected, **near)
    slope = torch.randn_like(found)
    gradients = [torch.autograd.grad(y, x, slope, retain_graph=True)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients, **near)
    found.backward(slope)
    expected.backward(slope)
    torch.testing.assert_close(head.table.grad, theirs.pos_embed.grad, **near)
    matrices = torch.cat([layer.weight.grad for layer in (head.query, head.key, head.value)])
    torch.testing.assert_close(matrices, theirs.qkv.weight.grad, **near)
    for layer, bias in zip((head.query, None, head.value), theirs.qkv.bias.grad.split(6), strict=True):
        expected = bias.new_zeros(6) if layer is None else layer.bias.grad
        torch.testing.assert_close(expected, bias, **(near or {"rtol": 1e-6, "atol": 1e-10}))


def test_it_has_the_weights_of_clip():
    # 17 places, three matrices with biases but the keys', which cancels; CLIP's projection is the classifier
    weights = create_head("clip_attention", channels=256, num_classes=10, size=(4, 4)).parameters()
    assert sum(p.numel() for p in weights) == 204_298 - 256


@pytest.mark.parametrize(("channels", "heads"), [(256, 4), (64, 1), (6, 1), (100, 1), (192, 3), (2048, 32), (130, 2)])
def test_there_is_a_head_for_64_channels_or_as_many_below_as_divide(channels, heads):
    assert make(channels).heads == heads


def test_without_a_size_the_table_is_that_of_seven_by_seven():
    head = stir(make(size=None))
    other = make(size=(7, 7))
    other.load_state_dict(head.state_dict())
    x = torch.randn(2, 6, 7, 7)
    assert torch.equal(head(x), other(x))
    assert head.table.shape == (50, 6)


def test_positions_matter_by_the_table_alone():
    head, x = stir(make()), torch.randn(2, 6, 5, 4)
    turned = x.flip(3)
    assert not torch.allclose(head(turned), head(x), rtol=1e-2, atol=1e-2)
    with torch.no_grad():
        head.table[1:] = head.table[1]
    torch.testing.assert_close(head(turned), head(x), rtol=1e-4, atol=1e-4)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12), st.random_module())
def test_the_table_is_resampled_as_torch_resamples_an_image(height, width, new_height, new_width, seed):
    head = make(channels=2, size=(height, width)).double()
    found = head._table_for(new_height, new_width)
    image = head.table[1:].T.reshape(1, 2, height, width)
    expected = F.interpolate(image, (new_height, new_width), mode="bicubic", antialias=True)
    torch.testing.assert_close(found[1:], expected.flatten(2)[0].T)
    assert torch.equal(found[0], head.table[0])


def test_at_its_own_size_the_matrix_is_that_of_one():
    like = torch.zeros((), dtype=torch.float64)
    for side in range(1, 20):
        assert torch.equal(_resampling(side, side, like), torch.eye(side, dtype=torch.float64))


def test_one_exported_graph_serves_all_sizes():
    head = stir(make()).eval()
    sides = {2: torch.export.Dim("height", min=2, max=64), 3: torch.export.Dim("width", min=2, max=64)}
    graph = torch.export.export(head, (torch.rand(2, 6, 8, 9),), dynamic_shapes=(sides,)).module()
    for size in ((5, 4), (3, 11), (20, 6)):
        x = torch.randn(2, 6, *size)
        torch.testing.assert_close(graph(x), head(x), rtol=1e-4, atol=1e-4)


def test_flops_are_what_a_counter_does_not_see():
    head, x = make(heads=2), torch.randn(1, 6, 5, 4)
    # the average, the table; the query's scale, two biases; a softmax of 21
    assert head.flops((5, 4)) == 6 * (20 + 21 + 3) + 2 * (20 + 21 + 21 + 20 + 21)
    assert _count(head, x) == 2 * 6 * 6 * 3 + 2 * 2 * (2 * 21 * 6) + 2 * 6 * 3  # matrices; scores, averages; classifier


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": 4}, "ClipAttention: heads must divide channels=6, got 4"),
        ({"heads": 0}, "heads must be null or a whole number of at least 1, got 0"),
        ({"heads": 2.0}, "heads must be"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)
