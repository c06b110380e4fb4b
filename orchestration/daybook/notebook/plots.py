"""Draw the plots of the stage notebooks: one figure each, with title and unit."""

from __future__ import annotations

import io
import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal, Optional, Union

# The first import on a machine builds a font list and logs that, which does not belong in a report.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

import matplotlib as mpl  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.dates import ConciseDateFormatter, DayLocator, date2num  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: E402

if TYPE_CHECKING:  # A notebook without a DataFrame need not import pandas.
    import pandas as pd

    Pairs = Union[pd.DataFrame, Sequence[tuple[Any, Any]]]

_TEXT_COLOR, _MUTED_COLOR, _ACCENT_COLOR, _GRID_COLOR = "#33383d", "#9aa7b5", "#c8553d", "#e6e9ec"
_PAD_INCHES = 0.06
_MAX_MEASUREMENTS = 3
"""Maximum number of times that texts are measured."""
_DAYS_SHOWN = 28
"""Days before the business date that ``bars_by_day`` shows."""
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
    """A drawn figure that a notebook shows as a picture of the size it was drawn for; ``text`` replaces it in plain text.

    IPython shows only figures of pyplot, whose state is global.
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


def bars_by_day(rows: Pairs, *, day: date, title: str, unit: str, first: Optional[date] = None) -> Plot:
    """Draw a bar per business date of the four weeks before ``day``, with their median; ``day`` stands out.

    For a range of dates all of them stand out, and the four weeks are those before the first.

    Parameters
    ----------
    rows
        A DataFrame or a sequence whose rows are a date and a number.
    day
        The business date, or the last one of a range.
    title, unit
        The title of the figure, and the unit of its numbers, such as a currency.
    first
        The first date of a range.
    """
    first = first or day
    with mpl.rc_context(_STYLE):
        which = f"{day:%A}, {day.isoformat()}" if first == day else _format_span(first, day)
        figure, axes = _new_figure(title, f"{which} against the {_DAYS_SHOWN} days before")
        pairs = _read_pairs(rows)
        days: Any = [each.date() if isinstance(each, datetime) else each for each, _ in pairs]
        values = [float(value) for _, value in pairs]
        axes.bar(days, values, width=0.75, color=[_ACCENT_COLOR if each >= first else _MUTED_COLOR for each in days])
        before = [value for each, value in zip(days, values) if each < first]
        if before:
            median = statistics.median(before)
            axes.axhline(median, color=_TEXT_COLOR, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.annotate(
                f"median {median:,.0f}", (1.005, median), xycoords=axes.get_yaxis_transform(), va="center", fontsize=8.5
            )
        # The same four weeks on the page of every date, so that a date without a run leaves a gap.
        axes.set_xlim(date2num(first) - _DAYS_SHOWN - 0.6, date2num(day) + 0.6)
        locator = DayLocator(interval=4 * (1 + (day - first).days // _DAYS_SHOWN))
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=True))
        _format_axis(axes, "y", unit)
        return Plot(figure, f"{title} up to {day.isoformat()}")


def ranking(rows: Pairs, *, day: date, title: str, unit: str, accent: bool = False, first: Optional[date] = None) -> Plot:
    """Draw a horizontal bar per row, in their order from the top, with its value at its end.

    Parameters
    ----------
    rows
        A DataFrame or a sequence whose rows are a name and a number.
    day
        The business date, or the last one of a range.
    title, unit
        The title of the figure, and the unit of its numbers, such as ``rows``.
    accent
        Draw the bars in the colour of what needs attention.
    first
        The first date of a range.
    """
    pairs = _read_pairs(rows)
    with mpl.rc_context(_STYLE):
        shown = _format_span(first or day, day)
        figure, axes = _new_figure(title, shown, height=0.6 + 0.28 * max(len(pairs), 3))
        values = [float(value) for _, value in pairs][::-1]
        color = _ACCENT_COLOR if accent else _MUTED_COLOR
        axes.barh([_escape_dollars(name) for name, _ in pairs][::-1], values, height=0.7, color=color)
        for index, value in enumerate(values):
            axes.annotate(f"{value:,.0f}", (value, index), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5)
        axes.tick_params(axis="y", length=0)
        _format_axis(axes, "x", unit)
        if all(isinstance(value, int) for _, value in pairs):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return Plot(figure, f"{title} on {shown}")


def _format_span(first: date, last: date) -> str:
    return last.isoformat() if first == last else f"{first.isoformat()} to {last.isoformat()}"


def _read_pairs(rows: Pairs) -> list[tuple[Any, Any]]:
    """Return the two columns of a DataFrame or of a sequence of rows."""
    return [(row[0], row[1]) for row in (rows.itertuples(index=False) if hasattr(rows, "itertuples") else rows)]


def _new_figure(title: str, subtitle: str, *, height: float = 2.6) -> tuple[Figure, Axes]:
    # Not a figure of pyplot: it has no global state, and the notebook shows it once, as the cell's value.
    figure = Figure(figsize=(7.6, height + 0.6), dpi=144)
    axes = figure.add_subplot()
    axes.set_title(title, pad=20)
    axes.annotate(subtitle, (0, 1), (0, 6), "axes fraction", "offset points", va="bottom", fontsize=9, color="#6b757f")
    return figure, axes


def _fit_axes(figure: Figure) -> None:
    """Enlarge the axes to the space that their texts leave.

    A layout engine of matplotlib takes as long as drawing: it measures every text twice and draws once more.
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
        # Beside long names the bars get shorter, and the texts at their ends come closer to the edge: measure again.
        if right - left > inner.width - 1:
            break


def _escape_dollars(name: Any) -> str:
    """Escape a name from the data: matplotlib typesets text between two dollar signs as a formula."""
    return str(name).replace("$", r"\$")


def _format_axis(axes: Axes, which: Literal["x", "y"], unit: str) -> None:
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    (axes.set_ylabel if which == "y" else axes.set_xlabel)(unit)
    axes.grid(axis=which, color=_GRID_COLOR)
    axes.set_axisbelow(True)
