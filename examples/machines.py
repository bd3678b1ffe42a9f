"""Line drawings of machines for the manuals: exploded views, sections, wiring."""

from collections.abc import Sequence

from .canvas import GREY, PAPER, Box, Canvas, blend
from .sketch import Sketch

METAL = "#dfe4e8"
DARK = "#aab4bb"
COPPER = "#b8692e"


def draw_pump_exploded(canvas: Canvas, box: Box, palette: Sequence[str]) -> None:
    """The parts of a circulation pump along their common axis, numbered from 1 to 9."""
    s = Sketch(canvas, box, 480, 240)
    s.line([(10, 120), (470, 120)], GREY, 0.6, "[8 3 2 3] 0")
    s.rect(18, 76, 60, 88, METAL)
    s.rect(28, 86, 40, 30, PAPER)
    s.circle(48, 140, 11, DARK)
    for y in (90, 96, 102, 108):
        s.line([(34, y), (62, y)], GREY, 0.5)
    s.rect(100, 70, 74, 100, METAL)
    for index in range(9):
        s.line([(106 + 7.5 * index, 74), (106 + 7.5 * index, 166)], DARK, 1.6)
    s.rect(192, 112, 70, 16, DARK)
    s.rect(204, 96, 38, 48, METAL)
    s.circle(284, 120, 24, PAPER, squash=1.3)
    s.circle(284, 120, 17, METAL, squash=1.3)
    s.circle(312, 120, 28, PAPER, "#b3261e", squash=1.3, width=2.4)
    s.circle(342, 120, 25, METAL, squash=1.3)
    s.circle(342, 120, 8, DARK, squash=1.3)
    for start in range(0, 360, 60):
        s.arc(342, 120, 17, start, 42)
    s.area([(372, 80), (424, 80), (424, 50), (452, 50), (452, 190), (424, 190), (424, 160), (372, 160)], METAL)
    s.rect(446, 44, 12, 28, DARK)
    s.rect(446, 168, 12, 28, DARK)
    s.circle(398, 120, 20, PAPER, squash=1.4)
    for x, y in ((366, 62), (366, 178)):
        s.rect(x - 24, y - 3, 34, 6, DARK)
        s.rect(x - 30, y - 6, 8, 12, METAL)
    parts = [
        ("1", 48, 30, 48, 80), ("2", 137, 30, 137, 76), ("3", 198, 60, 198, 116), ("4", 240, 206, 230, 136),
        ("5", 284, 36, 284, 96), ("6", 312, 206, 312, 154), ("7", 342, 26, 342, 96), ("8", 340, 226, 346, 180),
        ("9", 412, 26, 410, 88),
    ]  # fmt: skip
    for number, x, y, to_x, to_y in parts:
        s.call_out(number, x, y, to_x, to_y, palette[0])


def draw_pump_size(canvas: Canvas, box: Box, palette: Sequence[str]) -> None:
    """The pump from the front with its dimensions in millimetres."""
    s = Sketch(canvas, box, 360, 244)
    s.rect(120, 60, 90, 110, METAL)
    s.rect(210, 78, 46, 74, blend(palette[0], PAPER, 0.7))
    s.circle(165, 115, 34, PAPER)
    s.circle(165, 115, 22, METAL)
    s.rect(146, 24, 38, 36, DARK)
    s.rect(138, 16, 54, 10, METAL)
    s.rect(146, 170, 38, 32, DARK)
    s.rect(138, 202, 54, 10, METAL)
    s.line([(165, 8), (165, 220)], GREY, 0.5, "[8 3 2 3] 0")
    s.measure((92, 16), (92, 212), "180")
    s.line([(86, 16), (138, 16)], GREY, 0.5)
    s.line([(86, 212), (138, 212)], GREY, 0.5)
    s.measure((120, 232), (256, 232), "142")
    s.line([(120, 170), (120, 238)], GREY, 0.5)
    s.line([(256, 152), (256, 238)], GREY, 0.5)
    s.measure((286, 78), (286, 152), "96", 14)
    s.text(310, 30, "G 1½", 8.5, "hebo")
    s.line([(298, 28), (192, 21)], GREY, 0.5)


def draw_pump_wiring(canvas: Canvas, box: Box, palette: Sequence[str]) -> None:
    """Five terminals, the mains cable and the control cable with the colours of their cores."""
    s = Sketch(canvas, box, 440, 210)
    s.rect(40, 20, 360, 70, METAL)
    s.text(52, 34, "Terminal strip X1", 8.5, "hebo", align="left")
    for index, name in enumerate(("L", "N", "PE", "24V", "0V", "ALM")):
        x = 70 + 56 * index
        s.rect(x, 44, 34, 38, PAPER)
        s.circle(x + 17, 58, 7, DARK)
        s.line([(x + 12, 63), (x + 22, 53)])
        s.text(x + 17, 79, name, 8.5, "hebo")
    cores = (
        (87, 130, "#7b4a21", "brown"), (143, 150, "#2456b3", "blue"), (199, 170, "#3c8d2f", "green/\nyellow"),
        (255, 280, "#b3261e", "red"), (311, 300, "#222222", "black"), (367, 320, "#c9a400", "yellow"),
    )  # fmt: skip
    for x, to_x, colour, name in cores:
        s.line([(x, 82), (x, 118), (to_x, 140), (to_x, 160)], colour, 2.4)
        s.text(x - 5, 103, name, 7.5, "heit", align="right")
    s.rect(118, 160, 64, 34, "#555f66")
    s.text(150, 206, "mains 230 V, 50 Hz", 8.5, "hebo")
    s.rect(268, 160, 64, 34, "#555f66")
    s.text(300, 206, "controller", 8.5, "hebo")


def draw_unit_open(canvas: Canvas, box: Box, palette: Sequence[str]) -> None:
    """The ventilation unit without its front: filters, fans, exchanger and the four duct collars."""
    s = Sketch(canvas, box, 440, 300)
    for x, name, colour in (
        (80, "fresh air", "#2f7fb5"), (170, "supply air", "#d1603d"), (260, "extract air", "#d9a35f"), (350, "exhaust", "#6b7a85"),
    ):  # fmt: skip
        s.rect(x - 24, 24, 48, 34, METAL)
        s.text(x, 14, name, 8.5, "hebo", colour)
    s.rect(40, 58, 360, 200, PAPER, width=1.6)
    s.area([(220, 84), (300, 158), (220, 232), (140, 158)], blend(palette[0], PAPER, 0.75))
    for index in range(1, 9):
        t = index / 9
        s.line([(220 + 80 * t, 84 + 74 * t), (140 + 80 * t, 158 + 74 * t)], palette[0], 0.5)
    s.rect(50, 78, 74, 20, blend("#2f7fb5", PAPER, 0.6))
    s.rect(316, 78, 74, 20, blend("#d9a35f", PAPER, 0.5))
    for x in (92, 348):
        s.circle(x, 206, 32, METAL)
        s.circle(x, 206, 9, DARK)
        for start in range(0, 360, 45):
            s.arc(x, 206, 22, start, 25)
    s.rect(180, 240, 80, 14, blend("#2f7fb5", PAPER, 0.8))
    s.line([(220, 254), (220, 284)], "#2f7fb5", 3)
    s.rect(186, 64, 68, 16, "#e8d48b")
    s.arrow([(80, 62), (80, 120), (130, 150)], "#2f7fb5", 1.8)
    s.arrow([(300, 168), (308, 120), (272, 70)], "#d9a35f", 1.8)
    parts = (
        ("A", 18, 88, 54, 88), ("B", 424, 88, 386, 88), ("C", 18, 160, 150, 158), ("D", 18, 226, 66, 218),
        ("E", 424, 226, 372, 218), ("F", 424, 262, 256, 248), ("G", 424, 140, 250, 74), ("H", 150, 286, 219, 276),
    )  # fmt: skip
    for number, x, y, to_x, to_y in parts:
        s.call_out(number, x, y, to_x, to_y, palette[0])


def draw_unit_wiring(canvas: Canvas, box: Box, palette: Sequence[str]) -> None:
    """The control board of the ventilation unit: mains, wall switch, humidity sensor, boost button."""
    s = Sketch(canvas, box, 440, 220)
    s.rect(150, 20, 140, 180, blend("#3c8d2f", PAPER, 0.8))
    s.text(220, 36, "Control board CB-2", 8.5, "hebo")
    s.rect(196, 88, 48, 40, "#333b40")
    for index in range(6):
        s.line([(190, 92 + 6.5 * index), (196, 92 + 6.5 * index)], GREY)
        s.line([(244, 92 + 6.5 * index), (250, 92 + 6.5 * index)], GREY)
    left = (
        ("mains\n230 V", 56, "#7b4a21", "K1"),
        ("fan supply", 104, "#2456b3", "K2"),
        ("fan extract", 152, "#2456b3", "K3"),
    )
    right = (
        ("wall switch", 56, "#b3261e", "K4"),
        ("humidity\nsensor", 104, "#c9a400", "K5"),
        ("boost\nbutton", 152, "#222222", "K6"),
    )
    for name, y, colour, plug in left:
        s.rect(150, y - 8, 28, 22, PAPER)
        s.text(164, y + 6, plug, 8, "hebo")
        s.line([(92, y + 3), (150, y + 3)], colour, 2.2)
        s.rect(16, y - 14, 76, 34, METAL)
        s.text(54, y + (0 if "\n" in name else 5), name, 8)
    for name, y, colour, plug in right:
        s.rect(262, y - 8, 28, 22, PAPER)
        s.text(276, y + 6, plug, 8, "hebo")
        s.line([(290, y + 3), (348, y + 3)], colour, 2.2)
        s.rect(348, y - 14, 76, 34, METAL)
        s.text(386, y + (0 if "\n" in name else 5), name, 8)
    s.text(220, 190, "fuse T 2 A", 8, "heit")
    s.rect(200, 168, 40, 12, COPPER)


def draw_heat_pump(canvas: Canvas, box: Box, palette: Sequence[str]) -> None:
    """The loop of a heat pump between a river and a heating network, with temperatures."""
    s = Sketch(canvas, box, 440, 230)
    cold, hot = "#2f7fb5", "#c8452b"
    s.rect(20, 70, 70, 90, blend(cold, PAPER, 0.75), cold)
    s.text(55, 110, "River\nexchanger", 9, "hebo")
    s.rect(350, 70, 70, 90, blend(hot, PAPER, 0.75), hot)
    s.text(385, 110, "Heating\nnetwork", 9, "hebo")
    s.rect(140, 80, 46, 70, blend(cold, PAPER, 0.6), cold)
    s.text(157, 166, "evaporator", 8.5, align="right")
    s.rect(254, 80, 46, 70, blend(hot, PAPER, 0.6), hot)
    s.text(283, 166, "condenser", 8.5, align="left")
    s.arrow([(163, 80), (163, 40), (202, 40)], cold, 2)
    s.arrow([(238, 40), (277, 40), (277, 80)], hot, 2)
    s.circle(220, 40, 18, PAPER)
    s.area([(210, 32), (234, 40), (210, 48)], palette[1])
    s.text(220, 14, "compressor", 8.5)
    s.arrow([(277, 150), (277, 200), (232, 200)], hot, 2)
    s.arrow([(208, 200), (163, 200), (163, 150)], cold, 2)
    s.area([(208, 192), (232, 208), (232, 192), (208, 208)], METAL)
    s.text(220, 224, "expansion valve", 8.5)
    for y, start, end, text, colour in (
        (92, 90, 140, "9 °C", cold), (138, 140, 90, "5 °C", cold), (92, 300, 350, "72 °C", hot), (138, 350, 300, "48 °C", hot),
    ):  # fmt: skip
        s.arrow([(start, y), (end, y)], colour, 2)
        s.text((start + end) / 2, y - 6, text, 8.5, "hebo", colour)
