import copy

import pytest
import torch

from poolbench import create_head
from poolbench.measure.cost import _count

KINDS = [{"kind": kind, **more} for kind in ("query", "gated", "class") for more in ({}, {"heads": 2})]
every_kind = pytest.mark.parametrize("options", KINDS, ids=str)


def make(channels=6, **options):
    return create_head("attention", channels=channels, num_classes=3, **options)


def stir(head):
    """Other weights than those at the start."""
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    return head


def test_the_query_starts_as_the_global_average():
    x = torch.randn(2, 6, 5, 4)
    for heads in (1, 2, 3, 6):
        torch.testing.assert_close(make(heads=heads).pool(x), x.mean((2, 3)))


def test_a_large_query_picks_the_position_that_it_likes_best():
    head, x = stir(make()), torch.randn(2, 6, 5, 4)
    liked = (x.flatten(2) * head.score.weight[0, :, None]).sum(1).argmax(1)
    with torch.no_grad():
        head.score.weight.mul_(1e4)
    expected = torch.stack([one.flatten(1)[:, at] for one, at in zip(x, liked, strict=True)])
    torch.testing.assert_close(head.pool(x), expected)


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_each_group_of_channels_is_averaged_by_its_own_scores(heads):
    head, x = stir(make(heads=heads)), torch.randn(2, 6, 5, 4)
    size = 6 // heads
    for image, vector in zip(x, head.pool(x), strict=True):
        positions = image.flatten(1).T
        for number, w in enumerate(head.score.weight):
            weights = torch.stack([(p @ w).exp() for p in positions])
            group = slice(number * size, (number + 1) * size)
            expected = sum(a * p[group] for a, p in zip(weights / weights.sum(), positions, strict=True))
            torch.testing.assert_close(vector[group], expected)


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_gated_scores_are_those_of_the_formula_one_position_after_the_other(heads):
    head = stir(make(kind="gated", heads=heads, dimension=4)).double()
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    size = 6 // heads
    vectors = []
    for image in x:
        positions = image.flatten(1).T
        for number, w in enumerate(head.score.weight):
            scores = []
            for h in positions:
                content = [(row @ h + b).tanh() for row, b in zip(head.content.weight, head.content.bias, strict=True)]
                gate = [1 / (1 + (-row @ h - b).exp()) for row, b in zip(head.gate.weight, head.gate.bias, strict=True)]
                scores.append(sum(a * t * g for a, t, g in zip(w, content, gate, strict=True)).exp())
            part = positions[:, number * size : (number + 1) * size]
            vectors.append(sum(s * p for s, p in zip(scores, part, strict=True)) / sum(scores))
    expected = torch.stack(vectors).view(2, 6)
    ours = head.pool(x)
    torch.testing.assert_close(ours, expected)
    slope = torch.randn_like(ours)
    own = [x, *(p for name, p in head.named_parameters() if not name.startswith("classifier"))]
    for one, other in zip(*(torch.autograd.grad(y, own, slope) for y in (ours, expected)), strict=True):
        torch.testing.assert_close(one, other)


def test_a_gated_layer_has_its_two_matrices_with_biases_and_one_vector_a_head():
    own = {name: tuple(p.shape) for name, p in make(kind="gated", heads=2).named_parameters()}
    assert own == {
        "content.weight": (128, 6),
        "content.bias": (128,),
        "gate.weight": (128, 6),
        "gate.bias": (128,),
        "score.weight": (2, 128),
        "classifier.0.weight": (3, 6),
        "classifier.0.bias": (3,),
    }


def test_a_closed_gate_leaves_the_average():
    head, x = stir(make(kind="gated")), torch.rand(2, 6, 5, 4)
    with torch.no_grad():
        head.gate.weight.zero_()
        head.gate.bias.fill_(-200)
    torch.testing.assert_close(head.pool(x), x.mean((2, 3)))


@every_kind
def test_positions_do_not_matter(options):
    head, x = stir(make(**options)), torch.randn(2, 6, 5, 4)
    moved = x.flatten(2)[..., torch.randperm(20)].view(2, 6, 4, 5)
    torch.testing.assert_close(head(moved), head(x), rtol=1e-4, atol=1e-4)


@every_kind
def test_a_constant_map_is_as_good_as_one_pixel_without_a_class_token(options):
    head, pixel = stir(make(**options)), torch.randn(2, 6, 1, 1)
    same = torch.allclose(head.pool(pixel.expand(2, 6, 5, 4)), head.pool(pixel), atol=1e-5)
    assert same == (options["kind"] != "class")  # beside the class token many pixels outweigh one


@pytest.mark.parametrize("heads", [1, 2])
def test_class_attention_is_that_of_timm(heads):
    cait = pytest.importorskip("timm.models.cait")
    head = stir(make(kind="class", heads=heads, blocks=2))
    x = torch.randn(2, 6, 5, 4)
    token = head.token.view(1, 1, 6).expand(2, 1, 6)
    for block in head.blocks:
        theirs = cait.LayerScaleBlockClassAttn(dim=6, num_heads=heads, mlp_ratio=4.0, qkv_bias=True)
        theirs.norm1.eps = theirs.norm2.eps = 1e-6
        names = {
            "gamma_1": "scale1",
            "gamma_2": "scale2",
            "attn.q.weight": "query.weight",
            "attn.q.bias": "query.bias",
            "attn.k.weight": "key.weight",
            "attn.v.weight": "value.weight",
            "attn.v.bias": "value.bias",
            "attn.proj.weight": "out.weight",
            "attn.proj.bias": "out.bias",
            "mlp.fc1.weight": "mlp.0.weight",
            "mlp.fc1.bias": "mlp.0.bias",
            "mlp.fc2.weight": "mlp.2.weight",
            "mlp.fc2.bias": "mlp.2.bias",
            **{f"norm{i}.{part}": f"norm{i}.{part}" for i in (1, 2) for part in ("weight", "bias")},
        }
        ours = block.state_dict()
        state = {theirs_: ours[ours_] for theirs_, ours_ in names.items()}
        state["attn.k.bias"] = torch.randn(6)  # whatever it is, it cancels
        theirs.load_state_dict(state)
        token = theirs(x.flatten(2).transpose(1, 2), token)
    torch.testing.assert_close(head.pool(x), head.norm(token)[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("channels", "blocks"), [(6, 2), (64, 1)])
def test_class_attention_has_twelve_matrices_a_block(channels, blocks):
    head = make(channels, kind="class", blocks=blocks)
    own = sum(p.numel() for name, p in head.named_parameters() if not name.startswith("classifier"))
    assert own == blocks * (12 * channels**2 + 14 * channels) + channels + 2 * channels  # token, last normalisation


def test_class_attention_starts_near_its_token():
    head = make(kind="class", layer_scale=1e-6)
    expected = head.norm(head.token).expand(2, 6)
    torch.testing.assert_close(head.pool(torch.randn(2, 6, 5, 4)), expected, rtol=1e-2, atol=1e-2)
    assert all((scale == 0.1).all() for b in make(kind="class").blocks for scale in (b.scale1, b.scale2))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "clip"}, "Attention: kind must be 'query', 'gated' or 'class', got 'clip'"),
        ({"heads": 4}, "Attention: heads must divide channels=6, got 4"),
        ({"heads": 0}, "heads must be a whole number of at least 1, got 0"),
        ({"blocks": 0}, "blocks must be"),
        ({"blocks": 2.0}, "blocks must be"),
        ({"kind": "gated", "dimension": 0}, "dimension must be a whole number of at least 1, got 0"),
        ({"layer_scale": 0}, "layer_scale must be a number above 0, got 0"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)


def test_flops_are_what_a_counter_does_not_see():
    x = torch.randn(1, 6, 5, 4)
    head = make(heads=2)
    assert head.flops((5, 4)) == 2 * (19 + 20 + 20 + 19 + 20)  # comparisons, differences, exp, additions, divisions
    assert _count(head, x) == 2 * 20 * 6 * 2 + 2 * 20 * 6 + 2 * 6 * 3  # scores, average, classifier
    head = make(kind="gated", heads=2, dimension=7)
    assert head.flops((5, 4)) == 2 * 98 + 20 * 7 * 5  # the softmax; two biases, two functions, a product
    assert _count(head, x) == 2 * 20 * 6 * 7 * 2 + 2 * 20 * 7 * 2 + 2 * 20 * 6 + 2 * 6 * 3
    head = make(kind="class", blocks=1)
    assert head.flops((5, 4)) == 20 + 21 + 21 + 20 + 21 + 5 * 6
    matrices = 2 * 6 * 6 * (1 + 21 + 21 + 1 + 8)  # query, keys, values, output, the layers after
    assert _count(head, x) == matrices + 2 * (2 * 21 * 6) + 2 * 6 * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_are_not_rounded_in_half_precision(dtype):
    """Scores of 50 are rounded to 1/32 in float16: shares would be off by 3 per cent."""
    head = create_head("attention", channels=32, num_classes=3).to(dtype)
    with torch.no_grad():
        head.score.weight.fill_(3)
    x = torch.rand(2, 32, 6, 6).to(dtype)
    expected = copy.deepcopy(head).float().pool(x.float())
    torch.testing.assert_close(head.pool(x), expected.to(dtype), rtol=4 * torch.finfo(dtype).eps, atol=0)
