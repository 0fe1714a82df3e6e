"""Where everything in the charts goes."""

import pytest

from workflows_mcp.server.ui.drawing.charts import (
    HEIGHT,
    WIDTH,
    byte_ceiling,
    ceiling,
    make_bars,
    make_columns,
    make_growth,
)


def test_the_top_of_an_axis_is_a_number_that_people_count_by() -> None:
    """Not below what is shown, not much above it, and its half is one, too."""
    assert [ceiling(value) for value in (0, 1, 2, 3, 17, 41, 99, 100, 101, 1_000_001)] == [
        2, 2, 2, 4, 20, 60, 100, 100, 200, 2_000_000,
    ]  # fmt: skip
    assert [byte_ceiling(value) / 1024 for value in (2048, 1500 * 1024, 1023 * 1024, 3 * 2**30)] == [
        2, 2048, 1024, 4 * 2**20,
    ]  # fmt: skip
    assert make_columns([17]).marks == ("20", "10", "0")
    assert make_growth([0, 11_000]).marks == ("20k", "10k", "0")
    assert make_growth([0, 1_000_000]).marks == ("1M", "500k", "0")
    assert make_growth([0, 3 * 2**20], are_bytes=True).marks == ("4 MiB", "2 MiB", "0 B")


def test_bars_show_the_largest_and_sum_up_the_others() -> None:
    """Of equal ones the first by name; nobody is the only other one."""
    bars = make_bars([("c", 5), ("a", 10), ("b", 5), ("d", 1), ("e", 1)], most=3)
    assert [(one.name, one.value, one.others, one.length) for one in bars] == [
        ("a", 10, 0, 100.0),
        ("b", 5, 0, 50.0),
        ("c", 5, 0, 50.0),
        (None, 2, 2, 0.0),
    ]
    assert [one.name for one in make_bars([("a", 1), ("b", 2)], most=1)] == ["b", "a"]
    assert make_bars([], most=3) == []


def test_something_is_never_as_low_as_nothing() -> None:
    """And every column stands within the picture, one beside the other."""
    columns = make_columns([0, 1, 100_000]).columns
    assert [one.height > 0 for one in columns] == [False, True, True]
    assert all(one.y + one.height == pytest.approx(HEIGHT) for one in columns)
    assert [one.x for one in columns] == [0, WIDTH / 3, 2 * WIDTH / 3]
    assert columns[-1].x + columns[-1].width <= WIDTH
    assert make_columns([]).columns == ()


def test_a_sum_grows_from_one_side_to_the_other() -> None:
    """The line's ends are those of the picture."""
    assert make_growth([0, 2, 4]).line == f"M0,{HEIGHT:g} L{WIDTH / 2:g},{HEIGHT / 2:g} L{WIDTH:g},0"


def test_sizes_that_no_store_has_written_stay_in_the_picture() -> None:
    """Whatever a row says of itself."""
    huge = 17 * 10**307
    assert [one.length for one in make_bars([("a", huge), ("b", -huge)], most=3)] == [100.0, 0.0]
    assert [one.length for one in make_bars([("a", -5)], most=3)] == [0.0]
    assert make_growth([-5, -7], are_bytes=True).line == f"M0,{HEIGHT:g} L{WIDTH:g},{HEIGHT:g}"
    assert make_growth([0, huge], are_bytes=True).line.startswith(f"M0,{HEIGHT:g} L{WIDTH:g},")
