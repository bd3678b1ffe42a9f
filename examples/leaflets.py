"""Leaflets: a ferry timetable on two landscape pages and a recipe card with a picture of the loaf."""

from collections.abc import Sequence
from typing import Any

import pymupdf

from .canvas import GREY, INK, PAPER, Canvas, Point, arc, blend, smooth, wrap
from .charts import draw_chart
from .documents import describe
from .layout import PALETTES, Flow, Look
from .markup import read_data
from .tables import draw_rows, measure_table

SEA = "#14466b"


def make_timetable() -> tuple[str, pymupdf.Document]:
    """The ferry leaflet: departures on one side, fares and a map of the route on the other."""
    data = read_data("ferry")
    doc = pymupdf.open()
    pen = open_leaflet(doc, data)
    palette = (SEA, *PALETTES["indigo"][1:])
    for row, (name, stops, times, top) in enumerate(
        (("Outward", data["stops"], data["outward"], 112), ("Return", data["stops"][::-1], data["back"], 300))
    ):
        pen.text((50, top), f"{name}: {stops[0]} → {stops[-1]}", 13, "hebo", SEA)
        head = ["", *(f"Trip {1 + 2 * index + row}" for index in range(len(times)))]
        rows = [[stop, *(trip[index] for trip in times)] for index, stop in enumerate(stops)]
        rows.append(["Note", *data["marks"]])
        table = measure_table([head, *rows], 742, 10, "zebra", palette)
        draw_rows(pen, (50, top + 10), table, range(len(table.rows)))
    pen.lines((50, 500), data["notes"], 9.5, "helv", INK)
    pen.finish()
    pen = open_leaflet(doc, data)
    pen.text((50, 112), "Fares in euros", 13, "hebo", SEA)
    table = measure_table(data["fares"], 340, 10.5, "zebra", palette)
    draw_rows(pen, (50, 124), table, range(len(table.rows)))
    y = 124 + sum(table.heights) + 34
    for tip in data["tips"]:
        pen.circle((56, y - 3), 3, fill=palette[1])
        y = pen.lines((68, y), wrap(tip, "helv", 10, 320), 10, "helv", INK) + 6
    draw_route(pen, data["stops"], palette)
    pen.finish()
    describe(doc, data["title"], data["company"], data["date"])
    return data["path"], doc


def open_leaflet(doc: pymupdf.Document, data: dict[str, Any]) -> Canvas:
    """A landscape page with a blue head and a small ship."""
    pen = Canvas(doc.new_page(width=842, height=595))
    pen.rect((0, 0, 842, 80), fill=SEA)
    pen.text((50, 40), data["title"], 20, "hebo", PAPER)
    pen.text((50, 62), f"{data['company']} – {data['season']}", 11, "helv", PAPER)
    pen.area([(700, 46), (794, 46), (780, 66), (714, 66)], PAPER)
    pen.rect((722, 32, 770, 46), fill=blend(SEA, PAPER, 0.7))
    pen.rect((752, 20, 762, 32), fill="#e4572e")
    return pen


def draw_route(pen: Canvas, stops: Sequence[str], palette: Sequence[str]) -> None:
    """The sound with mainland, island and the four piers; the dashed line is the way in fog."""
    pen.rect((430, 104, 792, 540), fill="#d5e8f2", colour=GREY)
    coast = [(430, 104), (540, 104), (520, 180), (548, 240), (506, 320), (520, 420), (480, 540), (430, 540)]
    pen.area([coast[0], *smooth(coast[1:-1]), coast[-1]], "#e3e8cf", GREY)
    pen.area(
        smooth([(600, 250), (650, 236), (676, 290), (660, 370), (622, 392), (596, 340), (600, 250)]), "#e3e8cf", GREY
    )
    pen.area([(792, 400), *smooth([(770, 404), (738, 450), (752, 500), (730, 540)]), (792, 540)], "#e3e8cf", GREY)
    piers: list[Point] = [(534, 206), (632, 240), (640, 388), (742, 462)]
    pen.line(smooth([piers[0], (580, 206), piers[1]]), SEA, 2.4)
    pen.line(smooth([piers[1], (694, 270), (690, 360), piers[2]]), SEA, 2.4)
    pen.line(smooth([piers[2], (690, 424), piers[3]]), SEA, 2.4)
    pen.line(smooth([piers[1], (712, 280), (724, 380), piers[3]]), "#e4572e", 1.4, "[5 4] 0")
    sides: tuple[tuple[float, float, str], ...] = (
        (-8, -10, "right"),
        (6, -10, "left"),
        (-8, 16, "right"),
        (2, 20, "left"),
    )
    for name, (x, y), (dx, dy, align) in zip(stops, piers, sides, strict=True):
        pen.circle((x, y), 5, fill=PAPER, colour=SEA, width=2)
        short = name.replace("Kestrel Island, ", "")
        pen.text((x + dx, y + dy), short, 10, "hebo", INK, align)
    pen.text((634, 316), "Kestrel Island", 10, "tiit", GREY, "center", 70)
    pen.text((610, 500), "Orrin Sound", 14, "tiit", SEA, "center")
    pen.line([(560, 526), (586, 526)], "#e4572e", 1.4, "[5 4] 0")
    pen.text((592, 529), "in fog", 8.5)


def make_recipe() -> tuple[str, pymupdf.Document]:
    """The recipe card: ingredients at the left, steps at the right, the curve of the crumb on the second page."""
    data = read_data("recipe")
    look = Look(paper=(420, 595), margins=(170, 220, 36, 46), size=9.6, accent="brick", dress="")
    flow = Flow(look)
    palette, pen = look.palette, flow.pen
    pen.rect((0, 0, 420, 196), fill=blend("#d9a35f", PAPER, 0.7))
    pen.text((28, 30), data["series"], 8.5, "helv", GREY)
    pen.lines((28, 70), wrap(data["title"], "tibo", 27, 200), 27, "tibo", palette[0], leading=1.1)
    draw_loaf(pen, (312, 120))
    for index, (value, name) in enumerate(data["facts"]):
        pen.text((28 + 52 * index, 166), value, 11, "hebo", INK)
        pen.text((28 + 52 * index, 178), name, 6.6, "helv", INK)
    pen.text((28, 232), "You need", 12, "tibo", palette[0])
    for index, (name, amount) in enumerate(data["ingredients"]):
        pen.text((28, 254 + 32 * index), amount, 9.5, "hebo")
        pen.text((28, 266 + 32 * index), name, 9, "helv", GREY)
    for number, step in enumerate(data["steps"], 1):
        flow.item(step, f"{number}.", after=0.6)
    flow.break_page()
    pen = flow.pen
    pen.text((36, 60), "When is it done?", 15, "tibo", palette[0])
    spec = {
        "kind": "line",
        "title": "Temperature in the middle of the loaf, °C",
        "x_label": "minutes in the oven",
        "y_max": 100,
        "x": data["curve"]["x"],
        "series": {"crumb": data["curve"]["crumb"]},
    }
    draw_chart(pen, (36, 80, 384, 270), spec, palette)
    pen.rect((36, 300, 384, 372), fill=blend(palette[0], PAPER, 0.88), radius=6)
    pen.lines((50, 322), wrap(data["tip"], "helv", 9.6, 320), 9.6, "helv", INK, leading=1.4)
    pen.text((36, 560), data["author"], 8.5, "heit", GREY)
    doc = flow.finish()
    describe(doc, data["title"], data["author"], data["date"])
    return data["path"], doc


def draw_loaf(pen: Canvas, center: Point) -> None:
    """A round loaf from above with one cut, two quinces and a few nuts."""
    x, y = center
    pen.circle((x + 4, y + 6), 62, fill="#c9ad84", squash=0.86)
    pen.circle(center, 60, fill="#8a5126", colour="#5e3518", squash=0.86)
    pen.circle((x - 4, y - 6), 46, fill="#a8683a", squash=0.84)
    pen.line(smooth([(x - 34, y + 12), (x - 10, y - 6), (x + 12, y - 10), (x + 36, y - 26)]), "#f0d9b0", 5)
    for dx, dy in ((-20, -22), (14, 18), (30, 2), (-30, 2)):
        pen.line(arc((x + dx, y + dy), 5, 0, 200), "#f0d9b0", 1.2)
    for dx, dy in ((-70, 48), (-44, 62)):
        pen.circle((x + dx, y + dy), 15, fill="#e3c03c", colour="#a5861c")
        pen.line([(x + dx + 2, y + dy - 14), (x + dx + 6, y + dy - 21)], "#5e3518", 2)
