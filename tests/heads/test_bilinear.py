import pytest
import torch
from torch import nn

from poolbench import create_head
from poolbench.heads.bilinear import newton_schulz
from poolbench.measure.cost import _count


def make(channels=6, dimension=None, **options):
    return create_head("bilinear", channels=channels, num_classes=3, dimension=dimension, **options).eval()


def root(s):
    """Of symmetric matrices, by their eigenvalues."""
    values, vectors = torch.linalg.eigh(s)
    return vectors * values.clamp(min=0).sqrt().unsqueeze(-2) @ vectors.mT


def covariance(x):
    """As the paper writes it: X (I / M - 1 1^T / M^2) X^T."""
    x = x.flatten(2)
    m = x.shape[2]
    return x @ (torch.eye(m, dtype=x.dtype) / m - torch.ones(m, m, dtype=x.dtype) / m**2) @ x.mT


def triangle(matrices):
    rows, columns = torch.triu_indices(*matrices.shape[1:])
    return matrices[:, rows, columns]


def spread(least, count=4, d=8):
    """Random symmetric matrices with eigenvalues from ``least`` to 1."""
    vectors = torch.linalg.qr(torch.randn(count, d, d, dtype=torch.float64)).Q
    return vectors * torch.linspace(least, 1, d, dtype=torch.float64) @ vectors.mT


@pytest.mark.parametrize(("least", "iterations", "error"), [(0.3, 5, 1e-6), (0.1, 5, 3e-3), (0.01, 12, 1e-9)])
def test_newton_schulz_comes_to_the_square_root(least, iterations, error):
    a = spread(least)
    found = newton_schulz(a, iterations)
    torch.testing.assert_close(found, root(a), rtol=0, atol=error)
    assert (found - root(a)).abs().max() < (newton_schulz(a, iterations // 2) - root(a)).abs().max()


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_newton_schulz_is_the_iteration_of_the_paper(iterations):
    a = spread(0.01)
    y, z, three = a, torch.eye(8, dtype=a.dtype), 3 * torch.eye(8, dtype=a.dtype)
    for _ in range(iterations):
        y, z = y @ (three - z @ y) / 2, (three - z @ y) @ z / 2
    torch.testing.assert_close(newton_schulz(a, iterations), y)


def test_the_vector_is_the_upper_triangle_of_the_covariance_s_root():
    x = torch.randn(3, 4, 20, 20, dtype=torch.float64)
    head = make(channels=4, iterations=15).double()
    torch.testing.assert_close(head.pool(x), triangle(root(covariance(x))))
    few = make(channels=4).double()
    torch.testing.assert_close(few.pool(x), triangle(root(covariance(x))), rtol=0, atol=2e-2)


def test_it_grows_as_the_features_do_and_does_not_see_their_mean():
    head, x = make().double(), torch.randn(2, 6, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(head.pool(1000 * x), 1000 * head.pool(x))
    torch.testing.assert_close(head.pool(x + torch.randn(1, 6, 1, 1)), head.pool(x))


@pytest.mark.parametrize("normalisation", ["sqrt", "signed_sqrt"])
def test_neither_the_order_of_positions_nor_their_repetition_matters(normalisation):
    head, x = make(normalisation=normalisation).double(), torch.randn(2, 6, 5, 4, dtype=torch.float64)
    moved = x.flatten(2)[..., torch.randperm(20)].view(2, 6, 4, 5)
    torch.testing.assert_close(head.pool(moved), head.pool(x))
    torch.testing.assert_close(head.pool(x.repeat(1, 1, 2, 3)), head.pool(x))


def test_signed_roots_are_those_of_b_cnn():
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    y = make(normalisation="signed_sqrt").double().pool(x)
    for image, vector in zip(x, y, strict=True):
        b = sum(torch.outer(column, column) for column in image.flatten(1).T) / 20
        b = torch.sign(b) * torch.sqrt(b.abs() + 1e-8)
        torch.testing.assert_close(vector, (b / b.norm()).flatten())
    torch.testing.assert_close(y.norm(dim=1), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "features"),
    [
        ({}, 64 * 65 // 2),
        ({"dimension": 256}, 32_896),
        ({"dimension": None}, 6 * 7 // 2),
        ({"dimension": 10, "normalisation": "signed_sqrt"}, 100),
    ],
    ids=str,
)
def test_the_length_of_the_vector(options, features):
    head = create_head("bilinear", channels=6, num_classes=3, **options).eval()
    assert head.classifier[0].in_features == features
    assert head.pool(torch.randn(2, 6, 3, 3)).shape == (2, features)


def test_a_convolution_reduces_the_channels_first():
    head, x = make(dimension=3), torch.randn(2, 6, 5, 4)
    conv, norm, relu = head.reduction
    assert (conv.weight.shape, conv.bias) == ((3, 6, 1, 1), None)
    assert isinstance(norm, nn.BatchNorm2d)
    torch.testing.assert_close(head.pool(x), make(channels=3).pool(relu(norm(conv(x)))))
    assert [name for name, _ in make().named_parameters()] == ["classifier.0.weight", "classifier.0.bias"]


@pytest.mark.parametrize("normalisation", ["sqrt", "signed_sqrt"])
@pytest.mark.parametrize("size", [(1, 2), (2, 2), (4, 4)])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_fewer_cells_than_channels_give_finite_values_and_gradients(normalisation, size, scale):
    x = (torch.rand(2, 64, *size) * scale).requires_grad_()
    y = make(channels=64, normalisation=normalisation).pool(x)
    (y * torch.randn_like(y)).sum().backward()
    assert y.isfinite().all()
    assert y.abs().sum() > 0
    assert x.grad.isfinite().all()


def test_the_gradient_of_a_rank_deficient_root_stays_moderate():
    """The true root's slope is infinite there; each iteration lets it grow by half at most."""
    x = torch.randn(2, 64, 4, 4, dtype=torch.float64)
    norms = []
    for iterations in (3, 5, 20):
        x.grad = None
        head = make(channels=64, iterations=iterations).double()
        generator = torch.Generator().manual_seed(0)
        y = head.pool(x.requires_grad_())
        (y * torch.randn(y.shape, generator=generator, dtype=y.dtype)).sum().backward()
        norms.append(x.grad.norm().item())
    assert norms[0] < norms[1] < norms[2]
    assert norms[1] < 100


def test_a_map_that_is_the_same_everywhere_has_no_covariance():
    for level in (0.0, 3.0):
        x = torch.full((1, 6, 4, 4), level, requires_grad=True)
        y = make().pool(x)
        y.sum().backward()
        torch.testing.assert_close(y, torch.zeros(1, 21), rtol=0, atol=1e-6)
        assert x.grad.isfinite().all()


def test_one_cell_is_refused_where_a_covariance_is_asked_for():
    words = "Bilinear: it needs maps of at least 2 pixels, got 1x1: a single one has no covariance"
    with pytest.raises(ValueError, match=words):
        make()(torch.zeros(1, 6, 1, 1))
    with pytest.raises(ValueError, match=words):
        make(size=(1, 1))
    x = torch.randn(2, 6, 1, 1)
    outer = torch.einsum("nc,nd->ncd", x.flatten(1), x.flatten(1)).flatten(1)
    y = make(normalisation="signed_sqrt", size=(1, 1)).pool(x)
    assert torch.equal(y.sign(), outer.sign())


@pytest.mark.parametrize("normalisation", ["sqrt", "signed_sqrt"])
def test_half_precision_is_computed_in_float32(normalisation):
    head, x = make(normalisation=normalisation), torch.randn(2, 6, 5, 4).bfloat16()
    expected = head.pool(x.float()).bfloat16()
    assert torch.equal(head.pool(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head.pool(x), expected)
        exact = head.pool(x.float())
    torch.testing.assert_close(exact, head.double().pool(x.double()).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"normalisation": "log"}, "Bilinear: normalisation must be 'sqrt' or 'signed_sqrt', got 'log'"),
        ({"dimension": 0}, "Bilinear: dimension must be a whole number of at least 1, got 0"),
        ({"dimension": 64.0}, "dimension must be"),
        ({"iterations": 0}, "iterations must be a whole number of at least 1, got 0"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)


def test_flops_are_what_a_counter_does_not_see():
    x = torch.randn(1, 6, 5, 4)
    head = make(dimension=4, iterations=3)
    assert head.flops((5, 4)) == 2 * 4 * 20 + 16 + 4 + 16 + 3 * 2 * 16 + 10
    products = 2 * 4 * 4 * 20 + (1 + 3 + 2) * 2 * 4**3  # the covariance; the last Z is not needed
    assert _count(head, x) == 2 * 6 * 4 * 20 + products + 2 * 10 * 3
    head = make(normalisation="signed_sqrt")
    assert head.flops((5, 4)) == 9 * 36
    assert _count(head, x) == 2 * 6 * 6 * 20 + 2 * 36 * 3
