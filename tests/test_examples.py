"""What a property is tried on comes from its case alone: the same case, the same numbers, whatever ran before."""

import os
import random

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st


def _numbers():
    return random.random(), np.random.rand(), torch.rand(()).item(), torch.randint(2**40, ()).item()


def test_every_example_starts_the_global_streams_anew_and_puts_them_back():
    seen = []

    @settings(max_examples=5, database=None)
    @given(st.integers())
    def run(_):
        seen.append(_numbers())

    before = torch.get_rng_state()
    torch.manual_seed(1)
    run()
    torch.set_rng_state(before)
    run()
    assert len(seen) == 10
    assert len(set(seen)) == 1
    assert torch.equal(torch.get_rng_state(), before)


def test_a_drawn_seed_is_what_the_global_streams_start_from():
    seen = {}

    @settings(max_examples=10, database=None)
    @given(st.random_module())
    def run(seeder):
        seen.setdefault(seeder.seed, set()).add(_numbers())

    run()
    assert len(seen) > 1
    assert all(len(numbers) == 1 for numbers in seen.values())
    assert len(set.union(*seen.values())) == len(seen)


def test_quick_tests_draw_the_same_every_time_and_all_tests_anew_saying_what_repeats_a_failure():
    quick, every = settings.get_profile("quick"), settings.get_profile("all")
    assert quick.derandomize
    assert (every.derandomize, every.print_blob) == (False, True)
    chosen = every if os.environ.get("POOLBENCH_TESTS") == "all" else quick
    assert (settings.default.derandomize, settings.default.print_blob) == (chosen.derandomize, chosen.print_blob)
