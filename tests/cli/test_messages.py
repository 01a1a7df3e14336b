"""What is typed by mistake, and the words that help: each message names what was meant, before any work."""

import json
import math
import re

import pytest
import torch

from poolbench.cli.main import main
from poolbench.config_files import COMPONENTS, GROUPS, ConfigError, our_block
from poolbench.configuration import composer
from poolbench.heads import HEADS, create_head
from poolbench.limits import check_components
from poolbench.messages import counted, described, meant_options
from poolbench.models import MODELS, create_model
from poolbench.models.torchvision_names import meant, names
from poolbench.pooling import POOLS, create_pool
from poolbench.registry import closest, nearest


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


# What is typed; words that the message must have.
TYPED = [
    # an option without its group, or of another
    ("plan pool=max lr=0.1", ["'lr'", "Did you mean 'optimizer.lr'?"]),
    ("plan epochs=3", ["'trainer.epochs'"]),
    ("plan pool=lp p=3", ["'pool.p'"]),
    ("plan trainer.lr=1", ["'optimizer.lr'"]),
    ("plan optimizer.lr=0.1 lr=3", ["unknown option 'lr'"]),
    ("plan +lr=1", ["'optimizer.lr'"]),
    ("plan pool.kernal=3", ["'pool.kernel_size'", "pool.stride"]),
    ("tune pool=max --param lr=log(0.01,1)", ["--param lr", "'optimizer.lr'"]),
    # a group in other letters, and a choice in other letters
    ("plan pools=max,average", ["'pool='"]),
    ("plan pool=MAX", ["Did you mean 'max'?"]),
    ("plan pool=Blur-Max,max", ["Did you mean 'blur_max'?"]),
    ("plan head=GlobalAverage", ["Did you mean head=global_average?"]),
    ("plan pool=MaxPool2d", ["Did you mean pool=max?"]),
    ("list pool", ["Did you mean 'pools'?", "sweeps"]),
    ("tune pool=max --sampler gird", ["--sampler", "Did you mean 'grid'?", "optuna"]),
    # how many seeds, and which
    ("plan seeds=1,2", ["seed=1,2", "seeds=2"]),
    ("plan seeds=[4,5,6]", ["seed=4,5,6", "seeds=3"]),
    ("plan seeds=range(3)", ["seed=0,1,2", "seeds=3"]),
    # cut at a space
    ("plan pool=max, average", ["no space after a comma", "pool=max,average"]),
    ("plan pool=max ,average seed=1", ["as pool=max,average"]),
    ("sweep model.widths=[16, 32, 64] pool=max", ["'model.widths=[16,32,64]'"]),
    ("run pool = lp", ["as pool=lp"]),
    ("plan pool=max,", ["no space after a comma"]),
    ("tune pool=max --param optimizer.lr=0.1, 0.2", ["no space after a comma"]),
    # an option of a command in the place of one of a config, and the reverse
    ("sweep pool=max,lp baseline=lp", ["--baseline lp"]),
    ("plan baseline=lp", ["`poolbench sweep`", "`poolbench report`", "--baseline lp"]),
    ("tune pool=max trials=9", ["--trials 9"]),
    ("reproduce all plan=true", ["is no option of a config: --plan"]),
    ("plan --epochs 3", ["--epochs", "trainer.epochs=3"]),
    ("run --batch-size=64 pool=lp", ["trainer.batch_size=64"]),
    ("sweep --device cpu", ["trainer.device=cpu"]),
    ("sweep --pool lp", ["pool=lp"]),
    ("plan --baseline lp", ["`poolbench sweep`"]),
    ("sweep --baselin lp", ["Did you mean '--baseline'?"]),
    ("plan --nothing", ["--nothing", "--json"]),
    ("diff a b c", ["'c'", "one argument too many"]),
    ("show", ["RUN", "--help"]),
    # an arm that is not there
    ("sweep --baseline lpp pool=max,lp", ["--baseline", "'lpp'", "Did you mean 'lp'?", "lp, max"]),
    ("sweep --baseline lp pool=lp pool.p=3,4", ["several pools", "lp(p=3), lp(p=4)"]),
    # a component of somebody else's
    ("plan model=resnet18", ["model=torchvision model.name=resnet18"]),
    ("plan model=ResNet-50,convnet", ["model=torchvision model.name=resnet50"]),
    ("plan pool=max,mypools.RangePool", ["pool=custom pool._target_=mypools.RangePool", "DIR/pool/NAME.yaml"]),
    ("plan head=RangeHead", ["head=custom head._target_=mypkg.RangeHead"]),
    ("plan data=mypkg.Data", ["DIR/data/NAME.yaml", "_target_: mypkg.Data"]),
    ("check-pool RangePool", ["mypkg.RangePool"]),
    ("check-pool MaxPool2d", ["Did you mean 'max'?"]),
    ("gallery --pools RangePool", ["mypkg.RangePool"]),
    # launchers
    ("plan hydra/launcher=joblib,basic", ["one launcher at a time"]),
    ("sweep pool=max hydra/launcher=basic hydra/launcher=joblib", ["one launcher at a time"]),
    # a sweep of nothing
    ("sweep", ["one cell", "pool=max", "10 epochs", "poolbench run", "poolbench sweep pool=max,average"]),
    ("list pools --config-dir nowhere", ["--config-dir", "nowhere"]),
]


@pytest.mark.parametrize(("typed", "words"), TYPED, ids=[typed for typed, _ in TYPED])
def test_what_is_typed_by_mistake_gets_what_was_meant(typed, words, capsys, tmp_path):
    assert main(typed.split(" ")) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("poolbench: error: ")
    assert "Sweep" not in streams.err  # no object of Hydra's
    for word in words:
        assert word in streams.err, streams.err
    assert list(tmp_path.iterdir()) == []


REFUSED = [
    (["optimizer.lr=nan"], "optimizer.lr must be a number above 0, got nan"),
    (["optimizer.momentum=2"], "optimizer.momentum must be a number in [0, 1), got 2"),
    (["optimizer=adamw", "optimizer.betas=[0.9]"], "optimizer.betas"),
    (["optimizer=muon", "optimizer.steps=0"], "optimizer.steps"),
    (["optimizer.weight_decay=inf"], "optimizer.weight_decay"),
    (["schedule.warmup=nan"], "schedule.warmup must be a number in [0, 1), got nan"),
    (["schedule=step", "schedule.milestones=[0.7,0.5]"], "schedule.milestones"),
    (["+pool.initt=3"], "unknown option 'pool.initt'. Options there: pool.kernel_size"),
    (["+head.centre=3"], "unknown option 'head.centre'"),
    (["+model.depth=3"], "unknown option 'model.depth'. Did you mean 'model.depths'"),
    (["+optimizer.beta=3"], "unknown option 'optimizer.beta'"),
    (["pool=lp", "pool.p=nan"], "pool.p must be a number, got nan"),
    (["pool=lp", "pool.p=abc"], "pool.p must be a number, got 'abc'"),
    (["pool.kernel_size=2.5"], "pool.kernel_size must be a whole number, got 2.5"),
    (["pool=soft", "pool.temperature=inf"], "pool.temperature must be a finite number"),
    (["pool=[max,{lp:{p:nan}}]"], "pool.p must be a number, got nan"),
    (["model.widths=[16,nan]"], "model.widths must be a number, got nan"),
    (["data.noise=nan"], "data.noise must be a number, got nan"),
]


def test_a_plan_refuses_what_a_run_would_before_its_first_step(capsys):
    with composer() as compose:
        for words, message in REFUSED:
            with pytest.raises(ConfigError) as caught:
                check_components(compose.complete(words))
            assert message in str(caught.value)
        for words in (
            ["pool=lp", "pool.p=inf"],
            ["pool=power_mean", "pool.p=-inf"],
            ["pool=ada", "+pool.size=[16,16]"],
        ):
            check_components(compose.complete(words))
    for command, message in [
        (["plan", "optimizer.lr=nan"], "optimizer.lr must be a number above 0, got nan"),
        (["plan", "+pool.initt=3"], "unknown option 'pool.initt'"),
        (["sweep", "schedule.warmup=nan,0.1"], "schedule.warmup must be"),
        (["reproduce", "2012_overlapping", "--plan", "optimizer.momentum=2"], "optimizer.momentum must be"),
        (["tune", "pool=max,lp", "--plan", "--param", "optimizer.momentum=0.9,1.5"], "optimizer.momentum must be"),
        (["plan", "trainer.batch_size=20000"], "trainer.batch_size must be at most the 10000 training images"),
        (["plan", "trainer.alternate_flip=true", "data.augmentation.flip=false"], "trainer.alternate_flip"),
        (["plan", "probe.samples=9999"], "probe.samples must be at most the 2000 test images"),
        (["plan", "probe.translate_x=[40]"], "probe.translate_x must stay below the 32 pixels"),
    ]:
        assert main(command) == 2, command
        assert message in capsys.readouterr().err, command


WRONG = {int: ["abc", True, 2.5], float: ["abc", True], list: [[math.nan]]}  # by the default's type; and of all:
NO_NUMBERS = (math.nan, math.inf, -math.inf)


@pytest.mark.parametrize("group", ["pool", "head", "model"])
def test_what_a_plan_takes_for_wrong_no_component_takes(group):
    """A plan tells by the kind of the default alone: no component may take what it refuses."""
    others = {name: {"_target_": ""} for name in COMPONENTS}
    tried = 0
    for name in {"pool": POOLS, "head": HEADS, "model": MODELS}[group].table:
        block = our_block(group, name)
        options = {option: default for option, default in block.items() if option != "_target_"}
        for option, default in options.items():
            values = [*WRONG.get(type(default), []), *(NO_NUMBERS if option != "p" else (math.nan,))]
            for value in values:
                with pytest.raises(ConfigError, match=option):
                    check_components({**others, group: {**block, option: value}})
                with pytest.raises(ValueError):  # noqa: PT011 each in its own words
                    _build(group, name, {**options, option: value})
                tried += 1
    assert tried > 50


def _build(group, name, options):
    if group == "pool":
        return create_pool(name, channels=4, **options)
    if group == "head":
        return create_head(name, channels=4, num_classes=3, size=(4, 4), **options)
    with torch.device("meta"):
        return create_model(name, **options)


HOLDS = {"- a\n- b\n": "a list of 2", "3\n": "a number, 3", "hello\n": "the text 'hello'"}


def test_a_file_of_ones_own_of_the_wrong_shape_says_what_it_holds(capsys, tmp_path):
    for group in GROUPS:
        file = tmp_path / "own" / group / "mine.yaml"
        file.parent.mkdir(parents=True)
        (file.parent / "child.yaml").write_text("defaults: [mine]\n")
        for holds, what in HOLDS.items() if group in ("pool", "sweep") else [("- a\n- b\n", "a list of 2")]:
            file.write_text(holds)
            for word in ("mine", "child", *(["max,mine", "[max,mine]"] if group == "pool" else [])):
                assert main(["plan", "--config-dir", "own", f"{group}={word}"]) == 2, (group, word)
                message = capsys.readouterr().err
                assert f"own/{group}/mine.yaml holds {what}, and a file of {group}/ must hold options" in message
    # The folder's config.yaml is none of ours, and is not read.
    (tmp_path / "own" / "config.yaml").write_text("- a\n")
    assert main(["plan", "--config-dir", "own"]) == 0


@pytest.mark.parametrize("name", ["experiment", "claim"])
def test_an_experiment_of_the_wrong_shape_says_what_it_holds(name, capsys, tmp_path):
    folder = tmp_path / "experiments" / "ours"
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text("sweep:\n- product: {pool: [max, lp]}\n")
    (folder / "claim.yaml").write_text("- id: x\n")
    for holds, what in HOLDS.items():
        if (name, what) != ("claim", "a list of 2"):  # which a list of claims may be
            (folder / f"{name}.yaml").write_text(holds)
            assert main(["reproduce", "ours", "--plan"]) == 2
            message = capsys.readouterr().err
            assert f"ours/{name}.yaml holds {what}, and must" in message


def test_a_report_refuses_a_baseline_that_is_not_there(capsys, tmp_path, repo_root):
    archive = str(repo_root / "results/2026_five_pools/records.jsonl")
    assert main(["report", archive, "--output", "out", "--baseline", "averag"]) == 2
    message = capsys.readouterr().err
    assert "'averag'" in message
    assert "Did you mean 'average'" in message
    assert "There are: average, lp, max" in message
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_of_ones_own_is_listed(capsys, tmp_path):
    for group, text in {"pool": "# The range.\n_target_: mypools.Range\n", "data": "_target_: mine.Flowers\n"}.items():
        (tmp_path / "own" / group).mkdir(parents=True)
        (tmp_path / "own" / group / f"my_{group}.yaml").write_text(text)
    for kind, words in (("pools", ["my_pool", "The range."]), ("data", ["my_data", "builds mine.Flowers"])):
        assert main(["list", kind, "--config-dir", "own"]) == 0
        text = capsys.readouterr().out
        assert all(word in text for word in words), text
    assert main(["list", "optimizers", "--config-dir", "own"]) == 0
    assert "my_" not in capsys.readouterr().out


def test_a_record_is_shown_aligned_and_rounded(capsys, tmp_path):
    folder = tmp_path / "runs" / "max-s0-0123456789"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("names: {pool: max}\ntrainer: {epochs: 1}\ndata: {}\npool: {}\nseed: 0\n")
    result = {
        "epochs": 1,
        "test_accuracy": 0.70421,
        "flip_averaged_accuracy": None,
        "test_loss": 1.6330296277999878,
        "parameters": 11181642,
        "train_flops": 33817830359040.0,
        "train_seconds": 526.7109911980006,
        "mixed_environment": False,
    }
    (folder / "result.json").write_text(json.dumps({"schema_version": 1, "run_id": folder.name, **result}))
    (folder / "metrics.csv").write_text(
        "epoch,learning_rate,train_loss,train_accuracy,validation_accuracy,images_per_second\n1,0.1,1.5,0.5,,100\n"
    )
    (folder / "environment.json").write_text(json.dumps({"threads": 2, "cpu": None}))
    assert main(["show", "max"]) == 0
    text = capsys.readouterr().out.partition("\nresult\n")[2]
    lines = dict(line.split(maxsplit=1) for line in text.splitlines() if line.startswith("  "))
    assert lines["test_accuracy"] == "70.42 %"
    assert lines["test_loss"] == "1.633"
    assert lines["parameters"] == "11,181,642"
    assert lines["train_flops"] == "33,817,830,359,040"
    assert lines["train_seconds"] == "526.7"
    assert lines["threads"] == "2"
    assert "None" not in text
    assert "flip_averaged_accuracy" not in text
    rows = [line for line in text.partition("\n\n")[0].splitlines() if line.startswith("  ")]
    assert len({re.match(r"  \S+ +", row).end() for row in rows}) == 1


def test_one_cell_is_one_cell(capsys):
    assert main(["plan"]) == 0
    assert "1 cell: 1 new" in capsys.readouterr().out
    assert counted(1, "cell") == "1 cell"
    assert counted(2, "cell") == "2 cells"
    assert counted(0, "cell") == "0 cells"


def test_no_suggestion_is_what_was_typed():
    assert nearest("lr", ["lr"]) == ""
    assert meant_options("lr", ["lr"]) == []
    options = ["pool.kernel_size", "pool.p", "optimizer.lr", "trainer.epochs", "trainer.lr_scale"]
    for typed, wanted in {
        "trainer.epochs.max": ["trainer.epochs"],
        "lr": ["optimizer.lr"],
        "trainer.lr": ["optimizer.lr"],
        "optimizer.lrr": ["optimizer.lr"],
        "optimiser.lr": ["optimizer.lr"],
        "epoch": ["trainer.epochs"],
        "Pool": ["pool"],
        "sead": ["seed"],
        "pool.kernel": ["pool.kernel_size"],
        "pool.initt": [],
        "nothing": [],
    }.items():
        assert meant_options(typed, options, ["pool", "seed"]) == wanted, typed
    assert closest("MAX", ["average", "max", "MAX"]) == ["max"]
    assert closest("blur-max", ["max", "blur_max"]) == ["blur_max"]


def test_what_a_file_holds_in_words():
    for value, words in [(None, "nothing"), ([1, 2], "a list of 2"), ("max", "the text 'max'"), (3, "a number, 3")]:
        assert described(value) == words
    assert described({"a": 1, "b": 2}) == "options (a, b)"
    assert described(True) == "a truth value, True"


def test_the_nets_of_torchvision_are_known_without_importing_it():
    from torchvision import models

    known = [name for name in models.list_models(module=models) if not name.startswith(("vit_", "maxvit_"))]
    assert sorted(names()) == sorted(known)
    assert meant("ResNet-18") == "resnet18"
    assert meant("resnet") == ""


def test_a_model_of_torchvision_is_told_to_library_users_too():
    with pytest.raises(ValueError, match=r"create_model\('torchvision', name='resnet18'\)"):
        create_model("resnet18")
