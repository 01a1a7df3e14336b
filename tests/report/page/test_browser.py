"""The page of a report in a browser: it draws, sorts, filters, remembers, and asks for nothing."""

import json

import pytest

from poolbench.report import Page, make_report
from poolbench.report.page import write_page
from tests.report.page.browsing import CHROMIUM, MISSING, browser, opened
from tests.report.page.test_page import CLAIM
from tests.report.synthetic import make_config, make_runs, write_cell

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    make_runs(folder / "runs", ["max", "average", "lp", "strided_conv", "subsample"], 4)
    make_runs(folder / "runs", ["max", "lp"], 3, trainer__epochs=2)
    claims = [CLAIM, {**CLAIM, "says": "a minor one", "headline": False, "verdict": "contradicts"}]
    return write_page(make_report(folder / "runs"), folder, Page("All of it", claims))


@pytest.fixture(scope="module")
def chromium():
    with browser() as one:
        yield one


def test_it_draws_everything_without_a_complaint_or_a_request(chromium, path):
    with opened(chromium, path) as one:
        assert one.arms() == ["strided_conv", "lp", "max", "average", "subsample"]
        assert one.page.locator("#chart-list svg").count() >= 3
        assert one.complaints == []
        assert [url for url in one.requests if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
        assert "2 settings" in one.page.inner_text(".about")


def test_a_head_sorts_and_sorts_back(chromium, path):
    with opened(chromium, path) as one:
        one.page.click("[data-sort=flops]")
        flops = [float(text) for text in one.column("MFLOPs")]
        assert flops == sorted(flops, reverse=True)
        one.page.click("[data-sort=flops]")
        assert [float(text) for text in one.column("MFLOPs")] == sorted(flops)
        assert one.page.get_attribute("th:has([data-sort=flops])", "aria-sort") == "ascending"
        assert one.page.evaluate("document.activeElement.dataset.sort") == "flops"  # the keyboard stays where it was


def test_words_and_choices_filter(chromium, path):
    with opened(chromium, path) as one:
        one.page.fill("#tools input[type=search]", "sub")
        assert one.arms() == ["subsample"]
        one.page.fill("#tools input[type=search]", "nowhere")
        assert one.arms() == []
        assert one.page.inner_text("#count") == "Nothing passes these filters."
        one.page.fill("#tools input[type=search]", "")
        one.page.select_option("select[name=setting]", "")
        assert len(one.arms()) == 7
        one.page.select_option("select[name=epochs]", "2")
        assert sorted(one.arms()) == ["lp", "max"]


def test_another_control_turns_differences_round(chromium, path):
    rows = make_report(path.parent / "runs").summary
    lp = rows[(rows["pool"] == "lp") & (rows["epochs"] == 8)].iloc[0]
    with opened(chromium, path) as one:
        before = dict(zip(one.arms(), one.column("difference"), strict=True))
        one.page.select_option("select[name=control]", "lp")
        after = dict(zip(one.arms(), one.column("difference"), strict=True))
        assert before["max"] == after["lp"] == "control"
        assert before["lp"].startswith(f"{100 * lp['difference']:+.2f}".replace("-", "−"))
        turned = before["lp"].replace("+", "?").replace("−", "+").replace("?", "−")
        assert after["max"] == turned
        assert after["average"] != before["average"]


def test_the_address_holds_the_view(chromium, path):
    with opened(chromium, path) as one:
        one.page.select_option("select[name=control]", "lp")
        one.page.click("[data-sort=arm]")
        one.page.fill("#tools input[type=search]", "a")
        one.page.click("button.arm >> text=average")
        assert one.page.locator("dialog[open]").count() == 1
        address = one.page.evaluate("location.hash").removeprefix("#")
        arms, differences = one.arms(), one.column("difference")
    with opened(chromium, path, address) as other:
        assert (other.arms(), other.column("difference")) == (arms, differences)
        assert other.page.input_value("select[name=control]") == "lp"
        assert "average in convnet" in other.page.inner_text("#drawer-title")


def test_the_drawer_tells_cells_config_and_command(chromium, path):
    with opened(chromium, path) as one:
        one.page.focus("tr[data-arm=lp] .arm")
        one.page.keyboard.press("Enter")
        text = one.page.inner_text("#drawer")
        assert text.count("1234567890") == 4
        assert text.count("poolbench rerun ") == 4
        assert "poolbench.pooling.Lp" in text
        one.page.keyboard.press("Escape")
        assert one.page.locator("dialog[open]").count() == 0
        assert "open" not in one.page.evaluate("location.hash")


def test_columns_are_hidden_at_will(chromium, path):
    with opened(chromium, path, "hide=verdict") as one:
        heads = one.page.inner_text("#live-table thead")
        assert "verdict" not in heads
        assert "forward time" not in heads  # of no cell here


def test_the_view_is_saved_as_csv_json_latex_and_svg(chromium, path, tmp_path):
    with opened(chromium, path, "q=lp") as one:
        found = {}
        for name in ("CSV", "JSON", "LaTeX"):
            with one.page.expect_download() as waiting:
                one.page.click(f"#tools button:text-is('{name}')")
            waiting.value.save_as(tmp_path / name)
            found[name] = (tmp_path / name).read_text()
        with one.page.expect_download() as waiting:
            one.page.click("#chart-pareto button")
        waiting.value.save_as(tmp_path / "SVG")
    assert found["CSV"].splitlines()[0].startswith("arm,accuracy,difference,verdict")
    assert found["CSV"].splitlines()[1].startswith("lp,0.8")
    (row,) = json.loads(found["JSON"])
    assert row["arm"] == "lp"
    assert row["config"]["trainer.epochs"] == 8
    assert len(row["cells"]) == 4
    assert "\\toprule" in found["LaTeX"]
    assert "$\\pm$" in found["LaTeX"]
    assert (tmp_path / "SVG").read_text().startswith("<svg")


def test_claims_show_headlines_first_and_all_when_asked(chromium, path):
    with opened(chromium, path) as one:
        assert one.page.locator("table.claims tbody tr:visible").count() == 1
        one.page.uncheck("#only-headline")
        assert one.page.locator("table.claims tbody tr:visible").count() == 2


def test_dark_and_light_can_be_chosen_and_max_is_seen_on_both(chromium, path):
    with opened(chromium, path, color_scheme="dark") as one:
        script = "document.querySelector('tr[data-arm=max] .arm path').getAttribute('fill')"
        dark = one.page.evaluate(script)
        one.page.click("#theme")
        light = one.page.evaluate(script)
        assert (light, int(dark[1:3], 16) > 200) == ("#000000", True)


def test_a_telephone_scrolls_down_and_not_sideways(chromium, path):
    with opened(chromium, path, viewport={"width": 400, "height": 800}) as one:
        assert one.page.evaluate("document.documentElement.scrollWidth") <= 400
        assert one.arms()[0] == "strided_conv"


def test_without_scripts_the_tables_are_there(chromium, path):
    with opened(chromium, path, java_script_enabled=False) as one:
        assert one.page.locator("#static table:visible").count() == 2
        assert one.page.locator("#tools:visible").count() == 0
        assert "max (baseline)" in one.page.inner_text("#static")


def test_settings_with_one_short_name_have_rows_of_their_own(chromium, tmp_path):
    words = "a_net_with_a_name_that_is_far_too_long_for_any_chart_" * 2
    for lr in (0.1, 0.2):
        for pool in ("max", "lp"):
            for seed in range(3):
                config = make_config(pool, seed, optimizer__lr=lr)
                config["names"]["model"] = words
                config["run_id"] = f"{pool}-{lr}-{seed}"
                write_cell(tmp_path / "runs", config)
    path = write_page(make_report(tmp_path / "runs"), tmp_path, Page())
    with opened(chromium, path, "setting=") as one:
        assert one.arms() == ["lp", "lp", "max", "max"]
        labels = one.page.eval_on_selector_all("#chart-forest svg text", "texts => texts.map(text => text.textContent)")
        assert len([label for label in labels if label.startswith("lp")]) == 2
