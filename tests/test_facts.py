"""What pools say of themselves, asked of the blocks of configs."""

import pytest
import torch

from poolbench.facts import facts, worst
from poolbench.pooling import POOLS, create_pool


def block(name, **options):
    module, _, attribute = POOLS.table[name].partition(":")
    return {"_target_": f"{module}.{attribute}", **options}


@pytest.mark.parametrize("name", POOLS.table)
def test_so_many_of_it_do_follow_each_other(name):
    said = facts(block(name), 20)
    x = torch.rand(2, 64, 20, 20)
    pool = create_pool(name, channels=64).eval()
    with torch.no_grad():
        for _ in range(said.sites):
            x = pool(x)
        assert min(x.shape) > 0
        with pytest.raises(ValueError, match="pool"):
            pool(x)
    assert said.parameters == sum(p.numel() for p in pool.parameters())
    assert said.deterministic == (not (pool.random or pool.random_evaluation))


def test_sites_go_by_what_is_left_of_the_map():
    assert [facts(block("max"), side).sites for side in (1, 2, 31, 32)] == [0, 1, 4, 5]
    assert facts(block("max", kernel_size=4, stride=4), 32).sites == 2
    assert facts(block("fractional_max"), 32).sites > 5  # of root 2
    assert facts([block("max"), block("max", kernel_size=4, stride=4)], 32).sites == 3  # 16, 4, 1


def test_of_several_the_worst_is_said():
    both = [facts(block("max"), 32), facts(block("stochastic"), 32), facts(block("diff_stride"), 32)]
    said = worst(both)
    assert (said.deterministic, said.open_sizes, said.parameters) == (False, False, 2)
    assert not facts([block("max"), block("s3")], 32).deterministic
    assert worst([both[0], None]) is None
    assert worst([]) is None


@pytest.mark.parametrize(
    "unknown",
    [
        {"_target_": "poolbench.models.sites.native"},
        {"_target_": "torch.nn.MaxPool2d", "kernel_size": 2},
        {"_target_": "poolbench.pooling.Nothing"},
        {"_target_": "os.system"},
        {"kernel_size": 2},
        block("max", no_such_option=3),
        block("max", kernel_size="two"),
        [],
        "max",
    ],
    ids=str,
)
def test_of_what_is_none_of_ours_nothing_is_said_and_nothing_is_built(unknown):
    assert facts(unknown, 32) is None
