"""`poolbench advise` as a user gives it, on made records."""

import json

import pytest

from poolbench.cli.main import main
from poolbench.pooling import POOLS
from tests.report.synthetic import speeds_of
from tests.report.test_advice import NETS, make

GAINS = {"max": 0.0, "lp": 0.01, "average": -0.02, "strided_conv": 0.012, "stochastic": 0.005}
OURS = {name: POOLS.table[name].replace(":", ".") for name in GAINS}


def made(folder, gains=GAINS, **changes):
    return make(folder, gains, targets=OURS, **changes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return made(tmp_path_factory.mktemp("advise") / "runs")


def said(capsys, *words):
    assert main(["advise", *map(str, words)]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    return text


def answer(capsys, *words):
    content = json.loads(said(capsys, "--json", *words))
    return content, {one["pool"]: one for one in content["pools"]}


def test_each_pool_has_its_gain_and_what_to_expect_in_another_net(runs, capsys):
    text = said(capsys, "--records", runs)
    assert text.startswith("Against max: 6 settings, 6 nets, 18 blocks.\n")
    rows = {line.split()[0]: line.split() for line in text.splitlines() if "/18" in line}
    assert list(rows) == ["strided_conv", "lp", "stochastic", "max", "average"]
    content, pools = answer(capsys, "--records", runs)
    lp = pools["lp"]
    assert rows["lp"][1:3] == ["6/18", f"{100 * lp['gain']:+.2f}"]
    assert rows["lp"][5:9] == [f"{100 * lp['net_low']:+.2f}", "to", f"{100 * lp['net_high']:+.2f}", ">99"]
    assert rows["lp"][-3:] == [f"{lp['cost']:.2f}F", "o--", "5"]
    assert rows["stochastic"][-2] == "or-"
    assert rows["strided_conv"][-2] == "o-w"
    assert lp["facts"] == {"onnx": True, "open_sizes": True, "deterministic": True, "parameters": 0, "sites": 5}
    assert (content["control"], content["settings"], content["nets"]) == ("max", 6, 6)
    assert "cost F: of FLOPs" in text
    assert "Without a record to compare: overlapping," in text


def test_what_is_surely_worse_stands_apart(runs, capsys):
    text = said(capsys, "--records", runs)
    good, _, bad = text.partition("Surely worse than the best of those above")
    assert "\nstrided_conv " in good
    assert "\naverage " in bad.partition("gain: points")[0]
    _, pools = answer(capsys, "--records", runs, "--no-parameters", "--deterministic")
    assert pools["strided_conv"]["surely_worse"] is None  # it is not among those that are left
    assert pools["lp"]["surely_worse"] is False
    assert pools["max"]["surely_worse"] is True


def test_a_limit_says_whom_it_leaves_out_and_why(runs, capsys):
    text = said(capsys, "--records", runs, "--no-parameters", "--deterministic", "--onnx", "--cost", "1.002")
    left = text.partition("Left out:")[2]
    assert "--no-parameters: strided_conv" in left
    assert "--deterministic: stochastic" in left
    assert "--onnx" not in left
    assert "--cost 1.002: strided_conv (1.27F), lp (1.01F), stochastic (1.01F)" in left
    _, pools = answer(capsys, "--records", runs, "--cost", "1.01", "--sites", "6")
    assert pools["lp"]["left_out_by"] == ["--sites 6"]
    assert pools["strided_conv"]["left_out_by"] == ["--cost 1.01", "--sites 6"]
    assert "No pool of these records keeps all limits." in said(capsys, "--records", runs, "--sites", "6")
    assert "max (5)" in said(capsys, "--records", runs, "--sites", "6")
    assert "Left out" not in said(capsys, "--records", runs, "--sites", "6", "--input-size", "64")


def test_a_time_beside_the_records_decides_the_cost(tmp_path, capsys):
    made(tmp_path, {"max": 0.0, "lp": 0.01}, nets=NETS[:1])
    content = speeds_of({"max": [10.0, 20.0], "lp": [15.0, 30.0]}, model__widths=[8])
    for row, pool in zip(content["rows"], ("max", "lp"), strict=True):
        row["config"]["pool"]["_target_"] = OURS[pool]
    (tmp_path / "speeds.json").write_text(json.dumps(content))
    _, pools = answer(capsys, "--records", tmp_path, "--cost", "1.4")
    assert (pools["lp"]["cost"], pools["lp"]["cost_by"]) == (pytest.approx(1.5), "time")
    assert pools["lp"]["left_out_by"] == ["--cost 1.4"]


def test_what_records_cannot_answer_is_said_and_no_number_given(tmp_path, capsys):
    made(tmp_path, nets=NETS[:2])
    text = said(capsys, "--records", tmp_path)
    flat = " ".join(text.split())
    assert "No interval for a net not tried can be given of any pool: that takes 5 nets, and here are at most 2" in flat
    assert "*: the mean of the settings that were tried, in fewer than 3 nets: ± is of these alone." in flat
    assert "Whether it is worse than the best cannot be told of any pool: that takes 3 nets." in flat
    _, pools = answer(capsys, "--records", tmp_path)
    assert pools["lp"]["net_low"] is pools["lp"]["above"] is pools["lp"]["surely_worse"] is None
    assert pools["lp"]["gain"] == pytest.approx(0.01, abs=0.001)


def test_records_without_two_blocks_answer_nothing(tmp_path, capsys):
    made(tmp_path, nets=NETS[:2], seeds=1)
    assert said(capsys, "--records", tmp_path).startswith("No pool met max in two blocks of one setting")


def test_a_pool_of_ones_own_is_judged_by_its_gain_and_its_facts_are_not_known(tmp_path, capsys):
    own = "mypkg.MyVeryOwnPoolOfALongName"
    make(tmp_path, {"max": 0.0, own: 0.02}, targets={**OURS, own: own})
    text = said(capsys, "--records", tmp_path)
    assert f"\n{own}\n" in text
    assert text.splitlines()[5].split()[-2:] == ["?", "?"]
    assert f"--onnx: {own} (not known)" in said(capsys, "--records", tmp_path, "--onnx")


def test_without_records_named_the_published_ones_are_asked(capsys):
    content, pools = answer(capsys)
    assert content["control"] == "max"
    assert content["settings"] >= 11
    assert pools["strided_conv"]["blocks"] >= 30


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cost", "0"], "--cost must be a ratio above 0, as 1.1, got 0"),
        (["--cost", "nan"], "--cost must be a ratio above 0"),
        (["--sites", "0"], "--sites must be a whole number of at least 1, got 0"),
        (["--input-size", "0"], "--input-size must be a whole number of at least 1, got 0"),
        (["--control", "maxx"], "--control: there is no pool 'maxx' here. Did you mean 'max'?"),
        (["--records", "nowhere"], "there is no record in nowhere\n  nowhere: no such file or folder"),
        (["lp"], "'lp' is one argument too many"),
        (["--determinstic"], "Did you mean '--deterministic'"),
    ],
)
def test_bad_input_is_named(words, message, runs, capsys):
    words = words if "--records" in words else [*words, "--records", str(runs)]
    assert main(["advise", *words]) == 2
    assert message in capsys.readouterr().err
