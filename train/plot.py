"""Draws the loss curves of several runs, from the log that each keeps, into one picture."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from moca_rag.errors import ConfigError
from moca_rag.records import Floats

FIGURES = ("loss", "mlm_loss", "mae_loss")
HELD_OUT = "held_out_"
# Colours that colour-blind readers tell apart (Okabe and Ito), without the yellow, which is too pale for a line.
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0), (60, 60, 60))
FAINT = 0.22  # of the raw figures' ink
INK, GRID = (60, 60, 60), (228, 228, 228)
WIDTH, PANEL_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1200, 400, 90, 30, 48, 52
FONT_SIZE, LEGEND_LINE, DOT = 19, 34, 5
SHARP = 2  # drawn so many times as large, then shrunk: smooth lines
SMOOTH = 50  # a smoothed point is the mean of this part of a run


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One figure of one run: its values at steps, and at fewer steps its values on held-out rows."""

    steps: Floats
    values: Floats
    held_out_steps: Floats
    held_out: Floats


@dataclass(frozen=True, slots=True)
class RunLine:
    """How far a run is: its last step, its loss smoothed, and the last one on held-out rows."""

    run: str
    step: int
    loss: float
    held_out_loss: float | None


@dataclass(frozen=True, slots=True)
class PlotReport:
    """The picture, and a line for each of its runs."""

    out: Path
    runs: tuple[RunLine, ...]


def plot_runs(runs: Sequence[Path], out: Path) -> PlotReport:
    """Write the curves of these run folders as a PNG. Raises ConfigError where there is nothing to draw."""
    names = list(dict.fromkeys(runs))
    if len(names) > len(COLOURS):
        raise ConfigError(f"{len(names)} runs cannot be told apart in one picture: name {len(COLOURS)} or fewer")
    logs = [read_log(run) for run in names]
    curves = {name: [read_curve(log, name) for log in logs] for name in FIGURES}
    drawn = {name: found for name, found in curves.items() if any(len(curve.steps) for curve in found)}
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_curves(drawn, [str(run) for run in names]).save(out, "PNG")
    lines = [
        RunLine(
            run=str(run),
            step=int(curve.steps[-1]),
            loss=float(smooth(curve.values)[-1]),
            held_out_loss=float(curve.held_out[-1]) if len(curve.held_out) else None,
        )
        for run, curve in zip(names, drawn["loss"], strict=True)
    ]
    return PlotReport(out, tuple(lines))


def read_log(run: Path) -> list[dict[str, Any]]:
    """The figures of a run's steps; a last line that is still being written is left out."""
    path = run / "log.jsonl"
    if not path.is_file():
        raise ConfigError(f"{run} is no run: it has no log.jsonl; name a folder that `moca train` was given as out=")
    figures = []
    for number, line in enumerate(lines := path.read_text(encoding="utf-8").splitlines()):
        try:
            figures.append(dict(json.loads(line)))
        except (ValueError, TypeError) as error:
            if number + 1 < len(lines):
                raise ConfigError(f"{path} is damaged in line {number + 1}: take the line out") from error
    if not any(math.isfinite(step.get("loss", math.nan)) for step in figures):
        raise ConfigError(f"{path} holds no loss yet: wait for the run's first step")
    return figures


def read_curve(log: Sequence[dict[str, Any]], name: str) -> Curve:
    """One figure out of a log; what is not finite is no point of a curve."""

    def points(key: str) -> Floats:
        found = [(step["step"], step[key]) for step in log if math.isfinite(step.get(key, math.nan))]
        return np.array(found, np.float32).reshape(-1, 2).T

    steps, values = points(name)
    held_out_steps, held_out = points(HELD_OUT + name)
    return Curve(steps, values, held_out_steps, held_out)


def smooth(values: Floats) -> Floats:
    """Each value's mean with its neighbours, a fiftieth of the curve's length in all; fewer at the ends.

    >>> smooth(np.array([1, 2, 6], np.float32)).tolist()
    [1.0, 2.0, 6.0]
    """
    reach = len(values) // (2 * SMOOTH)
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    places = np.arange(len(values))
    starts, ends = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    means: Floats = ((sums[ends] - sums[starts]) / (ends - starts)).astype(np.float32)
    return means


def find_ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers within a range, at 1, 2 or 5 times a power of ten apart, so many at most.

    >>> find_ticks(0.0, 10.0, 6)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    gap = next(power * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (power * factor) <= most - 1 + 1e-9)
    return [number * gap for number in range(math.ceil(low / gap - 1e-9), math.floor(high / gap + 1e-9) + 1)]


def draw_curves(panels: dict[str, list[Curve]], names: Sequence[str]) -> Image.Image:
    """A panel for each figure, one under another, and on top whose colour is whose."""
    font = ImageFont.load_default(FONT_SIZE * SHARP)
    places, num_lines = _place_names(names, font)
    legend = num_lines * LEGEND_LINE + TOP // 2
    size = WIDTH * SHARP, (legend + PANEL_HEIGHT * len(panels)) * SHARP
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    for name, colour, (x, line) in zip(names, COLOURS, places, strict=False):
        y = (TOP // 2 + line * LEGEND_LINE + LEGEND_LINE // 2) * SHARP
        pen.line((x, y, x + 28 * SHARP, y), colour, 4 * SHARP)
        pen.text((x + 38 * SHARP, y), name, INK, font, anchor="lm")
    for row, (name, curves) in enumerate(panels.items()):
        panel = Panel(curves, legend + row * PANEL_HEIGHT)
        panel.draw(picture, name.replace("_", " "), curves, font)
    return picture.resize((size[0] // SHARP, size[1] // SHARP), Image.Resampling.LANCZOS)


def _place_names(names: Sequence[str], font: Any) -> tuple[list[tuple[float, int]], int]:
    """Where each name of the legend begins, and in which line; and how many lines that makes."""
    places: list[tuple[float, int]] = []
    x, line = float(LEFT * SHARP), 0
    for name in names:
        width = font.getlength(name) + 70 * SHARP
        if x + width > (WIDTH - RIGHT) * SHARP and x > LEFT * SHARP:
            x, line = float(LEFT * SHARP), line + 1
        places.append((x, line))
        x += width
    return places, line + 1


class Panel:
    """One pair of axes: which pixel a step and a value have."""

    def __init__(self, curves: Sequence[Curve], top: int) -> None:
        """The axes hold every smoothed line and every dot; raw figures may leave them."""
        self._frame = LEFT * SHARP, (top + TOP) * SHARP, (WIDTH - RIGHT) * SHARP, (top + PANEL_HEIGHT - BOTTOM) * SHARP
        values = np.concatenate([part for curve in curves for part in (smooth(curve.values), curve.held_out)])
        low, high = float(values.min()), float(values.max())
        margin = 0.06 * (high - low) or max(abs(high), 1.0) * 0.06
        self._low, self._high = low - margin, high + margin
        self._last = max(float(curve.steps[-1]) for curve in curves if len(curve.steps))
        self._first = min(float(curve.steps[0]) for curve in curves if len(curve.steps))

    def draw(self, picture: Image.Image, title: str, curves: Sequence[Curve], font: Any) -> None:
        """Axes, then of each curve the raw figures faintly, the smoothed line, and the held-out figures as dots."""
        pen = ImageDraw.Draw(picture)
        left, top, right, bottom = self._frame
        dots = " (dots: held out)" if any(len(curve.held_out) for curve in curves) else ""
        pen.text((left, top - 12 * SHARP), title + dots, INK, font, anchor="ls")
        for value in find_ticks(self._low, self._high, 7):
            y = self._place([self._first], [value])[0][1]
            pen.line((left, y, right, y), GRID, SHARP)
            pen.text((left - 10 * SHARP, y), f"{value:.6g}", INK, font, anchor="rm")
        for step in find_ticks(self._first, max(self._last, self._first + 1), 9):
            if step.is_integer():
                x = self._place([step], [self._low])[0][0]
                pen.line((x, bottom, x, bottom + 6 * SHARP), INK, SHARP)
                pen.text((x, bottom + 10 * SHARP), f"{step:,.0f}", INK, font, anchor="ma")
        inside = Image.new("L", picture.size, 0)
        ImageDraw.Draw(inside).rectangle(self._frame, fill=255)
        for curve, colour in zip(curves, COLOURS, strict=False):
            self._ink(picture, inside, colour, FAINT, self._place(curve.steps, curve.values), 2)
        for curve, colour in zip(curves, COLOURS, strict=False):
            self._ink(picture, inside, colour, 1.0, self._place(curve.steps, smooth(curve.values)), 3)
            for x, y in self._place(curve.held_out_steps, curve.held_out):
                pen.circle((x, y), DOT * SHARP, colour, "white", SHARP)
        pen.line((left, top, left, bottom, right, bottom), INK, SHARP)

    def _place(self, steps: Sequence[float] | Floats, values: Sequence[float] | Floats) -> list[tuple[float, float]]:
        left, top, right, bottom = self._frame
        x = left + (np.asarray(steps) - self._first) / max(self._last - self._first, 1) * (right - left)
        y = bottom - (np.asarray(values) - self._low) / (self._high - self._low) * (bottom - top)
        return list(zip(x.tolist(), y.tolist(), strict=True))

    def _ink(
        self,
        picture: Image.Image,
        inside: Image.Image,
        colour: tuple[int, int, int],
        strength: float,
        points: list[tuple[float, float]],
        width: int,
    ) -> None:
        """A line of this colour, and what of it lies within the axes: a run of one step is a dash."""
        mask = Image.new("L", picture.size, 0)
        pen = ImageDraw.Draw(mask)
        if len(points) == 1:
            (x, y), reach = points[0], 6 * SHARP
            points = [(x - reach, y), (x + reach, y)]
        if points:
            pen.line(points, round(255 * strength), width * SHARP, joint="curve")
        picture.paste(colour, mask=Image.composite(mask, Image.new("L", picture.size, 0), inside))
