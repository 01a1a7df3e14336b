import math
import re
import sys
from functools import partial

import pytest
import torch
from torch import nn

from poolbench import create_head, create_model, create_pool, list_pools
from poolbench.heads import HEADS
from poolbench.models import MODELS
from poolbench.pooling import POOLS, MaxPool2d
from poolbench.registry import Registry, call, locate, nearest

REGISTRIES = {"pool": POOLS, "head": HEADS, "model": MODELS}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder on the Python path; gives a function that puts a module there."""
    monkeypatch.syspath_prepend(tmp_path)
    written = []

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


OWN_POOL = """
from torch import nn
import torch.nn.functional as F

class OwnPool(nn.Module):
    '''Maximum, scaled.'''

    def __init__(self, channels, factor=1.0):
        super().__init__()
        self.channels, self.factor = channels, factor

    def forward(self, x):
        return self.factor * F.max_pool2d(x, 2)

THREE = 3
"""


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=REGISTRIES)
def test_every_name_leads_to_a_class_of_its_location(registry):
    for name, location in registry.table.items():
        found = registry.find(name)
        assert f"{found.__module__}:{found.__name__}" == location
        assert registry.find(found) is found
    assert registry.names()[: len(registry.table)] == list(registry.table)
    assert registry.locations().items() >= dict(registry.table).items()


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=REGISTRIES)
@pytest.mark.parametrize("name", ["nothing_like_it", 3, None, ["max"], {"max": 1}], ids=str)
def test_what_is_no_name_is_refused_with_the_known_ones(registry, name):
    with pytest.raises(ValueError, match=f"unknown {registry.kind} {re.escape(repr(name))}") as caught:
        registry.find(name)
    assert all(known in str(caught.value) for known in registry.table)


def test_nearest_names_what_is_close_and_nothing_else():
    assert nearest("avarage", ["max", "average"]) == " Did you mean 'average'?"
    assert nearest("zzz", ["max", "average"]) == ""
    assert nearest("max", []) == ""


def test_an_own_class_is_built_like_one_of_ours(package):
    path = f"{package('own_pool_module', OWN_POOL)}.OwnPool"
    x = torch.rand(1, 4, 8, 8)
    for pool in (
        create_pool(path, channels=4, factor=2.0),
        create_pool("custom", channels=4, _target_=path, factor=2.0),
        create_pool(locate(path, "pool"), channels=4, factor=2.0),
        create_pool(partial(locate(path, "pool"), factor=2.0), channels=4),
    ):
        assert pool.channels == 4
        torch.testing.assert_close(pool(x), 2 * nn.functional.max_pool2d(x, 2))
    with pytest.raises(ValueError, match=r"has no option 'facto'. Did you mean 'factor'"):
        create_pool(path, channels=4, facto=2.0)
    assert create_model("convnet", pool=path)(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_a_ready_class_without_channels_is_built_too():
    pool = create_pool("torch.nn.MaxPool2d", channels=4, kernel_size=2)
    assert type(pool) is nn.MaxPool2d
    with pytest.raises(ValueError, match=r"pool 'torch.nn.MaxPool2d' needs a value for kernel_size"):
        create_pool("torch.nn.MaxPool2d", channels=4)
    with pytest.raises(ValueError, match=r"pool 'MaxPool2d' has no option 'kernel'. Did you mean 'kernel_size'"):
        create_pool(nn.MaxPool2d, channels=4, kernel=2)


def test_functions_and_partials_are_called():
    assert create_pool(lambda channels: channels, channels=4) == 4
    assert create_pool(lambda channels, **options: options, channels=4, a=1) == {"a": 1}
    assert create_pool(partial(MaxPool2d, kernel_size=3), channels=4).kernel_size == 3
    with pytest.raises(ValueError, match="pool 'partial' has no option 'kernal_size'"):
        create_pool(partial(MaxPool2d, kernel_size=3), channels=4, kernal_size=3)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no_such.Pool", "pool 'no_such.Pool': there is no module 'no_such' on the Python path"),
        ("poolbench.no_such_module.Pool", "there is no module 'poolbench.no_such_module'"),
        ("poolbench.pooling.MaxPool", "module 'poolbench.pooling' has no 'MaxPool'"),
        ("own_pool_module.OwnPol", "module 'own_pool_module' has no 'OwnPol'. Did you mean 'OwnPool'"),
        ("own_pool_module.THREE", "pool 'own_pool_module.THREE' must be a class or a function, got 3"),
        ("math.pi", f"must be a class or a function, got {math.pi}"),
        (".OwnPool", "is not a dotted path"),
        ("..own.OwnPool", "is not a dotted path"),
        ("max.", "there is no module 'max'"),
    ],
)
def test_a_path_that_leads_nowhere_says_where_it_ends(package, path, words):
    package("own_pool_module", OWN_POOL)
    with pytest.raises(ValueError, match=re.escape(words)):
        create_pool(path, channels=3)


def test_a_module_that_breaks_inside_shows_its_own_error(package):
    package("own_broken_module", "import no_such_dependency")
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        create_pool("own_broken_module.Pool", channels=3)


@pytest.mark.parametrize(
    ("create", "more"), [(create_pool, {}), (create_head, {"num_classes": 2})], ids=["pool", "head"]
)
def test_custom_needs_a_target(create, more):
    with pytest.raises(ValueError, match="'custom' needs _target_"):
        create("custom", channels=3, **more)


def test_a_missing_value_is_named():
    with pytest.raises(ValueError, match="pool 'max' needs a value for channels"):
        POOLS.create("max")
    with pytest.raises(ValueError, match="thing needs a value for b, c"):
        call(lambda a, b, *rest, c, d=1, **more: a, "thing", {"a": 1})


def test_an_option_of_a_thing_without_options_is_refused():
    with pytest.raises(ValueError, match=r"thing has no option 'a'. It has no options"):
        call(lambda: None, "thing", {"a": 1})
    assert call(lambda: 5, "thing", {"channels": 3}) == 5


def test_installed_packages_add_names_and_cannot_replace_ours(package, tmp_path):
    package("own_pool_module", OWN_POOL)
    information = tmp_path / "own_pools-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: own-pools\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[poolbench.pools]\nown = own_pool_module:OwnPool\nmax = own_pool_module:OwnPool\n"
    )
    assert list_pools() == [*POOLS.table, "own"]
    assert type(create_pool("own", channels=3)).__name__ == "OwnPool"
    assert type(create_pool("max", channels=3)) is MaxPool2d
    assert POOLS.describe("own") == ("Maximum, scaled.", "")
    with pytest.raises(ValueError, match="Did you mean 'own'"):
        create_pool("owns", channels=3)


def test_a_description_is_read_without_importing(package):
    name = package("own_unread_module", "'All of it.'\nraise RuntimeError\n\ndef own(x):\n    return x\n")
    registry = Registry(kind="pool", group="poolbench.none", table={"own": f"{name}:own", "gone": "no_such_module:own"})
    assert registry.describe("own") == ("All of it.", "")
    assert registry.describe("gone") == ("", "")
    assert name not in sys.modules


def test_packages_give_the_classes_of_their_table_and_no_others():
    import poolbench.pooling

    assert poolbench.pooling.MaxPool2d is MaxPool2d
    with pytest.raises(AttributeError, match=r"module 'poolbench.pooling' has no attribute 'MaxPool3d'"):
        _ = poolbench.pooling.MaxPool3d


def test_a_source_is_told_with_the_lines_that_belong_to_it():
    from poolbench.pooling import POOLS

    _, source = POOLS.describe("subsample")
    assert source.startswith("LeCun")
    assert "Springenberg" in source  # on its last line
    assert "\n" not in source


def test_a_module_without_a_constructor_gets_no_channels_even_after_torch_compile():
    class Bare(nn.Module):
        def forward(self, x):
            return x

    assert isinstance(call(Bare, "pool 'Bare'", {"channels": 3}), Bare)
    torch.compile(nn.Linear(2, 2), backend="eager")(torch.rand(1, 2))  # replaces nn.Module.__init__
    assert isinstance(call(Bare, "pool 'Bare'", {"channels": 3}), Bare)
    with pytest.raises(ValueError, match=r"has no option 'stride'\. It has no options"):
        call(Bare, "pool 'Bare'", {"channels": 3, "stride": 2})
