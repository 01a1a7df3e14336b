"""What each epoch of a training has, and how much of the whole is done."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolbench.options import Trainer
from poolbench.training.course import Course, left_out

FLOPS = {None: 9, 8: 1, 16: 4, 32: 16}

trainers = st.builds(
    Trainer,
    epochs=st.integers(1, 12),
    batch_size=st.integers(1, 20),
    sizes=st.none() | st.lists(st.sampled_from([8, 16, 32]), min_size=1, max_size=4),
    skip_easy=st.sampled_from([0.0, 0.3, 0.48, 0.8]),
)


@given(trainer=trainers, samples=st.integers(100, 300))
def test_it_is_what_a_loop_over_all_batches_counts(trainer, samples):
    course, images, flops, steps = Course(trainer, samples, FLOPS), 0, 0, 0
    done = [course.share_of_work(0)]
    for number, epoch in enumerate(course.epochs):
        assert epoch.number == number
        assert epoch.side == (trainer.sizes[number % len(trainer.sizes)] if trainer.sizes else None)
        quiet = number <= trainer.epochs // 4 or number == trainer.epochs - 1
        assert epoch.skipped == (0.0 if quiet else trainer.skip_easy)
        left = samples - left_out(epoch.skipped, samples)
        for step in range(epoch.steps):
            assert course.share_of_steps(epoch, step) == pytest.approx(steps / course.steps)
            steps += 1
            left -= trainer.batch_size
            images += trainer.batch_size
            flops += 3 * trainer.batch_size * FLOPS[epoch.side]
        assert 0 <= left < trainer.batch_size
        assert course.train_flops(number + 1) == flops
        done += [course.share_of_work(number + 0.5), course.share_of_work(number + 1)]
    assert (steps, images) == (course.steps, sum(epoch.images for epoch in course.epochs))
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, pytest.approx(1))
    for number in range(trainer.epochs):
        assert course.share_of_work(number + 1) == pytest.approx(course.train_flops(number + 1) / flops)


def test_a_training_without_an_epoch_has_nothing_to_do():
    course = Course(Trainer(epochs=0), 10)
    assert (course.epochs, course.steps, course.train_flops(0), course.share_of_work(0)) == ((), 0, 0, 0)


def test_an_epoch_without_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"trainer.skip_easy=0.8 leaves less than a batch of 50 of the 100 training"):
        Course(Trainer(skip_easy=0.8, batch_size=50), 100)
