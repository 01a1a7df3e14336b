import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool


@given(
    kernel_size=st.sampled_from([1, 3, 4, 5]),
    stride=st.integers(1, 3),
    encoder_kernel_size=st.sampled_from([1, 3]),
    height=st.integers(3, 9),
    width=st.integers(3, 9),
    memory_format=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    seed=st.random_module(),
)
def test_every_pixel_is_the_average_of_its_surroundings_by_its_own_kernel(
    kernel_size, stride, encoder_kernel_size, height, width, memory_format, seed
):
    x = torch.randn(2, 3, height, width, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    options = {"kernel_size": kernel_size, "stride": stride, "encoder_kernel_size": encoder_kernel_size}
    pool = create_pool("carafe", channels=3, compressed_channels=4, **options).double()
    with torch.no_grad():
        pool.encoder.weight.normal_()
    compressed = F.conv2d(x, pool.compressor.weight, pool.compressor.bias)
    logits = F.conv2d(compressed, pool.encoder.weight, pool.encoder.bias, stride, encoder_kernel_size // 2)
    before, rows = (kernel_size - 1) // 2, []
    padded = F.pad(x, (before, kernel_size, before, kernel_size))  # zeros
    for i in range(height // stride):
        row = []
        for j in range(width // stride):
            cells = padded[..., i * stride : i * stride + kernel_size, j * stride : j * stride + kernel_size]
            weights = logits[..., i, j].softmax(1)
            row.append((cells.flatten(2) * weights[:, None]).sum(-1))
        rows.append(torch.stack(row, -1))
    expected, y = torch.stack(rows, -2), pool(x)
    torch.testing.assert_close(y, expected)
    tensors, along = [x, *pool.parameters()], torch.randn_like(y)
    slopes, known = (torch.autograd.grad(one, tensors, along) for one in (y, expected))
    torch.testing.assert_close(slopes, known)


def test_an_encoder_of_zeros_gives_the_average_of_five_times_five_pixels():
    pool, x = create_pool("carafe", channels=3), torch.randn(2, 3, 9, 8)
    torch.nn.init.zeros_(pool.encoder.weight)
    torch.testing.assert_close(pool(x), F.avg_pool2d(x, 5, 2, 2)[..., :4, :])


def test_a_kernel_of_its_centre_alone_gives_subsampling():
    pool, x = create_pool("carafe", channels=3), torch.randn(2, 3, 9, 8)
    torch.nn.init.zeros_(pool.encoder.weight)
    with torch.no_grad():
        pool.encoder.bias[12] = 100
    torch.testing.assert_close(pool(x), x[..., :8:2, ::2])


def test_it_starts_near_the_average_and_does_so_anew():
    pool, x = create_pool("carafe", channels=3), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        pool.encoder.weight.normal_()
    average = F.avg_pool2d(x, 5, 2, 2)
    assert (pool(x) - average).abs().max() > 0.05
    pool.reset_parameters()
    torch.testing.assert_close(pool(x), average, rtol=0, atol=0.05)


def test_it_has_as_many_parameters_as_the_paper_says():
    pool = create_pool("carafe", channels=8, compressed_channels=64)
    expected = (64 * 8 + 64) + (9 * 64 * 25 + 25)
    assert sum(parameter.numel() for parameter in pool.parameters()) == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compressed_channels": 0}, "compressed_channels must be a whole number of at least 1, got 0"),
        ({"encoder_kernel_size": 4}, "encoder_kernel_size must be odd, got 4"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("carafe", channels=3, **options)
    assert "CarafePool2d" in str(caught.value)


def test_flops_share_the_kernel_among_the_channels():
    compressor, encoder, softmax = 4 * 16 * (2 * 64 + 1), 25 * (2 * 16 * 9 + 1), 5 * 25
    per_window = round((compressor + encoder + softmax) / 64) + 2 * 25
    assert create_pool("carafe", channels=64).flops((8, 6)) == 64 * 4 * 3 * per_window


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_one_image_at_a_time_gives_what_all_at_once_give_and_so_do_gradients_of_gradients(memory_format, monkeypatch):
    x = torch.randn(3, 4, 7, 8, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    pool = create_pool("carafe", channels=4).double()
    torch.nn.init.normal_(pool.encoder.weight)
    tensors = [x, *pool.parameters()]
    at_once = pool(x)
    twice = torch.autograd.grad(at_once.square().sum(), tensors, create_graph=True)  # by torch's own derivatives
    monkeypatch.setattr("poolbench.pooling.carafe.CHUNK_BYTES", 1)
    y = pool(x)
    torch.testing.assert_close(y, at_once)
    torch.testing.assert_close(torch.autograd.grad(y.square().sum(), tensors), twice)
    assert torch.autograd.gradgradcheck(pool, x)
