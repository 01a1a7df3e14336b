import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.text import Text

from poolbench.claims.figure import claim_figure
from poolbench.report.plots import save
from tests.claims.judged import draw_values, make_cells, make_claim, make_judgement

LONG = {
    "control": {"pool": "max", "head.hidden": [512, 256]},
    "treatment": {"pool": f"a_{'very_' * 12}long_name", "pool.p": 3},
}


def judged(number=0, gain=0.004, seeds=6, level=0.8, stratum="", verdict="cannot tell", needed=None, **claim):
    values = draw_values(seeds, level, gain, number)
    return make_judgement(
        make_claim(f"claim_{number}", **claim), *values, stratum=stratum, verdict=verdict, seeds_needed=needed
    )


def situation(name):
    """The judgements of a situation, and the probes that its cells have."""
    if name == "one":
        return [judged(seeds=3)], []
    if name == "strata":
        claim = make_claim()
        levels = {"model cuda_convnet": 0.75, "model fast_cnn_small": 0.9}
        return [make_judgement(claim, *draw_values(6, level, 0.004), stratum) for stratum, level in levels.items()], []
    if name == "fourteen with long words":
        many = [
            judged(i, 0.004 * (i - 7), 10, 0.6 + 0.02 * i, needed=1000, **(LONG if i % 4 == 0 else {}))
            for i in range(14)
        ]
        return many, ["rotate_10", *(f"flip_{way}" for way in ("horizontal", "vertical"))]
    if name == "too small":
        small = "supports, but too small to matter"
        return [judged(0, 0.001, verdict=small), judged(1, 0.001, needed=10_000)], []
    if name == "no record":
        return [judged(0), make_judgement(make_claim("other", **LONG)), judged(2)], ["size_24", "size_32"]
    if name == "other units":
        flops = {"metric_control": "forward_flops", "metric_treatment": "forward_flops", "direction": "lower"}
        return [
            judged(0),
            make_judgement(make_claim("cost", smallest_difference=1e6, **flops), [35e6] * 4, [22.6e6] * 4),
            judged(
                2,
                metric_control="train_accuracy - test_accuracy",
                metric_treatment="train_accuracy - test_accuracy",
                level=0.01,
            ),
        ], []
    if name == "paper far away":
        papers = [{"gain": 0.3}, {"gain": -0.3, "status": "from memory"}, {"gain": None, "unknown": "not said"}]
        return [judged(i, paper=paper) for i, paper in enumerate(papers)], []
    if name == "wide intervals":
        claim = make_claim()
        return [make_judgement(claim, [0.8, 0.801], [0.79, 0.83]), make_judgement(claim, [0.8], [0.81], "alone")], []
    probes = [f"{n}_{a}" for n in ("scale", "translate_x", "translate_y", "rotate") for a in (-2, 0.5, 2)]
    return [judged(0), judged(1, **LONG)], ["size_24", "size_40", "draws_1", "draws_4", "flip_horizontal", *probes]


SITUATIONS = (
    "one",
    "strata",
    "fourteen with long words",
    "too small",
    "no record",
    "other units",
    "paper far away",
    "wide intervals",
    "all probes",
)


def draw(name):
    judgements, probes = situation(name)
    return claim_figure(judgements, make_cells(judgements, probes), "A title\nand what it is about")


def texts(figure):
    return [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]


def words(figure):
    return "\n".join(text.get_text() for text in texts(figure))


def gain_axes(figure):
    """The axes of the gains, from above: those that have a line at 0 from the bottom to the top."""
    zero = lambda line: list(line.get_xdata()) == [0, 0] and list(line.get_ydata()) == [0, 1]  # noqa: E731
    return [axes for axes in figure.axes if any(map(zero, axes.lines)) and axes.patches]


def dots(axes):
    return [x for line in axes.lines if line.get_marker() == "." for x in line.get_xdata()]


def marks(axes, *markers):
    return [line for line in axes.lines if line.get_marker() in markers and line.get_markerfacecolor() == "white"]


@pytest.mark.parametrize("name", SITUATIONS)
def test_no_text_covers_another_one_or_leaves_the_figure_or_is_small(name):
    figure = draw(name)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    boxes = []
    for axes in figure.axes:  # matplotlib keeps texts of ticks that are not shown
        low, high = sorted(axes.get_xlim())
        boxes += [(t.label1.get_text(), t.label1) for t in axes.xaxis.get_major_ticks() if low <= t.get_loc() <= high]
        boxes += [(t.get_text(), t) for t in (axes.xaxis.label, axes.yaxis.label, *axes.texts)]
    boxes += [(t.get_text(), t) for t in (*figure.texts, *(t for legend in figure.legends for t in legend.get_texts()))]
    boxes = [
        (text, shown, Text.get_window_extent(shown, renderer)) for text, shown in boxes if text and shown.get_visible()
    ]
    boxes = [(text, shown, box) for text, shown, box in boxes if box.width > 1]
    assert len(boxes) > 10
    for text, shown, box in boxes:
        assert shown.get_fontsize() >= 9, text
        frame = figure.bbox.padded(1)
        assert (frame.x0 <= box.x0, frame.y0 <= box.y0, box.x1 <= frame.x1, box.y1 <= frame.y1) == (True,) * 4, text
    for (one, _, a), (other, _, b) in itertools.combinations(boxes, 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or down <= 2, (one, other)


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_claim_arm_stratum_and_verdict_is_said(name):
    judgements, _ = situation(name)
    shown = [text.get_text() for text in texts(draw(name))]
    said = "".join("".join(shown).split())
    for judgement in judgements:
        claim = judgement.claim
        assert claim.says.replace(" ", "") in said
        assert judgement.stratum.replace(" ", "") in said
        assert claim.paper.metric.replace(" ", "") in said
        assert all(str(pattern["pool"]) in said for pattern in (claim.control, claim.treatment))
    for verdict in {judgement.verdict for judgement in judgements}:
        word, _, small = verdict.partition(", ")
        told = sum(judgement.verdict == verdict for judgement in judgements)
        assert shown.count(word) == told
        assert not small or sum(text.endswith("; too small") for text in shown) == told


@pytest.mark.parametrize("name", SITUATIONS)
def test_no_axes_reach_into_others(name):
    figure = draw(name)
    figure.draw_without_rendering()
    boxes = [(axes, axes.get_tightbbox(figure.canvas.get_renderer())) for axes in figure.axes]
    for (_, a), (_, b) in itertools.combinations(boxes, 2):
        assert min(a.x1, b.x1) - max(a.x0, b.x0) <= 1 or min(a.y1, b.y1) - max(a.y0, b.y0) <= 8, (a, b)


@pytest.mark.parametrize("name", SITUATIONS)
def test_axes_of_gains_have_three_ticks_or_more(name):
    for axes in gain_axes(draw(name)):
        low, high = axes.get_xlim()
        assert len([tick for tick in axes.get_xticks() if low <= tick <= high]) >= 3


def test_strata_name_their_arms_once_in_the_heading():
    shown = [text.get_text() for text in texts(draw("strata"))]
    assert sum("above: max; below: overlapping" in text for text in shown) == 1
    assert not {"max", "overlapping"} & set(shown)
    alone = [text.get_text() for text in texts(draw("one"))]
    assert {"max", "overlapping"} <= set(alone)
    assert not any("above:" in text for text in alone)


def test_a_row_of_a_stratum_is_lower_than_one_that_names_its_arms():
    def height(judgements):
        return claim_figure(judgements, make_cells(judgements), "title").get_figheight()

    strata, names = [f"model m{i}" for i in range(8)], [f"claim_{i}" for i in range(8)]
    values = draw_values(6, 0.8, 0.004)
    several = [make_judgement(make_claim(), *values, stratum) for stratum in strata]
    apart = [make_judgement(make_claim(name), *values, stratum) for name, stratum in zip(names, strata, strict=True)]
    assert height(several) < 0.6 * height(apart)
    assert height(several) - height(several[:4]) < 4 * 0.6  # inches a row


def test_every_seed_of_both_arms_and_of_the_gain_is_a_dot():
    judgements, _ = situation("strata")
    figure = draw("strata")
    rights = gain_axes(figure)
    lefts = [axes for axes in figure.axes if axes not in rights]
    assert len(rights) == len(lefts) == 2
    for judgement, left, right in zip(judgements, lefts, rights, strict=True):
        values = [*judgement.control_values.values(), *judgement.treatment_values.values()]
        np.testing.assert_allclose(sorted(dots(left)), sorted(100 * np.array(values)))
        np.testing.assert_allclose(sorted(dots(right)), sorted(100 * np.array(list(judgement.gains.values()))))


def test_the_gain_has_both_intervals_its_band_and_the_papers_mark():
    judgement = judged(paper={"gain": 0.005})
    axes = gain_axes(claim_figure([judgement], make_cells([judgement]), "title"))[0]
    bars = [(line.get_linewidth(), list(line.get_xdata())) for line in axes.lines if len(line.get_xdata()) == 2]
    (_, decides), (_, thick) = sorted(bar for bar in bars if bar[1] != [0, 0])
    assert thick == pytest.approx([100 * judgement.gain.low, 100 * judgement.gain.high])
    assert decides == pytest.approx([100 * judgement.judged.low, 100 * judgement.judged.high])
    band = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((-0.2, 0.2))
    assert [line.get_xdata()[0] for line in marks(axes, "D")] == pytest.approx([0.5])


def test_a_gain_that_the_paper_claims_the_other_way_is_drawn_where_it_is_better():
    judgement = judged(0, -0.02, direction="lower")  # the treatment's number is lower, and lower is better
    axes = gain_axes(claim_figure([judgement], make_cells([judgement]), "title"))[0]
    assert min(dots(axes)) > 0


def test_a_paper_far_away_is_an_arrow_with_its_number_and_squeezes_nothing():
    figure = draw("paper far away")
    above, below, unknown = gain_axes(figure)
    assert [text.get_text() for text in above.texts] == ["paper +30.00"]
    assert [text.get_text() for text in below.texts] == ["paper −30.00"]
    assert [text.get_text() for text in unknown.texts] == []
    assert (len(marks(above, ">")), len(marks(below, "<"))) == (1, 1)
    assert not marks(unknown, "D", "s", "<", ">")
    for axes in (above, below):
        assert np.ptp(axes.get_xlim()) < 10 < 30
        assert np.ptp(dots(axes)) > 0.1 * np.ptp(axes.get_xlim())
    said = words(figure)
    assert "not said" in said
    assert "from memory" in said


@pytest.mark.parametrize(
    ("status", "marker", "legend"),
    [("verified", "D", "its own data and net"), ("from memory", "s", "quoted from memory")],
)
def test_numbers_from_memory_have_another_mark_and_the_legend_says_so(status, marker, legend):
    judgement = judged(paper={"gain": 0.004, "status": status})
    figure = claim_figure([judgement], make_cells([judgement]), "title")
    other = {"D": "s", "s": "D"}[marker]
    axes = gain_axes(figure)[0]
    assert (len(marks(axes, marker)), len(marks(axes, other))) == (1, 0)
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [legend in entry for entry in entries].count(True) == 1


def test_an_interval_beyond_its_axis_ends_in_an_arrow_and_the_legend_says_so():
    wide, narrow = draw("wide intervals"), draw("strata")
    assert "goes on beyond the axis" in words(wide)
    assert "goes on beyond the axis" not in words(narrow)
    judgement = situation("wide intervals")[0][0]
    low, high = gain_axes(wide)[0].get_xlim()
    assert 100 * judgement.gain.low < low
    assert any(line.get_marker() == "<" for line in gain_axes(wide)[0].lines)
    assert high < 100 * judgement.gain.high


def test_rows_share_an_axis_unless_one_would_be_squeezed():
    near = [judged(0, level=0.8), judged(1, level=0.801)]
    apart = [judged(0, level=0.8), judged(1, level=0.9)]
    for judgements, shared in ((near, True), (apart, False)):
        figure = claim_figure(judgements, make_cells(judgements), "title")
        rights = gain_axes(figure)
        lefts = [axes for axes in figure.axes if axes not in rights]
        assert (lefts[0].get_xlim() == lefts[1].get_xlim()) is shared
        assert rights[0].get_xlim() == rights[1].get_xlim()
        assert all(np.ptp(dots(axes)) > 0.2 * np.ptp(axes.get_xlim()) for axes in lefts)


def test_numbers_that_are_no_shares_have_their_own_axis_and_no_percent():
    figure = draw("other units")
    rights = gain_axes(figure)
    np.testing.assert_allclose(dots(rights[1]), 12.4e6)
    assert rights[1].get_xlim()[1] > 12.4e6
    assert rights[0].get_xlim()[1] < 100
    assert not marks(rights[1], "D", ">")  # the paper's gain is of another unit
    assert "+12.4M ± 0" in words(figure)


def test_an_arm_without_records_has_a_row_of_words_and_no_axes():
    figure = draw("no record")
    assert len(gain_axes(figure)) == 2
    assert "no record" in words(figure)


def test_nothing_to_draw_is_no_figure():
    nothing = [make_judgement(make_claim())]
    assert claim_figure([], make_cells([]), "title") is None
    assert claim_figure(nothing, make_cells(nothing), "title") is None


@pytest.mark.parametrize(
    ("verdict", "needed", "said"), [("cannot tell", 1234, "6 pairs; about 1,234 would"), ("supports", None, "6 pairs")]
)
def test_the_verdict_stands_beside_the_gain_and_the_pairs(verdict, needed, said):
    judgement = judged(verdict=verdict, needed=needed)
    shown = [text.get_text() for text in texts(claim_figure([judgement], make_cells([judgement]), "title"))]
    assert [verdict in shown, said in shown] == [True, True]
    gain = 100 * judgement.gain.mean
    assert any(text.startswith(f"{gain:+.2f} ± ") for text in shown)


def test_one_pair_has_no_interval():
    judgement = judged(seeds=1)
    assert math.isnan(judgement.gain.low)
    figure = claim_figure([judgement], make_cells([judgement]), "title")
    said = words(figure)
    assert "± –" in said
    assert "1 pair" in said
    assert "interval that decides" not in said


def test_the_same_data_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        save(draw("all probes"), tmp_path / name)
    for suffix in (".png", ".svg"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_other_gains_give_other_bytes(tmp_path):
    for name, gain in (("one", 0.004), ("two", 0.0041)):
        judgement = judged(gain=gain)
        save(claim_figure([judgement], make_cells([judgement]), "title"), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "two.png").read_bytes()


def test_panels_are_there_if_and_only_if_the_arms_cells_have_probes():
    judgements = [judged()]
    plain = claim_figure(judgements, make_cells(judgements), "title")
    cells = make_cells(judgements, ["rotate_-10", "rotate_10", "flip_vertical"])
    probed = claim_figure(judgements, cells, "title")
    assert (len(plain.axes), len(probed.axes)) == (2, 4)
    assert probed.get_figheight() > plain.get_figheight()
    assert {"turned by (degrees)", "mirrored"} <= {text.get_text() for text in texts(probed)}
    others = cells.assign(run_id="of-another-arm")
    assert len(claim_figure(judgements, others, "title").axes) == 2
    empty = cells.assign(**{name: math.nan for name in cells.columns if "test_accuracy_" in name})
    assert len(claim_figure(judgements, empty, "title").axes) == 2


def test_words_of_a_name_are_never_formulas():
    judgement = replace(judged(control={"pool": "$x$"}, says="it costs $5, or $6"), stratum="model $m$")
    said = words(claim_figure([judgement], make_cells([judgement]), "$title$"))
    assert all(text in said for text in ("$x$", "$5, or $6", "$m$", "$title$"))
