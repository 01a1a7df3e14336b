import re
import shutil
import sys
from pathlib import Path

from poolbench.records.read import read_records

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import benchmark_time_to_accuracy as script  # noqa: E402

ARCHIVE = ROOT / "results/2026_time_to_accuracy"


def test_the_page_prints_the_table_of_the_records_and_the_figure_is_drawn_beside_them(tmp_path, capsys):
    records = shutil.copytree(ARCHIVE, tmp_path / "records", ignore=shutil.ignore_patterns("*.png", "*.pdf"))
    assert script.main(["--draw", str(records)]) == 0
    drawn = {path.name for path in records.glob("time_to_accuracy.*")}
    assert drawn == {path.name for path in ARCHIVE.glob("time_to_accuracy.*")}
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    page = (ROOT / "experiments/2026_time_to_accuracy/README.md").read_text().splitlines()
    first = page.index(printed[0])
    assert page[first : first + len(printed) + 1] == [*printed, ""]


def test_each_form_of_the_net_and_each_way_to_train_it_is_a_net_of_its_own_in_the_figure():
    records, problems = read_records(ARCHIVE)
    assert not problems
    nets = {}
    for record in records:
        name = re.sub(r"\(.*", "", record.config["names"]["model"])
        skipping, mirrored = bool(record.config["trainer"].get("skip_easy")), bool(record.config["model"].get("mirror"))
        nets.setdefault((name.startswith("fast_cnn") or name, mirrored, skipping), set()).add(
            script.point(record)["net"]
        )
    assert all(len(own) == 1 for own in nets.values()), nets
    assert nets[True, False, False] == {"fast_cnn"}
    assert nets[True, False, True] == {"fast_cnn, easy images skipped"}
    assert nets[True, True, True] == {"fast_cnn, mirrored, easy images skipped"}


def test_an_empty_folder_says_that_there_is_nothing_to_draw(tmp_path, capsys):
    assert script.main(["--draw", str(tmp_path)]) == 1
    assert "no finished cell" in capsys.readouterr().err
