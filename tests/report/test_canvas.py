import pytest

from poolbench.report.canvas import at_least, fitted


def letters(text):
    return float(len(text))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "fractional_max(sequence=random,overlapping=false)",
            ["fractional_max(sequence=random,", "overlapping=false)"],
        ),
        ("max", ["max"]),
        ("two words that are far too long for it", ["two words that are far too long", "for it"]),
        ("a" * 70, ["a" * 32, "a" * 32, "a" * 6]),
        ("an_option_that_has_no_comma_at_all=1", ["an_option_that_has_no_comma_at_", "all=1"]),
    ],
)
def test_words_are_broken_where_options_end_and_inside_only_at_last(text, lines):
    assert fitted(text, 32, letters).split("\n") == lines


@pytest.mark.parametrize("inches", [1, 5, 11, 40])
@pytest.mark.parametrize("text", ["max(kernel_size=3,stride=[2,2])", "a b c", "x" * 30, "Ünïcode—dash,x"])
def test_lines_fit_and_no_letter_is_lost(text, inches):
    lines = fitted(text, inches, letters).split("\n")
    assert all(len(line) <= inches for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_an_axis_is_widened_about_its_middle_and_never_narrowed():
    assert at_least((1.0, 2.0), 4.0) == (-0.5, 3.5)
    assert at_least((1.0, 9.0), 4.0) == (1.0, 9.0)
