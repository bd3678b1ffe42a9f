"""Charts of made-up figures, bars, lines and pies, with titles, axes, ticks and legends whose words are all known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from moca_rag.records import Floats

from .canvas import Canvas, Colour, Sides
from .faces import Face, draw_item
from .invention import Invention
from .strips import LabelPen, Strip, measure_words, round_size
from .styles import PageStyle, blend

ChartKind: TypeAlias = Literal["bars", "sideways", "lines", "pie"]
PALETTES: tuple[tuple[Colour, ...], ...] = (
    ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75)),
    ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233)),
    ((68, 114, 196), (237, 125, 49), (165, 165, 165), (255, 192, 0), (91, 155, 213), (112, 173, 71)),
    ((40, 40, 40), (120, 120, 120), (180, 180, 180), (80, 80, 80), (210, 210, 210), (150, 150, 150)),
)


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """Figures [series, categories] with their names, and the look of the chart."""

    kind: ChartKind
    title: str
    across: str
    """What the axis of the categories is called."""
    upward: str
    """What the axis of the figures is called."""
    categories: list[str]
    series: list[str]
    figures: Floats
    percent: bool
    face: Face
    size: float
    ink: Colour
    paper: Colour
    colours: tuple[Colour, ...]
    has_grid: bool
    has_values: bool

    def step(self) -> float:
        """Between ticks: 1, 2 or 5 times a power of ten, so that there are four to eight of them.

        Figures are never negative: the axis starts at nothing.
        """
        top = float(self.figures.max())
        power = 10.0 ** math.floor(math.log10(top / 4))
        return next(power * factor for factor in (1, 2, 5, 10) if top / (power * factor) <= 7)

    def write_figure(self, figure: float) -> str:
        """As its ticks and value labels show it."""
        digits = 0 if self.step() >= 1 else -math.floor(math.log10(self.step()))
        return f"{figure:,.{digits}f}{'%' if self.percent else ''}"


def set_chart(invention: Invention, style: PageStyle, face: Face, width: float, height: float) -> list[Strip]:
    """A chart of that size with labels from the invention's words; nothing where it has none, or too few."""
    rng = invention.rng
    kind: ChartKind = draw_item(rng, ("bars", "bars", "lines", "lines", "sideways", "pie"))
    categories = invention.series(int(rng.integers(3, 13 if kind == "lines" else 8)))
    num_series = 1 if kind in ("pie", "sideways") else int(rng.integers(1, 5))
    series = invention.labels(num_series)
    if len(categories) < 3 or not series:
        return []
    percent = rng.random() < 0.3
    palette = (style.accent, *draw_item(rng, PALETTES)) if rng.random() < 0.3 else draw_item(rng, PALETTES)
    chart = Chart(
        kind=kind,
        title=invention.label(6) if rng.random() < 0.7 else "",
        across=invention.label(2) if rng.random() < 0.5 else "",
        upward=invention.label(2) if rng.random() < 0.6 else "",
        categories=categories,
        series=series,
        figures=_draw_figures(
            rng,
            len(series),
            len(categories),
            float(rng.uniform(20, 100)) if percent else 10.0 ** float(rng.uniform(0.5, 5.5)),
        ),
        percent=percent,
        face=face,
        size=round_size(min(max(style.body.size * float(rng.uniform(0.72, 0.95)), 6.5), width / 22, height / 14)),
        ink=style.body.ink,
        paper=style.paper,
        colours=palette,
        has_grid=rng.random() < 0.6,
        has_values=rng.random() < 0.3,
    )
    return [Strip(height, partial(draw_chart, chart, width, height), gap=0.7 * style.body.leading, binds=True)]


def _draw_figures(rng: np.random.Generator, num_series: int, num_categories: int, scale: float) -> Floats:
    """Figures above nothing that wander from one category to the next; the largest is `scale`."""
    walks = np.cumsum(rng.normal(0, 0.25, (num_series, num_categories)), axis=1) + rng.normal(0, 0.3, (num_series, 1))
    figures = np.exp(walks - walks.max())
    return np.asarray(scale * figures.clip(0.02), np.float32)


def draw_chart(chart: Chart, width: float, height: float, canvas: Canvas, left: float, top: float) -> None:
    """Draw a chart from this corner on: its title, then its legend, axes and figures."""
    size = chart.size
    pen = LabelPen(canvas, chart.face, size, chart.ink)
    right, bottom = left + width, top + height
    if chart.title:
        pen.size, pen.face = round_size(1.15 * size), chart.face
        pen.write(chart.title, (left + width / 2, top + size), "centre", width)
        pen.size = size
        top += 1.9 * size
    if chart.kind == "pie":
        _draw_pie(chart, pen, (left, top, right, bottom))
        return
    if len(chart.series) > 1:
        top = _draw_legend(chart, pen, (left, top, right, bottom))
    _draw_axes(chart, pen, (left, top, right, bottom))


def _draw_legend(chart: Chart, pen: LabelPen, box: Sides) -> float:
    """The names of the series beside their colours, in a line; returns where the chart goes on."""
    left, top, right, _ = box
    x = left + 3 * chart.size
    for name, colour in zip(chart.series, chart.colours, strict=False):
        room = right - x - 2 * chart.size
        if room < 4 * chart.size:
            break
        pen.canvas.rectangle((x, top + 0.3 * chart.size, x + chart.size, top + chart.size), colour)
        x += 1.4 * chart.size
        x += pen.write(name, (x, top + chart.size), "left", room) + 1.5 * chart.size
    return top + 1.7 * chart.size


def _draw_axes(chart: Chart, pen: LabelPen, box: Sides) -> None:
    """Ticks, grid and names of both axes, and the bars or lines between them."""
    left, top, right, bottom = box
    size, canvas = chart.size, pen.canvas
    step = chart.step()
    ticks = np.arange(0, float(chart.figures.max()) + step, step).tolist()
    names = chart.categories if chart.kind == "sideways" else [chart.write_figure(tick) for tick in ticks]
    if chart.upward:
        left += 1.5 * size
    longest = max(measure_words(name, chart.face) for name in names) * size
    edge = left + min(longest + 0.8 * size, 0.35 * (right - left))
    floor = bottom - (3.2 if chart.across else 1.7) * size
    plot = (edge, top + 0.6 * size, right - 1.2 * size, floor)
    if chart.upward:
        pen.write(chart.upward, (left - 0.6 * size, (top + floor) / 2), "centre", floor - top, upward=True)
    if chart.kind == "sideways":
        _draw_sideways(chart, pen, plot, ticks)
    else:
        _draw_ticks(chart, pen, plot, ticks)
        _draw_categories(chart, pen, plot)
        (_draw_bars if chart.kind == "bars" else _draw_lines)(chart, pen, plot, float(ticks[-1]))
    faint = blend(chart.ink, chart.paper, 0.3)
    canvas.rule((plot[0], plot[3]), plot[2] - plot[0], faint)
    canvas.rule((plot[0], plot[1]), plot[1] - plot[3], faint)
    if chart.across:
        pen.write(chart.across, ((plot[0] + plot[2]) / 2, bottom - 0.5 * size), "centre", plot[2] - plot[0])


def _draw_ticks(chart: Chart, pen: LabelPen, plot: Sides, ticks: Sequence[float]) -> None:
    grid = blend(chart.paper, chart.ink, 0.15)
    for number, tick in enumerate(ticks):
        y = plot[3] - (plot[3] - plot[1]) * number / (len(ticks) - 1)
        if chart.has_grid and number:
            pen.canvas.rule((plot[0], y), plot[2] - plot[0], grid)
        pen.write(chart.write_figure(tick), (plot[0] - 0.5 * chart.size, y + 0.35 * chart.size), "right")


def _draw_categories(chart: Chart, pen: LabelPen, plot: Sides) -> None:
    """Every label, or as many as have room between their neighbours."""
    each = (plot[2] - plot[0]) / len(chart.categories)
    stride = max(1, math.ceil(3.2 * chart.size / each))
    for number in range(0, len(chart.categories), stride):
        x = plot[0] + each * (number + 0.5)
        pen.write(
            chart.categories[number], (x, plot[3] + 1.25 * chart.size), "centre", stride * each - 0.3 * chart.size
        )


def _draw_bars(chart: Chart, pen: LabelPen, plot: Sides, top: float) -> None:
    num_series, num_categories = chart.figures.shape
    each = (plot[2] - plot[0]) / num_categories
    thick = 0.7 * each / num_series
    for column in range(num_categories):
        for row in range(num_series):
            x = plot[0] + each * (column + 0.15) + thick * row
            y = plot[3] - (plot[3] - plot[1]) * float(chart.figures[row, column]) / top
            pen.canvas.rectangle((x, y, x + thick, plot[3]), chart.colours[row])
            if chart.has_values:
                label = chart.write_figure(float(chart.figures[row, column]))
                pen.write(label, (x + thick / 2, y - 0.3 * chart.size), "centre", thick * 1.3)


def _draw_lines(chart: Chart, pen: LabelPen, plot: Sides, top: float) -> None:
    each = (plot[2] - plot[0]) / len(chart.categories)
    for figures, colour in zip(chart.figures, chart.colours, strict=False):
        points = [
            (plot[0] + each * (column + 0.5), plot[3] - (plot[3] - plot[1]) * float(figure) / top)
            for column, figure in enumerate(figures)
        ]
        pen.canvas.stroke(points, colour, max(1.2, 0.13 * chart.size))
        if chart.has_values:
            half = 0.25 * chart.size
            for x, y in points:
                pen.canvas.rectangle((x - half, y - half, x + half, y + half), colour)


def _draw_sideways(chart: Chart, pen: LabelPen, plot: Sides, ticks: Sequence[float]) -> None:
    """Bars to the right, their names at the left, the ticks below."""
    left, top, right, bottom = plot
    grid = blend(chart.paper, chart.ink, 0.15)
    last = -math.inf
    for number, tick in enumerate(ticks):
        x = left + (right - left) * number / (len(ticks) - 1)
        if chart.has_grid and number:
            pen.canvas.rule((x, top), top - bottom, grid)
        if x > last:
            last = x + 1.3 * pen.write(chart.write_figure(tick), (x, bottom + 1.25 * chart.size), "centre")
    each = (bottom - top) / len(chart.categories)
    for number, name in enumerate(chart.categories):
        y, figure = top + each * (number + 0.5), float(chart.figures[0, number])
        reach = left + (right - left) * figure / float(ticks[-1])
        pen.write(name, (left - 0.5 * chart.size, y + 0.35 * chart.size), "right")
        pen.canvas.rectangle((left, y - 0.34 * each, reach, y + 0.34 * each), chart.colours[0])
        if chart.has_values:
            pen.write(chart.write_figure(figure), (reach + 0.4 * chart.size, y + 0.35 * chart.size))


def _draw_pie(chart: Chart, pen: LabelPen, box: Sides) -> None:
    """Slices from the top with the clock, their shares beside them, their names in a list at the right."""
    left, top, right, bottom = box
    size = chart.size
    radius = min(bottom - top - 3 * size, 0.5 * (right - left)) / 2
    if radius < 2 * size:
        return
    x, y = left + radius + 3.5 * size, (top + bottom) / 2
    shares = chart.figures[0, : len(chart.colours)]
    shares = shares / shares.sum()
    turn = -math.pi / 2
    for number, share in enumerate(shares):
        angles = np.linspace(turn, turn + 2 * math.pi * float(share), max(3, round(60 * float(share))))
        rim = [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
        pen.canvas.fill([(x, y), *rim], chart.colours[number])
        middle, turn = float(angles.mean()), float(angles[-1])
        spot = (
            x + (radius + 1.6 * size) * math.cos(middle),
            y + (radius + 0.9 * size) * math.sin(middle) + 0.35 * size,
        )
        pen.write(f"{100 * float(share):.0f}%", spot, "centre")
        line = y + (number - len(shares) / 2) * 1.6 * size + 1.2 * size
        edge = x + radius + 4.5 * size
        pen.canvas.rectangle((edge, line - 0.75 * size, edge + 0.8 * size, line + 0.05 * size), chart.colours[number])
        pen.write(chart.categories[number], (edge + 1.4 * size, line), "left", right - edge - 1.4 * size)
