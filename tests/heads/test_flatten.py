import pytest
import torch

from poolbench import create_head, create_model


def test_every_position_has_weights_of_its_own():
    head = create_head("flatten", channels=3, num_classes=2, size=(4, 5))
    assert head.classifier[0].in_features == 3 * 4 * 5
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(head(x), head.classifier(x.flatten(1)))
    moved = x.flip(3)
    assert not torch.allclose(head(moved), head(x))


def test_it_cannot_be_built_without_a_size():
    with pytest.raises(ValueError, match=r"size=\(H, W\) of the last map is needed"):
        create_head("flatten", channels=3, num_classes=2)


def test_another_size_is_refused_with_both_sizes():
    model = create_model("convnet", head="flatten", widths=(4,), depths=(1,), input_size=(8, 8))
    with pytest.raises(ValueError, match="maps of 4x4 pixels and got 8x8"):
        model(torch.zeros(1, 3, 16, 16))


def test_it_only_moves_numbers():
    assert create_head("flatten", channels=3, num_classes=2, size=(4, 5)).flops((4, 5)) == 0
