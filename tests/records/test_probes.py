"""What a probe may ask for, and what its answers are called."""

import math

import pytest
import yaml

from poolbench.configuration import composer, config_dir
from poolbench.records.probes import ALLOWED, DEFAULTS, amount_text, completed, counting, is_share, names, probed_text

PRESETS = sorted(path.stem for path in (config_dir() / "probe").glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_every_option_and_is_allowed(preset):
    with composer() as compose:
        probe = compose.block("probe", preset)
    assert list(probe) == list(DEFAULTS) == list(ALLOWED)
    assert completed(probe) == probe
    assert len(set(names(probe))) == len(names(probe))
    assert (counting(probe) == {}) == (preset == "none")


def test_the_file_of_no_probe_is_what_old_records_meant():
    assert yaml.safe_load((config_dir() / "probe/none.yaml").read_text(encoding="utf-8")) == DEFAULTS


def test_the_figure_of_the_paper_is_at_the_scale_of_its_images():
    with composer() as compose:
        probe = compose.block("probe", "invariance")
    assert probe["scale"] == [pytest.approx(10 / n, abs=0.005) for n in range(9, 3, -1)]
    # In whole pixels, since half of one would blur as well.
    shifts = [pytest.approx(32 * shift / 256, abs=0.5) for shift in (-40, -20, 20, 40)]
    assert probe["translate_x"] == probe["translate_y"] == shifts
    assert all(isinstance(shift, int) for shift in probe["translate_x"])


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (2.5, "2.5"),
        (24, "24"),
        (-10.0, "-10"),
        (-0.0, "0"),
        (10 / 9, "1.11111"),
        ("vertical", "vertical"),
    ],
)
def test_an_amount_has_one_text(amount, text):
    assert amount_text(amount) == text


@pytest.mark.parametrize("twice", [[2.5, 2.50], [1, 1.0], [0.0, -0.0], [1.1111111, 1.1111112], [-10, -10]], ids=str)
def test_two_amounts_of_one_name_are_refused(twice):
    with pytest.raises(ValueError, match=r"probe\.translate_x must be a list of pixels .*none twice"):
        completed({"translate_x": twice})


def test_every_amount_has_two_names_and_every_transform_its_means():
    found = names({**DEFAULTS, "sizes": [24], "rotate": [-10, 2.5], "flip": ["horizontal"], "draws": [1, 12]})
    words = ("size_24", "size", "rotate_-10", "rotate_2.5", "rotate", "flip_horizontal", "flip")
    pairs = [f"{share}_{word}" for word in words for share in ("test_accuracy", "agreement")]
    assert found == [*pairs, "test_accuracy_draws_1", "test_accuracy_draws_12"]
    assert all(map(is_share, found))
    assert not any(map(is_share, ("test_accuracy", "train_accuracy", "test_loss", "flip_averaged_accuracy")))


def test_what_changes_no_reading_does_not_count():
    assert counting({**DEFAULTS, "border": "wrap", "samples": 10}) == {}
    assert counting({**DEFAULTS, "sizes": [24], "border": "wrap", "samples": 10}) == {"sizes": [24], "samples": 10}
    assert counting({**DEFAULTS, "rotate": [5], "border": "wrap"}) == {"rotate": [5], "border": "wrap"}
    assert counting({"rotate": [5]}) == counting({**DEFAULTS, "rotate": [5]}) == {"rotate": [5]}
    assert counting({**DEFAULTS, "shear": [0.1]}) == {"shear": [0.1]}  # of another version: who knows


def test_probes_are_told_by_what_they_vary():
    assert probed_text({**DEFAULTS, "sizes": [24], "draws": [1]}) == "probes of size, draws"
    for none in (None, {}, DEFAULTS, "somebody's"):
        assert probed_text(none) == "no probes"


@pytest.mark.parametrize("value", [math.nan, math.inf, True, "5", None, [5]], ids=str)
def test_an_amount_is_a_number(value):
    for option in ("scale", "translate_x", "rotate", "sizes", "draws"):
        with pytest.raises(ValueError, match=f"probe.{option} must be"):
            completed({option: [value]})
