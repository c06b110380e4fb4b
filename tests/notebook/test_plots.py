"""Test bars, marked day, axes and units of the plots, and that equal rows give equal pictures."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.dates import num2date

from daybook.notebook.plots import Plot, bars_by_day, ranking

DAY = date(2025, 11, 30)
WEEKS = [(DAY - timedelta(days=28 - number), Decimal(100 + number)) for number in range(29)]


def revenue(rows: list[tuple[date, Any]]) -> Plot:
    return bars_by_day(rows, day=DAY, title="Net revenue a day", unit="BRL")


def categories(rows: list[tuple[Any, Any]]) -> Plot:
    return ranking(rows, day=DAY, title="Top categories by gross revenue", unit="BRL")


def rejections(rows: list[tuple[Any, Any]]) -> Plot:
    return ranking(rows, day=DAY, title="Rejected rows by reason", unit="rows", accent=True)


def axes_of(plot: Plot) -> Axes:
    (axes,) = plot.figure.axes
    return axes


def picture(plot: Plot) -> bytes:
    data: bytes = plot._repr_mimebundle_()[0]["image/png"]
    return data


def texts(axes: Axes) -> list[str]:
    return [each.get_text() for each in axes.texts]


def test_each_day_has_a_bar_of_its_net_revenue() -> None:
    bars = axes_of(revenue(WEEKS)).patches
    assert [bar.get_height() for bar in bars] == [100 + number for number in range(29)]


def test_day_of_the_run_is_marked() -> None:
    colours = [to_hex(bar.get_facecolor()) for bar in axes_of(revenue(WEEKS)).patches]
    assert len(set(colours[:-1])) == 1
    assert colours[-1] not in colours[:-1]


def test_axis_covers_four_weeks_before_each_day() -> None:
    for rows in (WEEKS, WEEKS[-3:], WEEKS[:1]):
        left, right = (num2date(edge).date() for edge in axes_of(revenue(rows)).get_xlim())
        assert (left, right) == (DAY - timedelta(days=29), DAY)


@pytest.mark.parametrize(("before", "median"), [([1, 2, 9], 2), ([1, 2, 4, 9], 3), ([5], 5)])
def test_line_is_the_median_of_the_days_before(before: list[int], median: float) -> None:
    rows = [(DAY - timedelta(days=number + 1), value) for number, value in enumerate(before)]
    axes = axes_of(revenue([*rows, (DAY, 1000)]))
    assert list(axes.lines[0].get_ydata()) == [median, median]
    assert f"median {median}" in texts(axes)


def test_first_day_has_no_median() -> None:
    axes = axes_of(revenue([(DAY, 10)]))
    assert len(axes.lines) == 0
    assert len(axes.patches) == 1


def test_day_with_more_returns_than_sales_is_negative() -> None:
    (bar,) = axes_of(revenue([(DAY, Decimal("-12.5"))])).patches
    assert bar.get_height() == -12.5


def test_revenue_has_title_day_and_currency() -> None:
    axes = axes_of(revenue(WEEKS))
    assert axes.get_title(loc="left") == "Net revenue a day"
    assert "Sunday, 2025-11-30 against the 28 days before" in texts(axes)
    assert axes.get_ylabel() == "BRL"


@pytest.mark.parametrize("draw", [categories, rejections])
def test_largest_bar_is_on_top_with_its_figure(draw: Callable[..., Plot]) -> None:
    axes = axes_of(draw([("books", 2500), ("toys", 40)]))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["toys", "books"]
    assert [bar.get_width() for bar in axes.patches] == [40, 2500]
    assert texts(axes)[-2:] == ["40", "2,500"]


def test_categories_have_title_day_and_currency() -> None:
    axes = axes_of(categories([("books", Decimal("2500.25"))]))
    assert axes.get_title(loc="left") == "Top categories by gross revenue"
    assert "2025-11-30" in texts(axes)
    assert axes.get_xlabel() == "BRL"


def test_axis_of_rejected_rows_has_whole_numbers() -> None:
    axes = axes_of(rejections([("orders: status is present", 2)]))
    assert axes.get_title(loc="left") == "Rejected rows by reason"
    assert axes.get_xlabel() == "rows"
    assert all(tick == int(tick) for tick in axes.get_xticks())


@pytest.mark.parametrize("draw", [categories, rejections])
def test_more_bars_make_a_taller_figure(draw: Callable[..., Plot]) -> None:
    few, many = (draw([(f"name {number}", number) for number in range(count)]).figure for count in (3, 12))
    assert many.get_figheight() > few.get_figheight()


@pytest.mark.parametrize("name", ["$5 to $10", "$\\frac{$", "a_b^c", "Køkken & bad", None])
@pytest.mark.parametrize("draw", [categories, rejections])
def test_any_name_can_be_drawn(draw: Callable[..., Plot], name: Any) -> None:
    assert picture(draw([(name, 1)])).startswith(b"\x89PNG")


@pytest.mark.parametrize(("draw", "rows"), [(revenue, WEEKS), (categories, [("books", 1)]), (rejections, [("a rule", 1)])])
def test_notebook_shows_pictures_at_their_drawn_size(draw: Callable[..., Plot], rows: list[Any]) -> None:
    plot = draw(rows)
    data, metadata = plot._repr_mimebundle_()
    width, height = struct.unpack(">II", data["image/png"][16:24])
    shown = metadata["image/png"]
    assert shown["width"] / shown["height"] == pytest.approx(width / height, rel=0.01)
    assert data["text/plain"] == repr(plot) == plot.text
    assert "2025-11-30" in plot.text


def test_equal_rows_give_equal_pictures() -> None:
    assert picture(categories([("books", 1)])) == picture(categories([("books", 1)]))
