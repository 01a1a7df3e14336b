"""How far features move, and calibration: known answers."""

import numpy as np
import pytest
import torch
from torch import nn

from poolbench.measure.features import BINS, read_calibration
from poolbench.measure.invariance import read_transforms
from poolbench.measure.subject import Subject
from poolbench.records.probes import completed


class Given(nn.Module):
    """Gives the logits that are put into the images."""

    def forward(self, x):
        return x[:, :, 0, 0]


def subject(model, x, y, batch=7):
    return Subject(model.eval(), lambda: zip(x.split(batch), y.split(batch), strict=True), (0.0,) * 3, (1.0,) * 3)


def logits_of(chances):
    return torch.tensor(chances).log().view(len(chances), 3, 1, 1)


def test_a_calibrated_net_has_no_error_and_a_sure_one_all_of_its_errors():
    # Ten images named with 0.8, eight of them right.
    x = logits_of([[0.8, 0.1, 0.1]] * 10)
    y = torch.tensor([0] * 8 + [1] * 2)
    assert read_calibration(subject(Given(), x, y))["calibration_error"] == pytest.approx(0, abs=1e-6)
    sure = logits_of([[1.0 - 2e-7, 1e-7, 1e-7]] * 10)
    assert read_calibration(subject(Given(), sure, y))["calibration_error"] == pytest.approx(0.2, abs=1e-5)


def test_the_calibration_error_is_that_of_a_slow_reference():
    draw = np.random.default_rng(0)
    chances = draw.dirichlet((1, 1, 1), 200)
    y = torch.tensor(draw.integers(0, 3, 200))
    found = read_calibration(subject(Given(), logits_of(chances), y))["calibration_error"]
    sure, right = chances.max(1), chances.argmax(1) == y.numpy()
    expected = 0.0
    for number in range(BINS):
        inside = (sure >= number / BINS) & (sure < (number + 1) / BINS)
        if inside.any():
            expected += inside.sum() / 200 * abs(right[inside].mean() - sure[inside].mean())
    assert found == pytest.approx(expected, abs=1e-6)


def distances(subject, options):
    found = read_transforms(subject, options)
    return {name: value for name, value in found.items() if name.startswith("distance_")}


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).eval()


def test_features_are_what_the_last_layer_is_given():
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(20, 3, 12, 12, generator=draw), torch.zeros(20, dtype=torch.long)
    model = net()
    found = distances(subject(model, x, y), completed({"flip": ["horizontal", "vertical"], "features": True}))
    features, flipped = (model[:4](images).double().detach() for images in (x, x.flip(3)))
    cosine = torch.nn.functional.cosine_similarity
    between = (1 - cosine(features, features.roll(1, 0))).median()
    expected = ((1 - cosine(features, flipped)).mean() / between).item()
    assert found["distance_flip_horizontal"] == pytest.approx(expected, rel=1e-5)
    assert found["distance_flip"] == pytest.approx(
        (found["distance_flip_horizontal"] + found["distance_flip_vertical"]) / 2
    )


def test_features_of_what_is_left_alone_do_not_move_and_those_of_a_symmetric_net_bear_a_flip():
    draw = torch.Generator().manual_seed(2)
    x, y = torch.randn(12, 3, 8, 8, generator=draw), torch.zeros(12, dtype=torch.long)
    model = net()
    with torch.no_grad():
        model[0].weight.copy_((model[0].weight + model[0].weight.flip(3)) / 2)
    found = distances(
        subject(model, x, y), completed({"rotate": [0, 30], "flip": ["horizontal", "vertical"], "features": True})
    )
    assert found["distance_rotate_0"] == 0
    assert found["distance_flip_horizontal"] == pytest.approx(0, abs=1e-6)
    assert found["distance_flip_vertical"] > 1e-3
    assert found["distance_rotate_30"] > 1e-3


def test_a_net_that_sees_nothing_has_no_distances():
    model = net()
    nn.init.zeros_(model[0].weight)
    x, y = torch.randn(5, 3, 8, 8), torch.zeros(5, dtype=torch.long)
    assert distances(subject(model, x, y), completed({"rotate": [30], "features": True})) == {}
