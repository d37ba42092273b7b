"""Plots of a report: a figure for a browser, bars of text, and the table of their data.

Every plot has both a figure and bars of text, since a report must be readable without a browser. A
figure is plain data in Plotly's format, drawn by the page's script.

Names come from records, so they are shortened and escaped. They label whole numbers on an axis:
names that look alike stay apart that way, and Plotly takes none for a date.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from lrpc.kernel.text import one_line
from lrpc.workloads.records.tables import Table

BAR: Final = 40  # characters of the longest bar
LABEL: Final = 36  # most characters of a name beside a bar or at an axis
HEIGHT: Final = 420  # pixels
LINE: Final = 22  # pixels of one row
# Okabe and Ito's colours, which the colour-blind tell apart.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#b8a800")

Figure = Mapping[str, object]  # in Plotly's format


@dataclass(frozen=True)
class Series:
    """One line, or one colour, of a plot."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Plot:
    """A plot, as a figure for a browser and as bars of text."""

    title: str
    figure: Figure
    bars: Sequence[tuple[str, float]]  # label and value of each bar of text
    table: Table | None = None  # its data, unless another table of the report has them
    text_title: str = ""  # title of the bars, if they show something else

    @property
    def text(self) -> list[str]:
        """Return the bars as lines of text."""
        most = max((value for _, value in self.bars if math.isfinite(value)), default=0.0)
        width = max((len(short(name)) for name, _ in self.bars), default=0)
        return [f"{short(name):{width}}  {number(value):>10}  {_bar(value, most)}" for name, value in self.bars]


def short(name: str) -> str:
    """Return a name on one line, of at most `LABEL` characters, with the middle left out."""
    return shortened(one_line(name), LABEL)


def shortened(name: str, most: int) -> str:
    """Return a name of at most `most` characters, with the middle left out."""
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[-end:]}"


def number(value: float) -> str:
    """Return a number as text, with as many digits as are useful to a reader."""
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value:,}"
    return f"{value:,.2f}" if abs(value) >= 1 or not value else f"{value:.3g}"


def stacked(
    title: str, names: Sequence[str], parts: Mapping[str, Sequence[float]], unit: str, text: Sequence[float]
) -> Plot:
    """Return a plot of horizontal bars, each divided into parts.

    `parts` has, for each part, one value per name. `text` has the values of the bars of text.
    """
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": escape(part),
            "x": list(values),
            "y": list(range(len(names))),
            "marker": {"color": COLOURS[at % len(COLOURS)]},
        }
        for at, (part, values) in enumerate(parts.items())
    ]
    layout = {"barmode": "stack", "xaxis": {"title": {"text": escape(unit)}}, "yaxis": _named(names, down=True)}
    return Plot(title, _figure(data, layout, 120 + LINE * len(names)), list(zip(names, text, strict=True)))


def columns(
    title: str, names: Sequence[str], values: Sequence[float], across: str, up: str, *, logarithmic: bool = False
) -> Plot:
    """Return a plot of vertical bars, one per name.

    `across` and `up` are the titles of its axes; the latter can be `logarithmic`.
    """
    bars = {"type": "bar", "x": list(range(len(names))), "y": list(values), "marker": {"color": COLOURS[0]}}
    layout: dict[str, dict[str, object]] = {
        "xaxis": _named(names) | {"title": {"text": escape(across)}},
        "yaxis": {"title": {"text": escape(up)}},
    }
    if logarithmic:
        layout["yaxis"]["type"] = "log"
    return Plot(title, _figure([bars], layout, HEIGHT), list(zip(names, values, strict=True)))


def grouped(
    title: str,
    names: Sequence[str],
    groups: Mapping[str, Sequence[float | None]],
    up: str,
    text: Sequence[tuple[str, float]],
) -> Plot:
    """Return a plot of vertical bars side by side, a group for each name.

    `groups` has one value for each name. Groups named "…, the paper's" have the colour of ours and
    are hatched.
    """
    systems = list(dict.fromkeys(name.rpartition(", ")[0] for name in groups))
    data = []
    for name, values in groups.items():
        system, _, whose = name.rpartition(", ")
        marker: dict[str, object] = {"color": COLOURS[systems.index(system) % len(COLOURS)]}
        if whose != "ours":
            marker["pattern"] = {"shape": "/"}
        data.append({"type": "bar", "name": escape(short(name)), "y": list(values), "marker": marker})
        data[-1]["x"] = list(range(len(names)))
    layout = {"barmode": "group", "xaxis": _named(names), "yaxis": {"title": {"text": escape(up)}}}
    return Plot(title, _figure(data, layout, HEIGHT), text)


def curves(
    title: str,
    series: Sequence[Series],
    axes: tuple[str, str],
    bars: Sequence[tuple[str, float]],
    table: Table,
    *,
    logarithmic: bool = False,
    steps: bool = False,
    dots: bool = False,
    text_title: str = "",
) -> Plot:
    """Return a plot of lines.

    `axes` are the titles of the horizontal and the vertical axis, `bars` the bars of text. With
    `steps` a line rises at each value; with `dots` the first series is drawn as points.
    """
    data = [
        {
            "type": "scatter",
            "mode": "markers" if dots and not at else "lines" if steps else "lines+markers",
            "line": {"shape": "hv" if steps else "linear", "color": COLOURS[at % len(COLOURS)]},
            "name": escape(short(one.name)),
            "x": list(one.x),
            "y": list(one.y),
        }
        for at, one in enumerate(series)
    ]
    across, up = axes
    layout = {
        "xaxis": {"title": {"text": escape(across)}, "type": "log" if logarithmic else "linear"},
        "yaxis": {"title": {"text": escape(up)}, "rangemode": "tozero"},
        "showlegend": True,
    }
    return Plot(title, _figure(data, layout, HEIGHT), bars, table, text_title)


def matrix(title: str, names: Sequence[str], rows: Sequence[Sequence[int]], bars: Sequence[tuple[str, float]]) -> Plot:
    """Return a matrix of calls as colours, callers as rows and those called as columns."""
    heat = {
        "type": "heatmap",
        "z": [[count or None for count in row] for row in rows],
        "colorscale": [[0, "#e8f0f8"], [1, "#123f6d"]],
        "hoverongaps": False,
        "colorbar": {"title": {"text": "calls"}},
    }
    if len(names) <= 15:
        heat["texttemplate"] = "%{z:,}"
    layout = {
        "xaxis": _named(names) | {"title": {"text": "called"}, "side": "bottom"},
        "yaxis": _named(names, down=True) | {"title": {"text": "caller"}},
    }
    return Plot(title, _figure([heat], layout, 220 + LINE * len(names)), bars)


def script() -> str:
    """Return Plotly's whole script, so that the page works offline."""
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text


def _figure(data: Sequence[Mapping[str, object]], layout: Mapping[str, object], height: int) -> Figure:
    fixed = {"height": height, "margin": {"t": 20, "r": 20}, "bargap": 0.25}
    clear = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "y": -0.25},
    }
    return {"data": list(data), "layout": {**fixed, **clear, **layout}}


def _named(names: Sequence[str], *, down: bool = False) -> dict[str, object]:
    """Return an axis that has names at whole numbers."""
    ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": [escape(short(n)) for n in names]}
    return {**ticks, "automargin": True, **({"autorange": "reversed"} if down else {})}


def _bar(value: float, most: float) -> str:
    return "█" * round(BAR * value / most) if most > 0 and math.isfinite(value) and value > 0 else ""
