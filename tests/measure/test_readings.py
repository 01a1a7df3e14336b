"""The table of measures: each is read when it is asked for, and moves nothing else."""

import math

import pytest
import torch
from torch import nn

from poolbench import create_model
from poolbench.measure.readings import MEASURES, read_measures
from poolbench.measure.subject import Subject
from poolbench.records.probes import DEFAULTS, names

ASK = {
    "transforms": {"rotate": [10], "features": True},
    "consistency": {"consistency": [1]},
    "sites": {"site_shifts": [1]},
    "information": {"information": True},
    "corruptions": {"corruptions": ["contrast"], "severities": [3]},
    "calibration": {"calibration": True},
}
EVERYTHING = {name: value for asked in ASK.values() for name, value in asked.items()}


def subject(model=None, n=30):
    draw = torch.Generator().manual_seed(3)
    x, y = torch.randn(n, 3, 16, 16, generator=draw), torch.randint(10, (n,), generator=draw)
    model = model or create_model("convnet", pool="max", widths=[4, 8], depths=[1, 1])
    return Subject(model, lambda: zip(x.split(8), y.split(8), strict=True), (0.5,) * 3, (0.25,) * 3, seed=1)


def test_every_measure_of_the_table_is_tried_here_and_gives_names_that_are_told_beforehand():
    assert ASK.keys() == MEASURES.keys()
    one = subject()
    for name, asked in ASK.items():
        found = read_measures(one, asked)
        assert found, name
        assert set(found) <= set(names(asked)), name
        assert all(map(math.isfinite, found.values())), name


def test_all_at_once_is_each_alone_and_nothing_is_left_changed():
    one = subject()
    one.model.train()
    state = {key: value.clone() for key, value in one.model.state_dict().items()}
    torch.manual_seed(5)
    before = torch.get_rng_state()
    together = read_measures(one, EVERYTHING)
    assert torch.equal(torch.get_rng_state(), before)
    assert one.model.training
    assert all(torch.equal(value, state[key]) for key, value in one.model.state_dict().items())
    assert all(parameter.grad is None for parameter in one.model.parameters())
    alone = {}
    for asked in ASK.values():
        alone |= read_measures(one, asked)
    assert together == alone


def test_nothing_is_read_unasked():
    assert read_measures(subject(), {}) == {}
    assert read_measures(subject(), DEFAULTS) == {}
    assert read_measures(subject(), {"features": True}) == {}  # of no transform


def test_as_many_images_are_read_as_are_asked_for():
    seen = []

    class Counting(nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return torch.zeros(len(x), 10)

    read_measures(subject(Counting()), {"calibration": True, "samples": 20})
    assert sum(seen) == 20


def test_unknown_options_and_values_are_refused():
    with pytest.raises(ValueError, match=r"unknown option .probe\.corruption.\. Did you mean 'corruptions'"):
        read_measures(subject(), {"corruption": ["fog"]})
    with pytest.raises(ValueError, match=r"probe.severities must be a list of whole numbers from 1 to 5"):
        read_measures(subject(), {"severities": [9]})
