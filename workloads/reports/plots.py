"""Plots of a report: a figure for a browser, its legend, bars of text, and the table of their data.

Every plot has both a figure and bars of text, since a report must be readable without a browser. A
figure is plain data in Plotly's format, drawn by the page's script. Its legend is text of the page,
which wraps on any screen.

What the paper printed is drawn as points that no line joins, or hatched; what lies beyond it, or
was predicted, is dashed.

Names come from records, so they are shortened and escaped. They label whole numbers on an axis:
names that look alike stay apart that way, and Plotly takes none for a date.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape as escape_html
from typing import Final, Literal

from lrpc.kernel.text import one_line
from lrpc.workloads.records.tables import Table
from lrpc.workloads.reports.words import PAIR, brief, number, short

BAR: Final = 40  # characters of the longest bar
HEIGHT: Final = 340  # pixels
LINE: Final = 26  # pixels of one row
MOST_MARKS: Final = 16  # of an axis of whole numbers, such as processors
NUMBERED: Final = 15  # a matrix with more rows has no numbers in its cells
# Six of Okabe and Ito's colours, and two more: the colour-blind tell all apart.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#665566", "#992233")
PREDICTED: Final = ", predicted"
PAPERS: Final = ", the paper's"
OURS: Final = ", ours"
PAPERS_POINT: Final = {"symbol": "diamond-open", "size": 12, "line": {"width": 2}}  # around ours

# Plotly reads no &quot;.
escape: Final = partial(escape_html, quote=False)
Figure = Mapping[str, object]  # in Plotly's format
Form = Literal["area", "hatched", "line", "dashed", "points"]


@dataclass(frozen=True)
class Series:
    """One line, or the points, of one colour of a plot.

    `low` and `high`, where given, bound each value. Series with the same `colour`, a place among
    the plot's, belong together; by default it is the series' own place.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    form: Form = "line"
    colour: int | None = None
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Key:
    """An entry of a legend."""

    name: str
    colour: str
    form: Form = "area"


@dataclass(frozen=True)
class Plot:
    """A plot, as a figure for a browser and as bars of text.

    A bar whose value is None has `parts` alone.
    """

    title: str
    figure: Figure
    bars: Sequence[tuple[str, float | None]]  # label and value of each bar of text
    table: Table | None = None  # its data, unless another table of the report has them
    text_title: str = ""  # title of the bars, if they show something else
    legend: Sequence[Key] = ()
    parts: Mapping[str, Sequence[float | None]] = field(default_factory=dict)  # of the bars, in their order
    remarks: Sequence[str] = ()  # on the bars, in their order, where there is more to say

    @property
    def told(self) -> list[tuple[str, float | None, list[tuple[str, float]]]]:
        """Return what each bar says: its name as it is shown, its value, and its parts."""
        names = labels([name for name, _ in self.bars])
        known = brief(self.parts)
        parts = [(one_line(known.get(part, part)), values) for part, values in self.parts.items()]
        found = []
        for at, (name, (_, value)) in enumerate(zip(names, self.bars, strict=True)):
            own = [(part, of_part) for part, values in parts if (of_part := values[at]) is not None]
            found.append((name, value, own))
        return found

    @property
    def text(self) -> list[str]:
        """Return the bars as lines of text, each followed by its parts, or by what is remarked."""
        rows: list[tuple[str, float | None, str]] = []
        for at, (name, value, parts) in enumerate(self.told):
            remark = f"  {self.remarks[at]}" if self.remarks else ""
            rows += [(name, value, remark), *((f"  {part}", of_part, "") for part, of_part in parts)]
        most = max((value for _, value, _ in rows if value is not None and math.isfinite(value)), default=0.0)
        width = max((len(name) for name, _, _ in rows), default=0)
        return [
            name + remark if value is None else f"{name:{width}}  {number(value):>10}  {_bar(value, most)}{remark}"
            for name, value, remark in rows
        ]


def labels(names: Sequence[str]) -> list[str]:
    """Return names as they stand beside bars: short, and without hashes that tell nothing."""
    known = brief(names)
    return [short(known.get(name, name)) for name in names]


def stacked(
    title: str,
    names: Sequence[str],
    parts: Mapping[str, Sequence[float]],
    unit: str,
    whole: Sequence[float] | None,
) -> Plot:
    """Return a plot of horizontal bars, each divided into parts, or of several beside each other.

    `parts` has, for each part, one value per name. `whole` has what the parts of each name come to;
    without it they stand beside each other.
    """
    keys = [Key(part, _colour(at)) for at, part in enumerate(parts)]
    data = [
        _across(values) | {"name": escape(key.name), "marker": {"color": key.colour}}
        for key, values in zip(keys, parts.values(), strict=True)
    ]
    mode = "group" if whole is None else "relative"
    layout = {"barmode": mode, "xaxis": _titled(unit), "yaxis": _named(names, down=True)}
    legend = keys if len(keys) > 1 else ()
    figure = _figure(data, layout, _tall(names))
    if whole is None:
        return Plot(title, figure, [(name, None) for name in names], legend=legend, parts=parts)
    seen = {part: [value or None for value in values] for part, values in parts.items()}
    return Plot(title, figure, list(zip(names, whole, strict=True)), legend=legend, parts=seen)


def rows(
    title: str,
    names: Sequence[str],
    values: Sequence[float],
    unit: str,
    table: Table | None = None,
    *,
    logarithmic: bool = False,
) -> Plot:
    """Return a plot of horizontal bars, one per name, each with its value at its end."""
    bars = _across(values) | {
        "marker": {"color": COLOURS[0]},
        "text": [number(value) for value in values],
        "textposition": "auto",
        "hoverinfo": "text+y",
    }
    across = _titled(unit) | (_powers(values) if logarithmic else {})
    layout = {"xaxis": across, "yaxis": _named(names, down=True)}
    return Plot(title, _figure([bars], layout, _tall(names)), list(zip(names, values, strict=True)), table)


def waterfall(
    title: str,
    names: Sequence[str],
    kinds: Sequence[str],
    begins: Sequence[float],
    takes: Sequence[float],
    unit: str,
    order: Sequence[str],
) -> Plot:
    """Return a plot of horizontal bars that begin at a time each, coloured by kind.

    `order` has all kinds that there may be: alike plots give each the same colour.
    """
    keys = [Key(kind, _colour(at)) for at, kind in enumerate(order) if kind in kinds]
    data = []
    for key in keys:
        at = [row for row, kind in enumerate(kinds) if kind == key.name]
        own = [takes[row] for row in at]
        data.append(
            _across(own)
            | {
                "y": at,
                "base": [begins[row] for row in at],
                "name": escape(key.name),
                "marker": {"color": key.colour},
            }
            | {"width": 0.7}  # of one row: it would be that of the rows between those of a kind
            | {"customdata": own, "hovertemplate": "%{y}: %{customdata:.4g} from %{base:.4g}"}
        )
    layout = {"barmode": "overlay", "xaxis": _titled(unit), "yaxis": _named(names, down=True)}
    bars = list(zip(names, takes, strict=True))
    remarks = [f"from {number(begin)}, {kind}" for begin, kind in zip(begins, kinds, strict=True)]
    return Plot(title, _figure(data, layout, _tall(names)), bars, legend=keys, remarks=remarks)


def columns(title: str, names: Sequence[str], values: Sequence[float], across: str, up: str) -> Plot:
    """Return a plot of vertical bars, one per name; `across` and `up` title its axes."""
    bars = {"type": "bar", "x": list(range(len(names))), "y": list(values), "marker": {"color": COLOURS[0]}}
    layout = {"xaxis": _named(names) | _titled(across), "yaxis": _titled(up)}
    return Plot(title, _figure([bars], layout, HEIGHT), list(zip(names, values, strict=True)))


def tornado(title: str, names: Sequence[str], ranges: Sequence[tuple[float, float]], middle: float, unit: str) -> Plot:
    """Return a plot of how far each name moves a value from `middle`, to either side.

    `ranges` has, for each name, the value with the least and with the greatest of what was changed.
    """
    data = []
    keys = [Key("with the least value", COLOURS[0]), Key("with the greatest value", COLOURS[1])]
    for at, key in enumerate(keys):
        to = [both[at] for both in ranges]
        data.append(
            _across([value - middle for value in to])
            | {"base": middle, "name": escape(key.name), "marker": {"color": key.colour}}
            | {"customdata": to, "hovertemplate": "%{y}: %{customdata:.4g}"}
        )
    axis = _titled(unit) | {"zeroline": False}
    layout = {"barmode": "overlay", "xaxis": axis, "yaxis": _named(names, down=True)}
    parts: dict[str, Sequence[float]] = {key.name: [both[at] for both in ranges] for at, key in enumerate(keys)}
    parts["how far apart these are"] = [abs(most - least) for least, most in ranges]
    bars = [(name, None) for name in names]
    return Plot(title, _figure(data, layout, _tall(names)), bars, legend=keys, parts=parts)


def grouped(title: str, names: Sequence[str], groups: Mapping[str, Sequence[float | None]], up: str) -> Plot:
    """Return a plot of vertical bars side by side, a group for each name.

    `groups` has one value for each name. Groups whose names end in `PAPERS` or `PREDICTED` have the
    colour of the group before, and are hatched.
    """
    keys: list[Key] = []
    for name in groups:
        hatched = bool(keys) and name.endswith((PAPERS, PREDICTED))
        shown = len({key.colour for key in keys})
        keys.append(Key(name, keys[-1].colour, "hatched") if hatched else Key(name, _colour(shown)))
    data: list[dict[str, object]] = []
    for key, values in zip(keys, groups.values(), strict=True):
        pattern = {"pattern": {"shape": "/"}} if key.form == "hatched" else {}
        marker = {"color": key.colour, **pattern}
        data.append({"type": "bar", "name": escape(short(key.name)), "y": list(values), "marker": marker})
        data[-1]["x"] = list(range(len(names)))
    layout = {"barmode": "group", "xaxis": _named(names), "yaxis": _titled(up)}
    legend = keys if len(keys) > 1 else ()
    return Plot(title, _figure(data, layout, HEIGHT), [(name, None) for name in names], legend=legend, parts=groups)


def curves(
    title: str,
    series: Sequence[Series],
    axes: tuple[str, str],
    bars: Sequence[tuple[str, float]],
    table: Table,
    *,
    logarithmic: bool = False,
    steps: bool = False,
    from_zero: bool = True,
    text_title: str = "",
) -> Plot:
    """Return a plot of lines and points.

    `axes` are the titles of the horizontal and the vertical axis, `bars` the bars of text. With
    `steps` a line rises at each value.
    """
    keys = [Key(one.name, _colour(at if one.colour is None else one.colour), one.form) for at, one in enumerate(series)]
    data = [_curve(one, key, steps=steps) for one, key in zip(series, keys, strict=True)]
    across, up = axes
    layout = {
        "xaxis": _titled(across) | (_powers([x for one in series for x in one.x]) if logarithmic else _counted(series)),
        "yaxis": _titled(up) | ({"rangemode": "tozero"} if from_zero else {}),
    }
    shown = [key for at, key in enumerate(keys) if key.name not in {one.name for one in keys[:at]}]
    return Plot(title, _figure(data, layout, HEIGHT), bars, table, text_title, legend=shown if len(shown) > 1 else ())


def matrix(
    title: str,
    names: tuple[Sequence[str], Sequence[str]],
    counts: Sequence[Sequence[int]],
    bars: Sequence[tuple[str, float]],
    table: Table,
) -> Plot:
    """Return a matrix of calls as colours, callers as rows and those called as columns.

    `names` are those of the rows and of the columns.
    """
    callers, called = names
    heat: dict[str, object] = {
        "type": "heatmap",
        "z": [[count or None for count in row] for row in counts],
        "colorscale": "Cividis",
        "hoverongaps": False,
        "colorbar": {"title": {"text": "calls"}, "thickness": 12},
        "xgap": 1,
        "ygap": 1,
    }
    if max(len(callers), len(called)) <= NUMBERED:  # the page's script takes them away where there is no room
        heat["texttemplate"] = "%{z:,}"
    layout = {
        "xaxis": _named(called) | _titled("called") | {"side": "bottom"},
        "yaxis": _named(callers, down=True) | _titled("caller"),
    }
    return Plot(title, _figure([heat], layout, 220 + LINE * len(callers)), bars, table)


def script() -> str:
    """Return Plotly's whole script, so that the page works offline."""
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text


def _curve(one: Series, key: Key, *, steps: bool) -> dict[str, object]:
    line = {"shape": "hv" if steps else "linear", "color": key.colour}
    if one.form == "dashed":
        line["dash"] = "dash"
    drawn: dict[str, object] = {
        "type": "scatter",
        "mode": "markers" if one.form == "points" else "lines" if steps else "lines+markers",
        "line": line,
        "marker": {"color": key.colour} | (PAPERS_POINT if one.name.endswith(PAPERS) else {"size": 6}),
        "name": escape(short(one.name)),
        "x": list(one.x),
        "y": list(one.y),
    }
    if one.low:
        below = [y - low for y, low in zip(one.y, one.low, strict=True)]
        above = [high - y for y, high in zip(one.y, one.high, strict=True)]
        drawn["error_y"] = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
    return drawn


def _across(values: Sequence[float]) -> dict[str, object]:
    return {"type": "bar", "orientation": "h", "x": list(values), "y": list(range(len(values)))}


def _figure(data: Sequence[Mapping[str, object]], layout: Mapping[str, object], height: int) -> Figure:
    fixed = {"height": height, "margin": {"t": 10, "r": 10, "b": 50, "l": 60}, "bargap": 0.3}
    clear = {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "showlegend": False, "dragmode": False}
    return {"data": list(data), "layout": {**fixed, **clear, **layout}}


def _tall(names: Sequence[str]) -> int:
    lines = 1.4 if any(PAIR in name for name in names) else 1.0  # a pair stands on two
    return 65 + round(LINE * lines * max(2, len(names)))


def _titled(text: str) -> dict[str, object]:
    return {"title": {"text": escape(text), "standoff": 8}, "automargin": True}


def _named(names: Sequence[str], *, down: bool = False) -> dict[str, object]:
    """Return an axis that has names at whole numbers."""
    ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": list(map(escape, labels(names)))}
    return {
        **ticks,
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
        **({"autorange": "reversed"} if down else {}),
    }


def _counted(series: Sequence[Series]) -> dict[str, object]:
    """Return an axis that is marked at its values, if these are few whole numbers."""
    values = sorted({x for one in series for x in one.x})
    few = len(values) <= MOST_MARKS and all(float(x).is_integer() for x in values)
    return {"tickmode": "array", "tickvals": values} if few else {}


def _powers(values: Sequence[float]) -> dict[str, object]:
    """Return a logarithmic axis marked at powers of ten; a short one also at 2, 5, 20 and so on."""
    known = [value for value in values if math.isfinite(value) and value > 0]
    least, most = min(known, default=1.0), max(known, default=1.0)
    bases = (1, 2, 5) if most / least < 1000 else (1,)
    marks = [base * 10.0**power for power in range(-3, 13) for base in bases]
    kept = [mark for mark in marks if least / 2 <= mark <= 2 * most]
    shown = [f"{mark:,.0f}" if mark >= 1 else f"{mark:g}" for mark in kept]
    return {"type": "log", "tickmode": "array", "tickvals": kept, "ticktext": shown}


def _colour(at: int) -> str:
    return COLOURS[at % len(COLOURS)]


def _bar(value: float, most: float) -> str:
    return "█" * round(BAR * value / most) if most > 0 and math.isfinite(value) and value > 0 else ""
