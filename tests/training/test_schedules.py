"""Learning rates: where they start, turn and end, and that they never jump but where they should."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolbench.training.schedules import cosine, linear, step

shares = st.floats(0, 0.99)


@pytest.mark.parametrize("schedule", [cosine, linear])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("final", [0.0, 0.2])
def test_up_to_one_at_the_end_of_the_warmup_half_way_in_the_middle_down_to_the_end(schedule, warmup, final):
    factor = schedule(warmup=warmup, final=final)
    assert factor(0.0) == (0.0 if warmup else 1.0)
    assert factor(warmup / 2) == pytest.approx(0.5 if warmup else 1.0)
    assert factor(warmup) == pytest.approx(1.0)
    assert factor((1 + warmup) / 2) == pytest.approx((1 + final) / 2)  # both are symmetric about their middle
    assert factor(1.0) == pytest.approx(final)


@pytest.mark.parametrize("schedule", [cosine, linear])
@given(warmup=shares, final=shares, done=st.floats(0, 0.999))
def test_they_rise_then_fall_within_bounds_and_do_not_jump(schedule, warmup, final, done):
    factor = schedule(warmup=warmup, final=final)
    here, soon = factor(done), factor(done + 1e-9)
    assert min(final, here) - 1e-9 <= here <= 1 + 1e-9
    assert here >= 0
    steepest = max(1 / warmup if warmup else 0, math.pi / 2 / (1 - warmup))
    assert abs(soon - here) <= 1e-9 * steepest * 1.01 + 1e-12
    assert soon >= here - 1e-12 if done + 1e-9 < warmup else done < warmup or soon <= here + 1e-12


def test_linear_is_a_line_and_cosine_starts_and_ends_flat():
    line, curve = linear(warmup=0.0), cosine(warmup=0.0)
    assert [line(done) for done in (0.25, 0.5, 0.75)] == pytest.approx([0.75, 0.5, 0.25])
    assert curve(0.25) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert curve(0.01) > 0.999
    assert curve(0.99) < 0.001


def test_step_multiplies_at_each_milestone_from_there_on():
    factor = step(warmup=0.1, milestones=[0.5, 0.75], gamma=0.1)
    assert factor(0.05) == pytest.approx(0.5)
    assert factor(0.1) == factor(0.4999) == 1.0
    assert factor(0.5) == factor(0.7499) == pytest.approx(0.1)
    assert factor(0.75) == factor(0.999) == pytest.approx(0.01)
    assert step(milestones=[])(0.9) == 1.0
    assert step(milestones=(0.5,), gamma=1)(0.9) == 1.0


@pytest.mark.parametrize("schedule", [cosine, linear, step])
@pytest.mark.parametrize("bad", [-0.1, 1, 1.5, math.nan, True, "0.1", None, [0.1]])
def test_shares_outside_their_range_are_refused(schedule, bad):
    for option in ("warmup",) if schedule is step else ("warmup", "final"):
        with pytest.raises(ValueError, match=rf"schedule\.{option} must be a number in \[0, 1\), got "):
            schedule(**{option: bad})


@pytest.mark.parametrize("bad", [[0.75, 0.5], [0.0], [1.0], [0.5, math.nan], ["0.5"], 0.5j, None, [None], [True]])
def test_milestones_must_be_rising_shares(bad):
    with pytest.raises(ValueError, match=r"schedule\.milestones must be rising shares"):
        step(milestones=bad)


@pytest.mark.parametrize("bad", [0, -1, 1.1, math.nan, "0.1", None, True])
def test_gamma_must_shrink(bad):
    with pytest.raises(ValueError, match=r"schedule\.gamma must be a number in \(0, 1\]"):
        step(gamma=bad)
