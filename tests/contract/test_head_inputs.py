"""What every head makes of inputs that are no usual map: it refuses them by name, or is right. Each case is a short
call, so the tests loop."""

import copy
import functools
import math
import warnings

import pytest
import torch
from torch import nn

from poolbench import create_head
from poolbench.heads import HEADS

SIZE = (5, 4)
CASES = [(name, options) for name in HEADS.table for options in ({}, *HEADS.find(name).variants)]


@functools.cache
def heads():
    """Every head with its variants, and what can be fitted fitted as well: words for the case and the head, with
    weights that are not those of the start. No test changes them."""
    return list(made(torch.float32))


def made(dtype):
    for name, options in CASES:
        torch.manual_seed(1)
        head = create_head(name, channels=6, num_classes=3, size=SIZE, **options).to(dtype).eval()
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        words = " ".join([name, *(f"{option}={value}" for option, value in options.items())])
        yield words, head
        if hasattr(head, "fit"):
            x, y = torch.rand(60, 6, *SIZE, dtype=dtype), torch.arange(60) % 3
            head.fit(lambda x=x, y=y: [(x, y)], torch.Generator().manual_seed(0))
            yield f"{words} fitted", head


def refusal(head, x):
    with pytest.raises(ValueError, match=r"^head ") as caught:
        head(x)
    message = str(caught.value)
    assert type(head).__name__ in message
    return message


def test_what_is_no_map_is_refused_by_name():
    for _, head in heads():
        for shape in ((6, *SIZE), (6,), (1, 2, 6, *SIZE)):
            assert f"(N, C, H, W), got a tensor of shape {shape}" in refusal(head, torch.rand(shape))
        for dtype in (torch.uint8, torch.int32, torch.int64, torch.bool):
            message = refusal(head, torch.ones(2, 6, *SIZE, dtype=dtype))
            assert "floating point" in message
            assert str(dtype) in message
        for channels in (1, 5, 7, 12):
            message = refusal(head, torch.rand(2, channels, *SIZE))
            assert f"made for maps of 6 channels, got {channels}" in message


def test_what_a_head_does_beside_its_forward_refuses_it_too():
    images, labels = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
    capsule = create_head("capsule", 6, 3, SIZE, reconstruction=0.1, image_size=(8, 8))
    mop = create_head("mop", 6, 3)
    for wrong in (torch.rand(2, 5, *SIZE), torch.ones(2, 6, *SIZE, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"^head Capsule: it "):
            capsule.training_loss(wrong, images, labels, 0.0)
        with pytest.raises(ValueError, match=r"^head Mop: it "):
            mop.fit(lambda wrong=wrong: [(wrong, labels)], torch.Generator())


def test_an_empty_batch_gives_no_logits_and_gradients():
    for words, head in heads():
        x = torch.rand(0, 6, *SIZE, requires_grad=True)
        y = head(x)
        y.sum().backward()
        assert (tuple(y.shape), x.grad.shape) == ((0, 3), x.shape), words


def test_it_is_called_as_torch_s_own_layers_are():
    x = torch.rand(2, 6, *SIZE)
    for words, head in heads():
        assert torch.equal(head(input=x), head(x)), words


def test_half_precision_is_float32_rounded():
    for words, head in heads():
        for dtype in (torch.float16, torch.bfloat16):
            low = copy.deepcopy(head).to(dtype)
            full, limits = copy.deepcopy(low).float(), torch.finfo(dtype)
            for level in (2000.0, 50.0, 1e-4, 0.0):
                values = level * torch.rand(2, 6, *SIZE, generator=torch.Generator().manual_seed(0))
                for memory_format in (torch.contiguous_format, torch.channels_last):
                    x = values.to(dtype).to(memory_format=memory_format).requires_grad_()
                    wide = x.detach().float().requires_grad_()
                    y, expected = low(x), full(wide)
                    slope = torch.linspace(-1, 1, 6).view(2, 3).to(dtype)
                    (g,) = torch.autograd.grad(y, x, slope)
                    (h,) = torch.autograd.grad(expected, wide, slope.float())
                    for name, one, other in (("values", y, expected), ("gradients", g, h)):
                        case = f"{name} of {words} in {dtype} at {level}, {memory_format}"
                        # What is too large for it even when rounded may be infinite.
                        assert (one.isfinite() | ~other.to(dtype).isfinite()).all(), case
                        if name == "gradients" and "bilinear" in words and "dimension=None" not in words:
                            continue  # the layers in front, torch's own, round what the covariance then sees
                        if name == "gradients" and "sim_pool" in words and "gamma=None" not in words and level == 0:
                            # Without contrast it is 0: what is left is rounding, times 1000 by the normalisation.
                            assert max(one.abs().max(), other.abs().max()) < 1e-4, case
                            continue
                        near = 16 * limits.eps * other.abs().max() + 64 * limits.tiny * limits.eps
                        assert (one.float() - other.to(dtype).float()).nan_to_num(0).abs().max() <= near, case


def test_autocast_gives_finite_gradients_before_the_head():
    for words, head in heads():
        net = nn.Sequential(nn.Conv2d(3, 6, 1), head)
        for dtype in (torch.float16, torch.bfloat16):
            for level in (2000.0, 1e-4, 0.0):
                x = level * torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
                net.zero_grad()
                with torch.autocast("cpu", dtype):
                    y = net(x)
                y.float().sum().backward()
                gradient, case = net[0].weight.grad, f"{words} in {dtype} at {level}"
                assert gradient.isfinite().all(), case
                expected = net(x)
                near = 0.05 * expected.abs().max()
                assert (y.float() - expected).abs().max() <= near, case


def test_an_infinite_cell_gives_the_limit_of_the_formula():
    """Softmax and covariance of infinities have none; the other formulas of a channel are told here."""
    limits = {
        "global_average": lambda a: a,
        "global_max": lambda a: a,
        "average_max": lambda a: a,
        "lp": abs,
        "log_sum_exp": lambda a: a,
        "gem": lambda a: max(a, 1e-6),
    }
    for name, limit in limits.items():
        for options in ({}, *HEADS.find(name).variants):
            if options.get("class_maps") or "eps" in options:
                continue
            head = create_head(name, channels=6, num_classes=3, size=SIZE, **options)
            for value in (math.inf, -math.inf):
                x = torch.rand(2, 6, *SIZE)
                plain = head.pool(x)
                x[0, 0] = value
                if limit(value) == math.inf:
                    x[0, 1, 2, 3] = value
                y = head.pool(x)
                each, case = y[0].view(-1, 6).T, (name, options, value)  # a channel's values, of average_max two
                assert each[0].tolist() == pytest.approx([limit(value)] * each.shape[1]), case
                changed = [0, 1] if limit(value) == math.inf else [0]
                assert all((each[channel] == limit(value)).all() for channel in changed[1:]), case
                for channel in changed:
                    each[channel] = plain[0].view(-1, 6).T[channel]
                assert torch.equal(y, plain), case


def test_a_net_is_traced_with_the_head_as_one_layer():
    x = torch.rand(2, 3, *SIZE)
    for words, head in heads():
        net = nn.Sequential(nn.Conv2d(3, 6, 1), head)
        traced = torch.fx.symbolic_trace(net)
        assert [node.op for node in traced.graph.nodes] == ["placeholder", "call_module", "call_module", "output"], (
            words
        )
        assert torch.equal(traced(x), net(x)), words
        with pytest.raises(ValueError, match=r"torch\.fx takes it as one layer"):
            torch.fx.symbolic_trace(head)


def test_a_trace_of_torchscript_gives_the_same():
    x, more = torch.rand(2, 6, *SIZE), torch.rand(5, 6, *SIZE)
    for words, head in heads():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes become constants, which it says
            traced = torch.jit.trace(head, (x,), check_trace=False)
        torch.testing.assert_close(traced(more), head(more), msg=words)


def test_they_are_made_in_any_default_dtype():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for words, head in made(torch.float64):
            y = head(torch.rand(2, 6, *SIZE))
            assert (y.dtype, y.isfinite().all()) == (torch.float64, True), words
    finally:
        torch.set_default_dtype(before)


def test_onnx_gives_the_same_at_every_size_and_for_zeros():
    """One export for what it once got wrong: sums with very small numbers, and where the bins of a pyramid end."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")

    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads = nn.ModuleList([create_head("spp", 6, 3, levels=(3,)), create_head("netvlad", 6, 3)])
            self.heads.append(create_head("bilinear", 6, 3, normalisation="signed_sqrt", dimension=None))

        def forward(self, x):
            return torch.cat([head(x) for head in self.heads], 1)

    module = Three().eval()
    sides = {2: torch.export.Dim("height", min=4, max=64), 3: torch.export.Dim("width", min=4, max=64)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, (torch.rand(2, 6, 8, 8),), dynamo=True, verbose=False, dynamic_shapes=(sides,)
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), options)
    for x in (torch.rand(2, 6, 5, 7), torch.rand(2, 6, 9, 4), torch.zeros(2, 6, 8, 8)):
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y.copy()), module(x), rtol=1e-3, atol=1e-3)
