"""Loading a record builds what it names, and only what is trusted."""

import json

import pytest
import yaml

import poolbench
from tests.commands import run_poolbench


@pytest.fixture
def record(tmp_path):
    """A small finished record, made by the real command."""
    cell = ["data.train_samples=60", "data.test_samples=20", "trainer.epochs=1", "trainer.batch_size=20"]
    done = run_poolbench(tmp_path, "run", "model=convnet_small", *cell)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    return folder


def test_a_record_that_names_other_code_is_refused_and_nothing_of_it_runs(record, tmp_path):
    config = yaml.safe_load((record / "config.yaml").read_text())
    harmless = tmp_path / "was_run"
    config["pool"] = {"_target_": "os.mkdir", "path": str(harmless)}
    (record / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match=r"os\.mkdir.*trust"):
        poolbench.load(record)
    assert not harmless.exists()


def test_a_record_is_found_by_name_and_names_its_classes(record, monkeypatch):
    monkeypatch.chdir(record.parents[1])
    trained = poolbench.load("max-convnet_small-shapes")
    assert len(trained.classes) == 10
    assert not trained.model.training
    assert trained.config["run_id"] == json.loads((record / "result.json").read_text())["run_id"]
    with pytest.raises(ValueError, match="there is no record 'average'"):
        poolbench.load("average")
