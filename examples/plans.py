"""Maps, floor plans and sections for the reports: a lake with its stations, a town hall, a crossing, a wall."""

from collections.abc import Sequence

from .canvas import GREY, INK, PAPER, Box, Canvas, blend, smooth
from .sketch import Sketch

WATER = "#bfdcea"
SHORE = "#4c8fb0"
GRASS = "#dfe9cf"
ROAD = "#c9cdd1"


def draw_compass(s: Sketch, x: float, y: float) -> None:
    """An arrow to the north."""
    s.area([(x, y - 16), (x + 6, y + 8), (x, y + 3), (x - 6, y + 8)], INK)
    s.text(x, y - 20, "N", 9, "hebo")


def draw_scale_bar(s: Sketch, x: float, y: float, length: float, text: str) -> None:
    """A bar of two halves with the length it stands for."""
    s.rect(x, y, length / 2, 4, INK)
    s.rect(x + length / 2, y, length / 2, 4, PAPER)
    s.text(x + length + 5, y + 5, text, 7.5, align="left")


def draw_lake_map(canvas: Canvas, box: Box, palette: Sequence[str]) -> None:
    """The lake with its two rivers, villages and the six sampling stations."""
    s = Sketch(canvas, box, 460, 280)
    s.rect(0, 0, 460, 280, GRASS, GREY)
    s.line(smooth([(60, 0), (84, 40), (110, 66), (150, 96)]), SHORE, 4)
    s.line(smooth([(0, 190), (50, 184), (100, 176), (140, 170)]), SHORE, 3)
    s.line(smooth([(330, 186), (370, 214), (400, 250), (430, 280)]), SHORE, 5)
    shore = [
        (140, 96),
        (190, 74),
        (250, 82),
        (310, 110),
        (348, 150),
        (336, 190),
        (280, 208),
        (210, 204),
        (150, 184),
        (122, 140),
    ]
    s.area(smooth([*shore, shore[0]]), WATER, SHORE, 1.4)
    s.area(smooth([(236, 130), (256, 124), (268, 136), (252, 146), (236, 130)]), GRASS, SHORE)
    s.text(192, 158, "Lake Orrin", 12, "tiit", SHORE)
    s.text(96, 24, "Kell Brook", 8.5, "tiit", SHORE, "left")
    s.text(30, 206, "Marsh Drain", 8.5, "tiit", SHORE, "left")
    s.text(352, 262, "River Sel", 8.5, "tiit", SHORE)
    for x, y, name in ((196, 48, "Upper Orrin"), (384, 130, "Fernside"), (246, 238, "Sandhaven")):
        for dx, dy in ((0, 0), (12, 3), (5, 10)):
            s.rect(x + dx, y + dy, 8, 7, "#a7846a")
        s.text(x + 10, y - 5, name, 8.5, "hebo")
    stations = (
        ("S1", 118, 72),
        ("S2", 116, 174),
        ("S3", 190, 112),
        ("S4", 250, 176),
        ("S5", 310, 150),
        ("S6", 362, 208),
    )
    for name, x, y in stations:
        s.circle(x, y, 9, palette[1], PAPER, width=1.4)
        s.text(x, y + 3, name, 7.5, "hebo", PAPER)
    for x, y in ((270, 216), (228, 72)):
        s.area([(x, y - 8), (x + 7, y + 5), (x - 7, y + 5)], "#f6c445")
    draw_compass(s, 436, 36)
    draw_scale_bar(s, 20, 262, 80, "1 km")


def draw_floor_plan(canvas: Canvas, box: Box, palette: Sequence[str]) -> None:
    """The ground floor of the town hall with room names, areas, doors and radiators."""
    s = Sketch(canvas, box, 460, 290)
    s.rect(10, 20, 440, 250, PAPER, INK, 3)
    rooms = (
        (10, 20, 150, 120, "Council chamber", "96 m²"), (160, 20, 110, 80, "Registry", "44 m²"),
        (270, 20, 90, 80, "Archive", "36 m²"), (360, 20, 90, 80, "Server room", "18 m²"),
        (10, 190, 110, 80, "Citizens' desk", "48 m²"), (120, 190, 80, 80, "Kitchen", "24 m²"),
        (280, 160, 170, 110, "Library", "112 m²"),
    )  # fmt: skip
    for index, (x, y, wide, tall, name, area) in enumerate(rooms):
        s.rect(x, y, wide, tall, blend(palette[index % 4], PAPER, 0.88), INK, 2)
        s.text(x + wide / 2, y + tall / 2, name, 8.5, "hebo")
        s.text(x + wide / 2, y + tall / 2 + 12, area, 8)
    s.text(200, 152, "Foyer 88 m²", 9, "hebo")
    for x, y, start in (
        (140, 140, 270),
        (176, 100, 90),
        (290, 100, 90),
        (376, 100, 90),
        (90, 190, 0),
        (140, 190, 0),
        (300, 160, 0),
    ):
        s.line([(x, y), (x + 18, y)], PAPER, 3)
        s.arc(x, y, 18, start, 90, GREY)
    s.line([(220, 270), (262, 270)], PAPER, 4)
    s.text(241, 284, "main entrance", 8, "heit")
    for x, y, wide, tall in (
        (40, 24, 60, 5), (180, 24, 50, 5), (14, 214, 5, 40), (440, 190, 5, 60), (300, 261, 60, 5), (140, 261, 40, 5), (14, 60, 5, 50),
    ):  # fmt: skip
        s.rect(x, y, wide, tall, "#c8452b", "#c8452b")
    s.circle(404, 82, 7, "#2f7fb5", PAPER)
    s.circle(340, 88, 7, "#2f7fb5", PAPER)
    s.circle(236, 206, 7, "#2f7fb5", PAPER)
    s.rect(212, 226, 26, 5, "#c8452b", "#c8452b")
    s.text(242, 232, "radiator", 7.5, align="left")
    s.text(248, 209, "logger", 7.5, align="left")
    draw_compass(s, 400, 136)
    draw_scale_bar(s, 20, 280, 60, "5 m")


def draw_wall(canvas: Canvas, box: Box, palette: Sequence[str]) -> None:
    """A section through an outer wall with five layers and their thickness in millimetres."""
    s = Sketch(canvas, box, 420, 220)
    layers = (
        ("lime plaster", 12, "#efe6d4"), ("brick, old", 120, "#c9805f"), ("wood fibre board", 70, "#e0c27f"),
        ("render base", 10, "#c9cdd1"), ("mineral render", 8, "#a9b3ba"),
    )  # fmt: skip
    x = 70.0
    thick = ("15", "365", "160", "5", "8")
    for index, (name, wide, fill) in enumerate(layers):
        s.rect(x, 20, wide, 130, fill)
        if name.startswith("brick"):
            for row in range(8):
                s.line([(x, 20 + 16.3 * row), (x + wide, 20 + 16.3 * row)], PAPER, 1)
                for column in range(3):
                    seam = x + 24 + 40 * column + (row % 2) * 18
                    if seam < x + wide:
                        s.line([(seam, 20 + 16.3 * row), (seam, min(150, 36.3 + 16.3 * row))], PAPER, 1)
        if name.startswith("wood"):
            for row in range(13):
                s.line([(x, 28 + 10 * row), (x + wide, 22 + 10 * row)], "#b4924c", 0.6)
        middle = x + wide / 2
        s.call_out(str(index + 1), middle + (index - 2) * 14, 178, middle, 142, palette[0])
        s.text(middle + (index - 2) * 14, 202, f"{thick[index]} mm", 7.5)
        x += wide
    s.text(34, 80, "inside\n20 °C", 9, "hebo", "#c8452b")
    s.text(336, 80, "outside\n−10 °C", 9, "hebo", "#2f7fb5")
    s.line([(70, 40), (82, 44), (202, 66), (272, 128), (290, 134)], "#c8452b", 2)


def draw_junction(canvas: Canvas, box: Box, palette: Sequence[str]) -> None:
    """The crossing of two roads with lanes, cycle tracks, islands and the counting points A to D."""
    s = Sketch(canvas, box, 440, 300)
    s.rect(0, 0, 440, 300, GRASS, GREY)
    s.rect(180, 0, 80, 300, ROAD, ROAD)
    s.rect(0, 110, 440, 80, ROAD, ROAD)
    for x, y, wide, tall in ((0, 196, 176, 9), (264, 196, 176, 9), (0, 95, 176, 9), (264, 95, 176, 9)):
        s.rect(x, y, wide, tall, "#c98f82", "#c98f82")
    for points in ([(220, 0), (220, 92)], [(220, 208), (220, 300)], [(0, 150), (160, 150)], [(280, 150), (440, 150)]):
        s.line(points, PAPER, 1.6, "[8 6] 0")
    for x in range(184, 258, 10):
        s.rect(x, 92, 6, 14, PAPER, PAPER)
        s.rect(x, 194, 6, 14, PAPER, PAPER)
    for y in range(114, 188, 10):
        s.rect(160, y, 14, 6, PAPER, PAPER)
        s.rect(266, y, 14, 6, PAPER, PAPER)
    s.area(smooth([(300, 146), (340, 146), (346, 150), (340, 154), (300, 154), (296, 150), (300, 146)]), GRASS, GREY)
    for points in ([(20, 170), (90, 170)], [(420, 130), (350, 130)], [(240, 290), (240, 230)], [(200, 10), (200, 66)]):
        s.arrow(points, INK, 1.6)
    for name, x, y in (("A", 120, 170), ("B", 200, 82), ("C", 372, 130), ("D", 240, 222)):
        s.circle(x, y, 10, palette[1], PAPER)
        s.text(x, y + 3, name, 9, "hebo", PAPER)
    s.text(70, 138, "Harbour Road (west)", 8.5, "hebo")
    s.text(370, 178, "Harbour Road (east)", 8.5, "hebo")
    s.text(216, 40, "Mill Street", 8.5, "hebo", angle=90)
    s.text(216, 262, "Station Lane", 8.5, "hebo", angle=90)
    houses = (
        (20, 20, 120, "Fish market"), (296, 20, 124, "Primary school"), (20, 222, 120, "Bus depot"), (296, 222, 124, "Old cannery"),
    )  # fmt: skip
    for x, y, wide, name in houses:
        s.rect(x, y, wide, 60, "#d8cfc4", GREY)
        s.text(x + wide / 2, y + 33, name, 8.5)
    s.rect(270, 212, 12, 30, "#2f7fb5")
    s.text(276, 254, "bus stop", 7)
    draw_compass(s, 160, 40)


def draw_bioreactor(canvas: Canvas, box: Box, palette: Sequence[str]) -> None:
    """A woodchip bed beside a ditch, cut along the flow, with its four sampling wells."""
    s = Sketch(canvas, box, 440, 170)
    s.area([(0, 40), (440, 48), (440, 170), (0, 170)], "#e4d6bf", "#e4d6bf")
    s.line([(0, 40), (440, 48)], "#6b7a4b", 2.4)
    s.area([(90, 66), (350, 66), (338, 140), (102, 140)], "#c79a5b")
    for row in range(6):
        for column in range(22):
            x = 106 + column * 10.6 + (row % 2) * 5
            s.line([(x, 74 + row * 11), (x + 5, 78 + row * 11)], "#7d5a2b", 1)
    s.line([(90, 66), (350, 66)], "#33475b", 2.2)
    s.line([(84, 84), (356, 84)], "#2f7fb5", 1, "[5 3] 0")
    s.rect(50, 30, 30, 112, PAPER)
    s.rect(360, 30, 30, 112, PAPER)
    s.line([(65, 60), (65, 110)], "#2f7fb5", 5)
    s.line([(375, 70), (375, 130)], "#2f7fb5", 5)
    s.arrow([(0, 104), (48, 104)], "#2f7fb5", 2)
    s.arrow([(392, 122), (440, 122)], "#2f7fb5", 2)
    for index, x in enumerate((124, 186, 248, 310)):
        s.line([(x, 20), (x, 132)], INK, 1.8)
        s.text(x, 14, f"W{index + 1}", 8.5, "hebo")
    s.text(52, 160, "inlet box", 7.5)
    s.text(388, 160, "outlet box", 7.5)
    s.text(220, 160, "woodchips", 7.5, "heit")
