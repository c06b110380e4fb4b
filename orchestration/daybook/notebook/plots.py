"""The plots of the stage notebooks: each takes rows, draws one figure with title and units."""

from __future__ import annotations

import io
import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

# The first import of a machine builds a font list and says so in the log: no concern of a report's reader.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

import matplotlib as mpl  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.dates import ConciseDateFormatter, DayLocator, date2num  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: E402

_TEXT_COLOR, _MUTED_COLOR, _ACCENT_COLOR, _GRID_COLOR = "#33383d", "#9aa7b5", "#c8553d", "#e6e9ec"
_PAD_INCHES = 0.06
_MAX_MEASUREMENTS = 3
"""Times that texts are measured, at most."""
_STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _GRID_COLOR,
    "axes.labelcolor": _TEXT_COLOR,
    "text.color": _TEXT_COLOR,
    "xtick.color": _TEXT_COLOR,
    "ytick.color": _TEXT_COLOR,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class Plot:
    """A drawn figure, which a notebook shows as a picture at the size it was drawn for; ``text`` stands for it in words.

    IPython draws figures of pyplot only; a figure of its own, which is no global state, has to say how it is shown.
    """

    figure: Figure
    text: str

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        _fit_axes(self.figure)
        picture = io.BytesIO()
        # Without the date and the version of matplotlib, equal data gives equal bytes.
        self.figure.savefig(picture, format="png", metadata={"Software": None})
        width, height = (int(inches * 72 * 1.25) for inches in self.figure.get_size_inches())
        return {"image/png": picture.getvalue(), "text/plain": self.text}, {"image/png": {"width": width, "height": height}}

    def __repr__(self) -> str:
        return self.text


def daily_revenue(rows: Sequence[tuple[date, Any]], *, day: date, currency: str) -> Plot:
    """Bars of net revenue by business date; the day stands out, Sundays and the median give the eye a hold."""
    with mpl.rc_context(_STYLE):
        figure, axes = _new_figure("Net revenue a day", f"{day:%A}, {day.isoformat()} against the 28 days before")
        days: Any = [row[0] for row in rows]
        values = [float(row[1]) for row in rows]
        axes.bar(days, values, width=0.75, color=[_ACCENT_COLOR if each == day else _MUTED_COLOR for each in days])
        before = [value for each, value in zip(days, values) if each != day]
        if before:
            median = statistics.median(before)
            axes.axhline(median, color=_TEXT_COLOR, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.annotate(
                f"median {median:,.0f}", (1.005, median), xycoords=axes.get_yaxis_transform(), va="center", fontsize=8.5
            )
        # The same four weeks on every day's page, so that a day without a run leaves its gap.
        axes.set_xlim(date2num(day) - 28.6, date2num(day) + 0.6)
        locator = DayLocator(interval=4)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=True))
        _format_money_axis(axes, "y", currency)
        return Plot(figure, f"Net revenue a day up to {day.isoformat()}")


def top_categories(rows: Sequence[tuple[str, Any]], *, day: date, currency: str) -> Plot:
    """Horizontal bars of gross revenue by category, largest on top."""
    with mpl.rc_context(_STYLE):
        figure, axes = _draw_ranking("Top categories by gross revenue", rows, day=day, color=_MUTED_COLOR)
        _format_money_axis(axes, "x", currency)
        return Plot(figure, f"Top categories on {day.isoformat()}")


def rejected_rows(rows: Sequence[tuple[str, int]], *, day: date) -> Plot:
    """Horizontal bars of rejected rows by reason, most on top."""
    with mpl.rc_context(_STYLE):
        figure, axes = _draw_ranking("Rejected rows by reason", rows, day=day, color=_ACCENT_COLOR)
        axes.set_xlabel("rows")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="x", color=_GRID_COLOR)
        axes.set_axisbelow(True)
        return Plot(figure, f"Rejected rows on {day.isoformat()}")


def _draw_ranking(title: str, rows: Sequence[tuple[str, Any]], *, day: date, color: str) -> tuple[Figure, Axes]:
    """A bar for each row, in their order from the top, with its value at its end."""
    figure, axes = _new_figure(title, day.isoformat(), height=0.6 + 0.28 * max(len(rows), 3))
    values = [float(row[1]) for row in rows][::-1]
    axes.barh([_escape_dollars(row[0]) for row in rows][::-1], values, height=0.7, color=color)
    for index, value in enumerate(values):
        axes.annotate(f"{value:,.0f}", (value, index), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5)
    axes.tick_params(axis="y", length=0)
    return figure, axes


def _new_figure(title: str, subtitle: str, *, height: float = 2.6) -> tuple[Figure, Axes]:
    # A Figure of its own rather than pyplot's: nothing global, and the notebook shows it once, as the cell's value.
    figure = Figure(figsize=(7.6, height + 0.6), dpi=144)
    axes = figure.add_subplot()
    axes.set_title(title, pad=20)
    axes.annotate(subtitle, (0, 1), (0, 6), "axes fraction", "offset points", va="bottom", fontsize=9, color="#6b757f")
    return figure, axes


def _fit_axes(figure: Figure) -> None:
    """Give the axes all the room that their texts leave.

    A layout engine of matplotlib does the same and takes as long as drawing: it measures every text twice and draws once more.
    """
    (axes,) = figure.axes
    renderer = FigureCanvasAgg(figure).get_renderer()
    width, height, pad = figure.bbox.width, figure.bbox.height, _PAD_INCHES * figure.dpi
    for _ in range(_MAX_MEASUREMENTS):
        inner = axes.get_window_extent(renderer)
        outer = axes.get_tightbbox(renderer) or inner
        left, bottom = pad + inner.x0 - outer.x0, pad + inner.y0 - outer.y0
        right, top = width - pad - (outer.x1 - inner.x1), height - pad - (outer.y1 - inner.y1)
        axes.set_position((left / width, bottom / height, (right - left) / width, (top - bottom) / height))
        # Beside long names the bars grow shorter, and what stands at their ends comes closer to the edge: measure again.
        if right - left > inner.width - 1:
            break


def _escape_dollars(name: Any) -> str:
    """A name from the data: matplotlib would typeset what stands between two dollar signs."""
    return str(name).replace("$", r"\$")


def _format_money_axis(axes: Axes, which: Literal["x", "y"], currency: str) -> None:
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    (axes.set_ylabel if which == "y" else axes.set_xlabel)(currency)
    axes.grid(axis=which, color=_GRID_COLOR)
    axes.set_axisbelow(True)
