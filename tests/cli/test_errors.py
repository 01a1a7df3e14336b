"""Bad input: one clear message, no traceback, an exit code, and nothing lost."""

import pickle

import pytest

from poolbench.cli.main import main

TINY = ["data.train_samples=100", "data.test_samples=50", "trainer.epochs=1", "trainer.batch_size=50"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


@pytest.mark.parametrize("command", ["run", "sweep", "plan"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pool=maxx"], ["unknown pool 'maxx'", "'max'"]),
        (["head=globl_average"], ["unknown head", "global_average"]),
        (["model=convne"], ["unknown model", "convnet"]),
        (["data=cifar11"], ["unknown data", "cifar10"]),
        (["trainer.epoch=3"], ["trainer.epoch", "trainer.epochs"]),
        (["+trainer.epoch=3"], ["trainer.epoch", "trainer.epochs"]),
        (["pool.kernel=3"], ["pool.kernel", "pool.kernel_size"]),
        (["trainer.epochs=-1"], ["trainer.epochs", "-1", "at least 0"]),
        (["trainer.epochs=ten"], ["trainer.epochs", "'ten'"]),
        (["trainer.precision=fp8"], ["trainer.precision", "fp32", "fp8"]),
        (["data.validation=1.5"], ["data.validation", "1.5", "[0, 1)"]),
        (["seed=-1"], ["seed", "-1"]),
        (["data.size=a=b"], ["data.size", "quotes", "'data.size=\"a=b\"'"]),
        (["maxx"], ["'maxx'", "pool=max"]),
        (["pool=custom"], ["pool._target_", "mypkg.MyPool"]),
        (["data=cifar10", "data.root=nowhere", "data.download=false"], ["data.root", "nowhere"]),
        (["data=image_folder", "data.root=nowhere"], ["nowhere"]),
    ],
)
def test_bad_input_is_refused_before_any_work(command, arguments, words, capsys, tmp_path):
    assert main([command, *arguments]) == 2
    streams = capsys.readouterr()
    assert "Traceback" not in streams.err
    assert streams.err.startswith("poolbench: error: ")
    for word in words:
        assert word in streams.err, streams.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["run", "sweep"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pool.kernel_size=64"], ["stage1.pool1", "32x32", "kernel_size 64"]),
        (["pool.stride=0"], ["stride", "at least 1", "0"]),
        (["pool.stride=64"], ["pool", "64 times"]),
        (["trainer.batch_size=200"], ["trainer.batch_size", "100", "200"]),
        (["optimizer.lr=-1"], ["optimizer.lr", "-1"]),
        (["schedule.warmup=2"], ["schedule.warmup", "2"]),
        (["pool=custom", "pool._target_=nopkg.MyPool"], ["nopkg"]),
        (["pool=custom", "pool._target_=torch.nn.MaxPool3d", "+pool.kernel_size=2"], ["stage1.pool1"]),
        (["pool=[max,average]"], ["2 pools"]),
        (["trainer.device=cuda:7"], ["trainer.device=cuda:7", "cuda devices here", "cpu"]),
        (["trainer.device=xpu:7"], ["trainer.device=xpu:7", "xpu devices here", "cpu"]),
    ],
)
def test_what_does_not_fit_together_is_refused_before_training(command, arguments, words, capsys, tmp_path):
    tiny = [option for option in TINY if option.partition("=")[0] not in {a.partition("=")[0] for a in arguments}]
    assert main([command, *tiny, *arguments]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    for word in words:
        assert word in message, message
    assert not list(tmp_path.glob("runs/*/result.json"))
    assert not list(tmp_path.glob("runs/*/status.json"))


def test_run_refuses_a_sweep_and_names_the_command_that_takes_it(capsys):
    for arguments in (["pool=max,average"], ["seeds=3"], ["sweep=demo"]):
        assert main(["run", *arguments]) == 2
        assert "poolbench sweep" in capsys.readouterr().err


def test_unknown_commands_and_sweeps_get_their_nearest(capsys):
    assert main(["swep"]) == 2
    assert "'sweep'" in capsys.readouterr().err
    assert main(["plan", "sweep=dmo"]) == 2
    assert "'demo'" in capsys.readouterr().err


def test_status_show_and_report_without_records(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert main(["status", "nothing"]) == 2
    assert main(["show", "max"]) == 2
    assert main(["report", "empty"]) == 2
    message = capsys.readouterr().err
    assert message.count("poolbench: error: ") == 3
    assert "Traceback" not in message


def test_debug_shows_the_traceback(monkeypatch):
    with pytest.raises(ValueError, match="maxx"):
        main(["plan", "--debug", "pool=maxx"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="maxx"):
        main(["plan", "pool=maxx"])


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_runs_dir_that_cannot_be_written_is_named(command, capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert main([command, "runs_dir=file/runs", *TINY]) == 1
    message = capsys.readouterr().err
    assert "file" in message
    assert "Traceback" not in message


def test_a_corrupted_cifar_file_is_named(capsys, tmp_path):
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
        (folder / name).write_bytes(pickle.dumps({"data": name}))
    assert main(["sweep", "data=cifar10", "data.download=false", "data.root=data"]) == 2
    message = capsys.readouterr().err
    assert "data_batch_1" in message or "checksum" in message
    assert "Traceback" not in message


def test_a_value_with_a_space_is_taken(capsys):
    assert main(["plan", "runs_dir=my runs"]) == 0
    assert main(["plan", "data=cifar10", 'data.root="a=b"', "data.download=true"]) == 0
