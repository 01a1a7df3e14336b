"""`poolbench reproduce`: an experiment with claims, trained, judged, published, and read again without training."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from poolbench.cli.main import main
from poolbench.cli.published import refresh
from tests.claims import claimed

SWEEP = {
    "product": {
        "pool": ["max", "average"],
        "data": "shapes",
        "data.train_samples": 60,
        "data.test_samples": 20,
        "data.size": 16,
        "model.widths": [[4, 8]],
        "model.depths": [[1, 1]],
        "trainer.epochs": 1,
        "trainer.batch_size": 20,
        "trainer.threads": 1,
    },
    "seeds": 3,
}
CLAIM = claimed.CLAIM | {
    "id": "better",
    "says": "average beats max",
    "treatment": {"pool": "average"},
    "paper": {
        "metric": "error",
        "better": "lower",
        "control": 0.2,
        "treatment": 0.1,
        "where": "table 1",
        "status": "verified",
    },
    "smallest_difference_of_interest": 0.005,
}
PAGE = "# Averages\n\nA story.\n\n<!-- claims: 1999_ours -->\n<!-- end -->\n\nThe end.\n"


def declare(name="1999_ours", claim=CLAIM, scales=True):
    folder = Path("experiments") / name
    folder.mkdir(parents=True, exist_ok=True)
    sweep = {"small": [SWEEP], "paper": [{**SWEEP, "seeds": 4}]} if scales else [SWEEP]
    (folder / "experiment.yaml").write_text(yaml.safe_dump({"sweep": sweep}))
    (folder / "claim.yaml").write_text(yaml.safe_dump([claim]))
    (folder / "README.md").write_text(PAGE.replace("1999_ours", name))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with an experiment of two pools, of which two of three seeds are trained, and what was printed."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        declare()
        (folder / "README.md").write_text("# All\n\n<!-- history -->\n<!-- end -->\n\n<!-- answer -->\n<!-- end -->\n")
        assert main(["reproduce", "1999_ours", "seeds=2"]) == 0
    return folder


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    """A copy of that folder, to work in."""
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def results(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("runs/*/result.json")}


def test_it_trains_judges_and_leaves_tables_the_figure_and_the_records(place, capsys):
    report = place / "report/1999_ours"
    names = {path.name for path in report.iterdir()}
    assert {"claims.csv", "claims.md", "claims.png", "claims.svg", "records.jsonl", "summary.csv"} <= names
    before = results(place)
    assert len(before) == 4
    assert main(["reproduce", "1999_ours"]) == 0
    out = capsys.readouterr().out
    assert "6 cells, 4 done before" in out
    after = results(place)
    assert len(after) == 6
    assert before.items() <= after.items()  # nothing is trained twice
    row = pd.read_csv(report / "claims.csv").iloc[0]
    cells = pd.read_csv(report / "cells.csv").pivot(index="seed", columns="pool", values="test_accuracy")
    assert row["gain_mean"] == pytest.approx((cells["average"] - cells["max"]).mean())
    assert row["pairs"] == 3
    assert "Average beats max" in out
    assert "20.00 -> 10.00 %" in out
    assert f"verdict    {row['verdict']}" in out


def test_what_is_published_is_not_trained_again_and_says_the_same(place, capsys):
    assert main(["reproduce", "1999_ours", "--publish"]) == 0
    first = capsys.readouterr().out
    shutil.rmtree("runs")
    shutil.rmtree("report")
    assert main(["reproduce", "all"]) == 0
    second = capsys.readouterr().out
    assert not (place / "runs").exists()
    assert "6 cells, all published" in second
    said = second[second.index("better:") : second.index("Tables,")]
    assert said in first
    assert main(["reproduce", "all", "--plan"]) == 0
    planned = capsys.readouterr().out
    assert "1999_ours: 1 claim, 6 cells: 6 published" in planned
    assert "left:" not in planned
    assert "chance to decide with 3 seeds" in planned


def test_all_as_declared_judges_what_is_published_in_part_and_trains_nothing(place, capsys):
    assert main(["reproduce", "1999_ours", "seeds=2", "--publish"]) == 0
    shutil.rmtree("runs")
    capsys.readouterr()
    for words in ([], ["report_dir=elsewhere"]):
        assert main(["reproduce", "all", *words]) == 0
        said = capsys.readouterr().out
        assert "4 of 6 cells published or done, none is trained now: poolbench reproduce 1999_ours trains" in said
        assert "verdict " in said
        assert not (place / "runs").exists()
    # Other cells than those that are declared: they are asked for.
    assert main(["reproduce", "all", "seeds=4", "--underpowered"]) == 0
    assert len(results(place)) == 4


def test_of_all_an_experiment_without_published_records_is_trained(place, capsys):
    assert main(["reproduce", "all"]) == 0
    assert len(results(place)) == 6


def test_published_records_are_found_beside_experiments_of_ones_own(place, capsys):
    assert main(["report", "--published", "2012_overlapping", "--output", "own", "--format", "csv"]) == 0  # ours
    pools = set(pd.read_csv("own/summary.csv")["pool"])
    assert "overlapping" in pools
    assert main(["reproduce", "1999_ours", "--publish"]) == 0
    capsys.readouterr()
    assert main(["report", "--published", "all", "--output", "own", "--format", "csv"]) == 0
    assert set(pd.read_csv("own/summary.csv")["pool"]) == {"average", "max"}
    assert main(["report", "--published", "1999_our"]) == 2
    said = capsys.readouterr().err
    assert "nothing is published of '1999_our'. Did you mean 1999_ours" in said.replace("'1999_ours'", "1999_ours")


def test_times_of_nets_beside_what_is_published_stand_in_the_tables(place, monkeypatch, capsys):
    monkeypatch.setattr("poolbench.measure.net_speed.resident_growth", lambda net, setting: None)
    assert main(["reproduce", "1999_ours", "seeds=2", "--publish"]) == 0
    speeds = place / "results/1999_ours/speeds.json"
    short = ["--rounds", "1", "--seconds", "0.001", "--batch", "2"]
    assert main(["bench", "nets", "sweep=1999_ours", *short, "--json", str(speeds)]) == 0
    summary = place / "results/1999_ours/summary.md"
    assert "| train time x |" not in summary.read_text()
    list(refresh(place))
    assert "| train time x |" in summary.read_text()
    # One's own records are not beside that file, and are of the same nets.
    shutil.rmtree("report")
    assert main(["reproduce", "1999_ours", "seeds=2"]) == 0
    assert "| train time x |" in (place / "report/1999_ours/summary.md").read_text()
    capsys.readouterr()
    speeds.write_text("{}")
    with pytest.raises(ValueError, match=r"speeds\.json: rows is no list of nets; it must be what"):
        list(refresh(place))


def test_publishing_fills_the_pages_and_says_how_much_there_is(place, capsys):
    assert main(["reproduce", "1999_ours", "seeds=2", "--publish"]) == 0
    page = (place / "experiments/1999_ours/README.md").read_text()
    assert page.startswith("# Averages\n\nA story.\n")
    assert page.endswith("<!-- end -->\n\nThe end.\n")
    assert "**4 of 6 cells so far**" in page
    assert "average beats max" in page
    assert "(../../results/1999_ours/claims.png)" in page
    assert (place / "results/1999_ours/claims.png").exists()
    history = (place / "README.md").read_text()
    idea = "[Averages](experiments/1999_ours) (interim: 4 of 6 cells so far)"
    assert f"| 1999 | {idea} | average beats max. error: 20.00 → 10.00 %" in history
    assert re.search(r"^\| \[Averages\]: better \| [+-][\d.]+ points[^|]*, so far \| [a-z ]+ \|$", history, flags=re.M)
    assert "\n[Averages]: experiments/1999_ours\n" in history
    archive = place / "results/1999_ours/records.jsonl"
    before = archive.read_text().splitlines()
    assert len(before) == 4
    # Fewer seeds take nothing away, more are added, and what is published stays as it is.
    assert main(["reproduce", "1999_ours", "seeds=1", "--publish"]) == 0
    assert archive.read_text().splitlines() == before
    result = next((place / "runs").glob("*/result.json"))
    result.write_text(json.dumps({**json.loads(result.read_text()), "train_seconds": 1e6}))
    assert main(["reproduce", "1999_ours", "--publish", "--underpowered"]) == 0
    now = archive.read_text().splitlines()
    assert set(before) < set(now)
    assert len(now) == 6
    assert "All cells: [records" in (place / "experiments/1999_ours/README.md").read_text()


def test_the_plan_shows_arms_and_cost_and_trains_nothing(place, capsys):
    before = results(place)
    assert main(["reproduce", "1999_ours", "--plan", "scale=paper"]) == 0
    out = capsys.readouterr().out
    assert "1999_ours-paper: 1 claim, 8 cells: 4 done, 4 new" in out
    assert "2 done, 2 new pool=max\n" in out
    assert "left: about" in out
    assert results(place) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["1999_our"], "unknown experiment '1999_our'. Did you mean '1999_ours'? Known: all, 1999_ours"),
        (["1999_ours", "pool=maxx"], "unknown pool 'maxx'"),
        (["1999_ours", "scale=huge"], "has no scale 'huge'"),
        (
            ["1999_ours", "trainer.epochs=2", "--publish"],
            "--publish is for the cells that experiments/1999_ours declares at scale=small, and 6 of these 6 are",
        ),
        (["1999_ours", "scale=paper", "--publish"], "declares at scale=small, and 2 of these 8 are others"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(arguments, words, place, capsys):
    before = results(place)
    assert main(["reproduce", *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert results(place) == before
    assert not (place / "results").exists()


def test_cells_that_no_claim_could_be_judged_on_are_refused_before_the_first_experiment_is_trained(place, capsys):
    declare("2000_two", {**CLAIM, "metric": "test_accuracy_rotate"})
    before = results(place)
    assert main(["reproduce", "all"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "2000_two: its claims cannot be judged on these 6 cells: claim 'better': metric of the control" in said
    shutil.rmtree("experiments/2000_two")
    for option, words in (
        ("trainer.epochs=1,2", "control {pool max} matches two configs"),
        ("trainer.test=false", "cannot be judged with trainer.test=false: no cell reads the test set"),
        ("pool=max", "none of its claims can be judged on these 3 cells: no finished cell of {pool average}"),
    ):
        assert main(["reproduce", "1999_ours", option]) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    assert results(place) == before


@pytest.mark.parametrize(
    ("metric", "option"),
    [("validation_accuracy", "data.validation=0.1"), ("flip_averaged_accuracy", "trainer.flip_averaging=true")],
)
def test_a_metric_that_only_other_cells_would_have_is_refused_before_training(metric, option, place, capsys):
    before = results(place)
    declare("1999_ours", {**CLAIM, "metric": metric})
    assert main(["reproduce", "1999_ours"]) == 2
    assert f"{metric!r} is in none of the 3 finished records" in capsys.readouterr().err
    assert main(["reproduce", "1999_ours", "--plan", option]) == 0
    assert results(place) == before


def test_some_of_the_cells_can_be_drawn_though_they_may_give_no_pair(place, capsys):
    assert main(["reproduce", "1999_ours", "sweep.sample=1"]) == 0
    assert "verdict    no record" in capsys.readouterr().out


def test_an_experiment_without_scales_is_reproduced_too(place, capsys):
    declare("1999_ours", scales=False)
    assert main(["reproduce", "1999_ours", "seeds=2"]) == 0
    assert "4 cells, 4 done before" in capsys.readouterr().out
    declare("1999_ours", {**CLAIM, "scales": {"small": None}}, scales=False)
    assert main(["reproduce", "1999_ours", "seeds=2"]) == 2
    assert "scales has 'small'. The sweep has none" in capsys.readouterr().err


def test_a_scale_may_have_arms_of_its_own(place, capsys):
    swapped = {"control": {"pool": "average"}, "treatment": {"pool": "max"}}
    declare("1999_ours", {**CLAIM, "scales": {"paper": swapped}})
    gains = []
    for scale in ("small", "paper"):
        assert main(["reproduce", "1999_ours", "seeds=2", f"scale={scale}"]) == 0
        table = pd.read_csv(place / f"report/1999_ours{'-paper' if scale == 'paper' else ''}/claims.csv")
        gains.append(table["gain_mean"].item())
    assert gains[0] == pytest.approx(-gains[1])
    assert gains[0] != 0
    declare("1999_ours", {**CLAIM, "scales": {"paper": {"control": {"pool": "lp"}, "treatment": {"pool": "gem"}}}})
    capsys.readouterr()
    assert main(["reproduce", "1999_ours", "--plan"]) == 0
    assert main(["reproduce", "1999_ours", "--plan", "scale=paper"]) == 2
    assert "no finished cell of {pool lp} nor of {pool gem}" in capsys.readouterr().err


def test_publishing_works_without_a_page_of_the_experiment(place):
    (place / "experiments/1999_ours/README.md").unlink()
    assert main(["reproduce", "1999_ours", "seeds=2", "--publish"]) == 0
    assert "[1999_ours](experiments/1999_ours)" in (place / "README.md").read_text()


def test_a_plan_reckons_with_published_records_and_says_so(place, capsys):
    assert main(["reproduce", "1999_ours", "seeds=2", "--publish"]) == 0
    shutil.rmtree("runs")
    capsys.readouterr()
    assert main(["reproduce", "1999_ours", "--plan"]) == 0
    said = capsys.readouterr().out
    assert "told from like cells in runs_dir and results/, of other seeds (2)" in said
    assert re.search(r"with 3 seeds, by the spread of cells that are done:\n +better: \d+ % \(sd ", said)


def test_a_record_of_another_cell_is_not_counted_among_those_declared(place):
    assert main(["reproduce", "1999_ours", "seeds=2", "--publish"]) == 0
    archive = place / "results/1999_ours/records.jsonl"
    first, *others = archive.read_text().splitlines()
    name = json.loads(first)["run_id"]
    archive.write_text("\n".join([first.replace(name, "other-0123456789"), *others]) + "\n")
    for _ in refresh(place):
        pass
    assert "**3 of 6 cells so far**" in (place / "experiments/1999_ours/README.md").read_text()


def test_publishing_keeps_a_record_that_it_cannot_read_and_doubles_none(place, capsys):
    archive = place / "results/1999_ours/records.jsonl"
    assert main(["reproduce", "1999_ours", "seeds=2", "--publish", "--underpowered"]) == 0
    lines = archive.read_text().splitlines()
    # Under a name of other words, as an earlier version gave it, a cell is the same by its hash.
    first = json.loads(lines[0])
    digest = first["run_id"].rpartition("-")[2]
    archive.write_text("\n".join(line.replace(first["run_id"], f"old-{digest}") for line in lines) + "\n")
    assert main(["reproduce", "1999_ours", "seeds=2", "--publish", "--underpowered"]) == 0
    names = [json.loads(line)["run_id"] for line in archive.read_text().splitlines()]
    assert len(names) == len({name.rpartition("-")[2] for name in names}) == 4
    assert f"old-{digest}" in names
    archive.write_text(archive.read_text() + "{}\n")
    before = archive.read_bytes()
    capsys.readouterr()
    assert main(["reproduce", "1999_ours", "--publish", "--underpowered"]) != 0
    assert "has records that cannot be read, so nothing is published" in capsys.readouterr().err
    assert archive.read_bytes() == before


def test_publishing_needs_pages(place, capsys):
    (place / "README.md").unlink()
    assert main(["reproduce", "1999_ours", "--publish"]) == 2
    assert "--publish works in a checkout: there is no README.md in" in capsys.readouterr().err
    assert not (place / "results").exists()


def test_the_last_experiments_claims_are_read_before_the_first_is_trained(place, capsys):
    declare("2000_wrong", {**CLAIM, "kind": "bettr"})
    before = results(place)
    assert main(["reproduce", "all"]) == 2
    assert "kind must be better, not_worse, equal, got 'bettr'" in capsys.readouterr().err
    assert results(place) == before


def test_seeds_that_will_not_decide_are_refused_before_training_unless_asked_for(place, capsys):
    assert main(["reproduce", "1999_ours", "seeds=2", "--publish"]) == 0
    before = results(place)
    capsys.readouterr()
    assert main(["reproduce", "1999_ours"]) == 2
    error = capsys.readouterr().err
    assert "1999_ours: 2 cells would be trained, and most likely leave open what they are for:" in error
    assert re.search(r"chance to decide with 3 seeds.*\n  better: \d+ % \(sd", error)
    assert "--underpowered" in error
    assert results(place) == before
    # Nothing left to train is nothing to refuse, and a plan only tells.
    assert main(["reproduce", "1999_ours", "seeds=2"]) == 0
    assert main(["reproduce", "1999_ours", "--plan"]) == 0
    assert main(["reproduce", "1999_ours", "--underpowered"]) == 0
    assert len(results(place)) == 6


def test_a_claim_that_is_no_headline_refuses_nothing(place, capsys):
    assert main(["reproduce", "1999_ours", "seeds=2", "--publish"]) == 0
    other = {**CLAIM, "id": "size", "headline": True, "metric": "parameters", "smallest_difference_of_interest": 1.0}
    other["direction"] = "lower"
    (place / "experiments/1999_ours/claim.yaml").write_text(yaml.safe_dump([{**CLAIM, "headline": False}, other]))
    assert main(["reproduce", "1999_ours"]) == 0


def test_plan_tells_the_chances_of_an_experiments_claims(place, capsys):
    assert main(["plan", "sweep=1999_ours"]) == 0
    assert "chance to decide with 3 seeds: not known" in capsys.readouterr().out
    assert main(["reproduce", "1999_ours", "seeds=2", "--publish"]) == 0
    capsys.readouterr()
    assert main(["plan", "sweep=1999_ours", "seeds=9"]) == 0
    assert re.search(r"chance to decide with 9 seeds, by the spread.*\n  better: \d+ %", capsys.readouterr().out)
    assert main(["plan", "sweep=1999_ours", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["chances"]
    assert (row["claim"], [one["gain"] for one in row["decided"]]) == ("better", [0.005, 0.0])
    assert main(["plan", "sweep=1999_ours", "scale=paper"]) == 0
    assert "chance to decide with 4 seeds" in capsys.readouterr().out


def test_looks_of_an_experiment_are_held(place, capsys):
    path = place / "experiments/1999_ours/experiment.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "looks": {"small": [3, 4]}}))
    assert main(["reproduce", "1999_ours"]) == 2
    assert "looks must be growing numbers of seeds from 3 to the 3 that are declared" in capsys.readouterr().err
    content["sweep"]["small"][0]["seeds"] = 4
    path.write_text(yaml.safe_dump({**content, "looks": {"small": [3, 4]}}))
    assert main(["reproduce", "1999_ours", "--plan"]) == 0
    assert "judged at 3, 4 seeds, which share the error" in capsys.readouterr().out
    assert main(["reproduce", "1999_ours", "seeds=3"]) == 0
    assert "Judged at 3 seeds, look 1 of 2 that were declared." in " ".join(capsys.readouterr().out.split())


def test_seeds_beyond_the_declared_are_told(place, capsys):
    assert main(["reproduce", "1999_ours", "seeds=4"]) == 0
    assert "Seed 3 is not declared by the experiment" in " ".join(capsys.readouterr().out.split())


def test_pages_wait_for_records_and_link_from_where_they_stand(place):
    (place / "docs").mkdir()
    markers = ("numbers: 1999_ours consistency", "results: 1999_ours", "samples: 1999_ours", "claims: 1999_ours")
    (place / "docs/page.md").write_text("".join(f"<!-- {one} -->\n<!-- end -->\n" for one in markers))
    list(refresh(place))
    text = (place / "docs/page.md").read_text()
    assert text.count("No record is published yet: `poolbench reproduce 1999_ours` trains 6 cells.") == len(markers)
    markers = ("claims: 1999_ours", "history", "answer")
    (place / "docs/page.md").write_text("".join(f"<!-- {one} -->\n<!-- end -->\n" for one in markers))
    assert main(["reproduce", "1999_ours", "seeds=2", "--publish", "--underpowered"]) == 0
    links = re.findall(r"\]\(([^)]+)\)|^\[.+\]: (\S+)$", (place / "docs/page.md").read_text(), flags=re.M)
    links = [within or below for within, below in links]
    assert links.count("../experiments/1999_ours") == 2
    assert all((place / "docs" / link).exists() for link in links)
    links = re.findall(r"\]\(([^)]+)\)", (place / "experiments/1999_ours/README.md").read_text())
    assert all((place / "experiments/1999_ours" / link).exists() for link in links)
