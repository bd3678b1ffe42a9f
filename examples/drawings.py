"""All drawings by the name that a text file calls them by; the small ones are drawn here."""

from collections.abc import Callable, Sequence

from . import machines, plans
from .canvas import GREY, INK, PAPER, Box, Canvas, blend, smooth
from .sketch import Sketch


def draw_compost(canvas: Canvas, box: Box, palette: Sequence[str]) -> None:
    """A compost bin cut open: five layers from the branches below to the straw above, with French labels."""
    s = Sketch(canvas, box, 440, 250)
    layers = (
        (190, 30, "#8a6a44", "branches et tiges", "10 cm"), (150, 40, "#5d4630", "compost mûr", "5 cm"),
        (105, 45, "#7f9f4e", "déchets verts", "20 cm"), (65, 40, "#b78b4f", "feuilles sèches", "20 cm"),
        (40, 25, "#e3cf87", "paille", "8 cm"),
    )  # fmt: skip
    for index, (y, tall, fill, name, thick) in enumerate(layers):
        s.rect(110, y, 170, tall, fill, INK, 0.5)
        middle = y + tall / 2
        s.line([(280, middle), (312, middle)], GREY, 0.6)
        s.text(316, middle + 3, f"{name} ({thick})", 8.5, align="left")
        s.call_out(str(index + 1), 74, middle, 112, middle, palette[0])
    for x in (100, 280):
        s.rect(x, 30, 10, 200, "#a7846a")
    for y in range(34, 226, 24):
        s.line([(100, y), (110, y)], INK, 0.5)
        s.line([(280, y), (290, y)], INK, 0.5)
    s.line([(60, 221), (330, 221)], "#6b7a4b", 2)
    s.measure((110, 240), (280, 240), "100 cm", 10)
    for x in (150, 195, 240):
        s.arrow([(x, 36), (x, 12)], GREY, 1)
    s.text(195, 8, "vapeur d'eau", 7.5, "heit")


def draw_heat_network(canvas: Canvas, box: Box, palette: Sequence[str]) -> None:
    """A village with the heating centre, two phases of the pipe network and the quarters, labelled in German."""
    s = Sketch(canvas, box, 460, 270)
    s.rect(0, 0, 460, 270, plans.GRASS, GREY)
    s.line(smooth([(0, 236), (90, 222), (200, 240), (320, 226), (460, 248)]), plans.SHORE, 7)
    s.text(392, 262, "Ebersbach", 9, "tiit", plans.SHORE)
    quarters = (
        (40, 40, 120, 80, "Altstadt"), (190, 30, 110, 70, "Schulviertel"),
        (330, 40, 110, 80, "Am Weinberg"), (50, 150, 120, 56, "Gewerbehof"), (320, 150, 110, 56, "Siedlung Ost"),
    )  # fmt: skip
    for index, (x, y, wide, tall, name) in enumerate(quarters):
        s.rect(x, y, wide, tall, blend(palette[index], PAPER, 0.7), GREY)
        for step in range(4):
            s.rect(x + 10 + step * wide / 4.4, y + tall - 18, 12, 11, "#a7846a", GREY, 0.5)
        s.text(x + wide / 2, y + 16, name, 9, "hebo")
    for points in ([(240, 176), (240, 134), (100, 134), (100, 102)], [(240, 134), (240, 82)]):
        s.line(points, "#c8452b", 3)
    for points in ([(240, 134), (376, 134), (376, 120)], [(376, 134), (376, 150)], [(224, 180), (170, 180)]):
        s.line(points, "#c8452b", 2.4, "[6 4] 0")
    s.rect(222, 166, 40, 34, palette[0])
    s.text(242, 187, "HZ", 10, "hebo", PAPER)
    s.line([(14, 252), (40, 252)], "#c8452b", 3)
    s.text(46, 255, "1. Bauabschnitt", 8, align="left")
    s.line([(14, 263), (40, 263)], "#c8452b", 2.4, "[6 4] 0")
    s.text(46, 266, "2. Bauabschnitt", 8, align="left")


DRAWINGS: dict[str, Callable[[Canvas, Box, Sequence[str]], None]] = {
    "bioreactor": plans.draw_bioreactor,
    "compost": draw_compost,
    "floor_plan": plans.draw_floor_plan,
    "heat_network": draw_heat_network,
    "heat_pump": machines.draw_heat_pump,
    "junction": plans.draw_junction,
    "lake_map": plans.draw_lake_map,
    "pump_exploded": machines.draw_pump_exploded,
    "pump_size": machines.draw_pump_size,
    "pump_wiring": machines.draw_pump_wiring,
    "unit_open": machines.draw_unit_open,
    "unit_wiring": machines.draw_unit_wiring,
    "wall": plans.draw_wall,
}
