"""Charts from a small specification: bars, stacked bars, lines, pies and scatters, with axes, units and legends."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from .canvas import GREY, INK, PAPER, RULE, Box, Canvas, arc, blend, measure, wrap

Spec = dict[str, Any]
Series = dict[str, list[float]]


def pick_step(top: float) -> float:
    """The step between grid lines: 1, 2, 2.5 or 5 times a power of ten, so that there are at most six.

    >>> pick_step(37.5), pick_step(1184)
    (10, 200)
    """
    power = 10 ** math.floor(math.log10(top / 5))
    return next(power * k for k in (1, 2, 2.5, 5, 10) if top / (power * k) <= 6)


def format_value(value: float, decimals: int | None = None) -> str:
    """A number as a chart prints it: thousands set apart, no needless decimals, a true minus sign.

    >>> format_value(4712), format_value(2.50), format_value(-62)
    ('4 712', '2.5', '−62')
    """
    if decimals is None:
        decimals = 0 if float(value).is_integer() else (1 if abs(value * 10 - round(value * 10)) < 1e-9 else 2)
    return f"{value:,.{decimals}f}".replace(",", " ").replace("-", "−")


def draw_chart(canvas: Canvas, box: Box, spec: Spec, palette: Sequence[str]) -> None:
    """Draw the chart that `spec` describes into the box: `kind`, `title`, `x`, `series`, `x_label`, `y_label` ...

    Raises ValueError on a kind that does not exist.
    """
    kinds: dict[str, Callable[[Canvas, Box, Spec, Sequence[str]], None]] = {
        "bar": draw_bars,
        "stacked": draw_bars,
        "hbar": draw_flat_bars,
        "line": draw_lines,
        "scatter": draw_scatter,
        "pie": draw_pie,
    }
    if spec["kind"] not in kinds:
        raise ValueError(f"no chart of kind {spec['kind']!r}: one of {', '.join(kinds)}")
    x0, y0, x1, y1 = box
    if "title" in spec:
        size = spec.get("text_size", 8) * 1.19
        y0 = canvas.lines((x0, y0 + size), wrap(spec["title"], "hebo", size, x1 - x0), size, "hebo", INK) - size + 4
    kinds[spec["kind"]](canvas, (x0, y0, x1, y1), spec, palette)


def draw_legend(canvas: Canvas, box: Box, names: Sequence[str], palette: Sequence[str], size: float = 8) -> float:
    """One row of coloured keys (more where they do not fit) at the top of the box; returns the height it took."""
    x, y = box[0], box[1] + size
    for name, colour in zip(names, palette, strict=False):
        width = 14 + measure(name, "helv", size) + 14
        if x + width > box[2] + 12 and x > box[0]:
            x, y = box[0], y + size * 1.6
        canvas.rect((x, y - size + 1.5, x + 9, y + 0.5), fill=colour)
        canvas.text((x + 14, y), name, size, "helv", INK)
        x += width
    return y - box[1] + 8


def draw_value_axis(canvas: Canvas, box: Box, spec: Spec, values: Sequence[float]) -> Callable[[float], float]:
    """Grid lines, their numbers and the axis name; returns the map from a value to its height on the page."""
    x0, y0, x1, y1 = box
    size = spec.get("text_size", 8)
    low, high, step = find_span(values, spec)

    def place(value: float) -> float:
        """Height of a value on the page."""
        return y1 - (value - low) / (high - low) * (y1 - y0)

    value = low
    while value <= high + step * 1e-6:
        y = place(value)
        canvas.line([(x0, y), (x1, y)], RULE if value != 0 else GREY, 0.5)
        canvas.text((x0 - 5, y + size * 0.35), format_value(round(value, 6)), size, "helv", GREY, "right")
        value += step
    if "y_label" in spec:
        canvas.text((x0 - spec.get("gutter", 34), (y0 + y1) / 2), spec["y_label"], size, "helv", GREY, "center", 90)
    return place


def find_span(values: Sequence[float], spec: Spec) -> tuple[float, float, float]:
    """The lowest and highest number of the value axis, rounded outwards to whole steps, and the step."""
    low, high = spec.get("y_min", min(0, *values)), spec.get("y_max", max(values))
    step = pick_step(high - low)
    return math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step, step


def draw_limit(canvas: Canvas, plot: Box, place: Callable[[float], float], limit: dict[str, Any]) -> None:
    """A dashed line across the plot, named at the right end of the legend."""
    y = place(limit["value"])
    canvas.line([(plot[0], y), (plot[2], y)], "#b3261e", 1, "[4 3] 0")
    wide = canvas.text((plot[2], plot[1] - 14), limit["name"], 8, "helv", "#b3261e", "right")
    canvas.line([(plot[2] - wide - 24, plot[1] - 17), (plot[2] - wide - 5, plot[1] - 17)], "#b3261e", 1, "[4 3] 0")


def make_plot_box(canvas: Canvas, box: Box, spec: Spec, names: Sequence[str], palette: Sequence[str]) -> Box:
    """The box that is left for the plot once the legend and the axis texts have their room."""
    x0, y0, x1, y1 = box
    if len(names) > 1 or "limit" in spec:
        shown = names if len(names) > 1 else []
        y0 += draw_legend(canvas, box, shown, palette, spec.get("text_size", 8))
    left = spec.get("gutter", 34) + 10 if "y_label" in spec else 34
    return x0 + left, y0 + 6, x1 - 4, y1 - (34 if "x_label" in spec else 22)


def draw_x_names(canvas: Canvas, box: Box, spec: Spec, centers: Sequence[float], room: float) -> None:
    """The names under the value axis, wrapped to their room, and the axis name."""
    size = spec.get("text_size", 8)
    for name, x in zip(spec["x"], centers, strict=True):
        canvas.lines((x, box[3] + size + 3), wrap(str(name), "helv", size, room), size, "helv", INK, "center", 1.15)
    if "x_label" in spec:
        canvas.text(((box[0] + box[2]) / 2, box[3] + 30), spec["x_label"], size, "helv", GREY, "center")


def draw_bars(canvas: Canvas, box: Box, spec: Spec, palette: Sequence[str]) -> None:
    """Upright bars, side by side or stacked."""
    series: Series = spec["series"]
    stacked = spec["kind"] == "stacked"
    plot = make_plot_box(canvas, box, spec, list(series), palette)
    rows = list(zip(*series.values(), strict=True))
    tops = [sum(row) for row in rows] if stacked else [v for row in rows for v in row]
    place = draw_value_axis(canvas, plot, spec, [*tops, 0])
    pitch = (plot[2] - plot[0]) / len(rows)
    for index, row in enumerate(rows):
        left, foot = plot[0] + pitch * (index + 0.16), 0.0
        width = pitch * 0.68 / (1 if stacked else len(row))
        for place_in_row, value in enumerate(row):
            x = left + (0 if stacked else place_in_row * width)
            bottom = foot if stacked else 0
            edges = sorted((place(bottom), place(bottom + value)))
            canvas.rect((x, edges[0], x + width * (1 if stacked else 0.94), edges[1]), fill=palette[place_in_row])
            foot += value
            if spec.get("labels") and not stacked:
                canvas.text(
                    (x + width / 2, edges[0] - 3),
                    format_value(value),
                    spec.get("text_size", 8) * 0.94,
                    "helv",
                    INK,
                    "center",
                )
        if spec.get("labels") and stacked:
            canvas.text((left + width / 2, place(foot) - 3), format_value(foot), 7.5, "hebo", INK, "center")
    if "limit" in spec:
        draw_limit(canvas, plot, place, spec["limit"])
    draw_x_names(canvas, plot, spec, [plot[0] + pitch * (i + 0.5) for i in range(len(rows))], pitch * 0.96)


def draw_flat_bars(canvas: Canvas, box: Box, spec: Spec, palette: Sequence[str]) -> None:
    """Lying bars with their names at the left and their values at the end."""
    series: Series = spec["series"]
    (values,) = series.values()
    x0, y0, x1, y1 = box
    left = x0 + max(measure(str(name), "helv", 8.5) for name in spec["x"]) + 8
    pitch = (y1 - y0 - 14) / len(values)
    scale = (x1 - left - 60) / max(values)
    for index, (name, value) in enumerate(zip(spec["x"], values, strict=True)):
        y = y0 + pitch * index
        strong = name in spec.get("strong", [])
        canvas.rect((left, y + pitch * 0.18, left + value * scale, y + pitch * 0.82), fill=palette[1 if strong else 0])
        canvas.text((left - 6, y + pitch * 0.5 + 3), str(name), 8.5, "helv", INK, "right")
        canvas.text((left + value * scale + 5, y + pitch * 0.5 + 3), format_value(value), 8.5, "hebo", INK)
    canvas.line([(left, y0), (left, y1 - 14)], GREY, 0.8)
    if "x_label" in spec:
        canvas.text((left, y1), spec["x_label"], 8, "helv", GREY)


def draw_lines(canvas: Canvas, box: Box, spec: Spec, palette: Sequence[str]) -> None:
    """Lines over evenly spaced names, with marks; a `limit` is a dashed line with its own label."""
    series: Series = spec["series"]
    plot = make_plot_box(canvas, box, spec, list(series), palette)
    limit = spec.get("limit")
    values = [v for row in series.values() for v in row] + ([limit["value"]] if limit else [])
    place = draw_value_axis(canvas, plot, spec, values)
    count = len(spec["x"])
    pitch = (plot[2] - plot[0]) / count
    centers = [plot[0] + pitch * (i + 0.5) for i in range(count)]
    for colour, row in zip(palette, series.values(), strict=False):
        points = [(x, place(value)) for x, value in zip(centers, row, strict=True)]
        canvas.line(points, colour, 1.8)
        for index, point in enumerate(points):
            if spec.get("marks", True):
                canvas.circle(point, 2.6, fill=PAPER, colour=colour, width=1.3)
            if spec.get("labels"):
                canvas.text((point[0], point[1] - 6), format_value(row[index]), 7.5, "helv", INK, "center")
    if limit:
        draw_limit(canvas, plot, place, limit)
    every = spec.get("every", 1)
    draw_x_names(canvas, plot, {**spec, "x": spec["x"][::every]}, centers[::every], pitch * every * 0.98)


def draw_scatter(canvas: Canvas, box: Box, spec: Spec, palette: Sequence[str]) -> None:
    """Clouds of points, each series a list of [x, y] pairs; `fit = [slope, offset]` adds a straight line."""
    plot = make_plot_box(canvas, box, spec, list(spec["series"]), palette)
    pairs = [pair for row in spec["series"].values() for pair in row]
    place = draw_value_axis(canvas, plot, spec, [y for _, y in pairs])
    right = spec["x_max"]
    step = pick_step(right)

    def across(value: float) -> float:
        """Distance of a value from the left edge of the page."""
        return plot[0] + value / right * (plot[2] - plot[0])

    ticks = [step * i for i in range(int(right / step + 1e-9) + 1)]
    for tick in ticks:
        canvas.line([(across(tick), plot[3]), (across(tick), plot[3] + 3)], GREY, 0.6)
    draw_x_names(canvas, plot, {**spec, "x": [format_value(t) for t in ticks]}, [across(t) for t in ticks], 40)
    for colour, row in zip(palette, spec["series"].values(), strict=False):
        for x, y in row:
            canvas.circle((across(x), place(y)), 2.8, fill=blend(colour, PAPER, 0.25), colour=colour, width=0.6)
    if "fit" in spec:
        slope, offset = spec["fit"]
        canvas.line([(across(0), place(offset)), (across(right), place(offset + slope * right))], INK, 1, "[5 3] 0")


def draw_pie(canvas: Canvas, box: Box, spec: Spec, palette: Sequence[str]) -> None:
    """A ring with its shares beside it; `hole = 0` makes it a full pie, `middle` stands in the hole."""
    x0, y0, x1, y1 = box
    radius = min((y1 - y0) / 2 - 4, (x1 - x0) / 4)
    center = (x0 + radius + 12, (y0 + y1) / 2)
    values, start = spec["values"], 0.0
    hole = spec.get("hole", 0.55)
    for colour, value in zip(palette, values, strict=False):
        sweep = 360 * value / sum(values)
        inner = arc(center, radius * hole, start + sweep, -sweep) if hole else [center]
        canvas.area([*arc(center, radius, start, sweep), *inner], colour, PAPER, 1.2)
        start += sweep
    if "middle" in spec and hole:
        lines = spec["middle"].split("\n")
        canvas.lines(
            (center[0], center[1] - 5 * len(lines) + 9), lines, spec.get("text_size", 8) * 1.25, "hebo", INK, "center"
        )
    size = spec.get("text_size", 8) * 1.12
    x, pitch = center[0] + radius + 24, min(size * 2.2, (y1 - y0) / len(values))
    y = center[1] - pitch * len(values) / 2 + pitch * 0.65
    for name, value, colour in zip(spec["x"], values, palette, strict=False):
        canvas.rect((x, y - size * 0.9, x + size, y + 1), fill=colour)
        canvas.text((x + size + 6, y), str(name), size, "helv", INK)
        if spec.get("labels", True):
            shown = format_value(value) + spec.get("unit", " %")
            canvas.text((min(x1, x + size * 21), y), shown, size, "hebo", INK, "right")
        y += pitch
