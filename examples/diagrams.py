"""Diagrams from a small specification: boxes with arrows (flow charts, organisation charts) and time bars."""

from collections.abc import Sequence
from typing import Any

from .canvas import GREY, INK, PAPER, RULE, Box, Canvas, Point, blend, measure, wrap

Node = tuple[float, float, float, float]


def draw_diagram(canvas: Canvas, box: Box, spec: dict[str, Any], palette: Sequence[str]) -> None:
    """Boxes joined by arrows: `nodes` maps a key to [x, y, text, shape], x and y in percent of the box.

    Shapes are `box`, `strong`, `soft`, `round` and `choice`; `edges` are [from, to, label, how] where `how` may be
    `tree` (down, across, down) or `side` (across, then down). Without it an arrow is straight.
    """
    x0, y0, x1, y1 = box
    width, height = spec.get("node", [110, 34])
    size = spec.get("text_size", 8.5)
    nodes: dict[str, Node] = {}
    for key, (x, y, *_) in spec["nodes"].items():
        cx, cy = x0 + (x1 - x0) * x / 100, y0 + (y1 - y0) * y / 100
        nodes[key] = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
    for edge in spec["edges"]:
        source, target, label, how = [*edge, "", ""][:4]
        draw_edge(canvas, nodes[source], nodes[target], label, how, size)
    for key, (_, _, text, *shape) in spec["nodes"].items():
        draw_node(canvas, nodes[key], text, shape[0] if shape else "box", size, palette)


def draw_node(canvas: Canvas, node: Node, text: str, shape: str, size: float, palette: Sequence[str]) -> None:
    """One box and its words; the first line of a text with several is strong."""
    x0, y0, x1, y1 = node
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    colour = palette[0]
    if shape == "choice":
        grow = (y1 - y0) * 0.35
        points = [(cx, y0 - grow), (x1 + 6, cy), (cx, y1 + grow), (x0 - 6, cy)]
        canvas.area(points, blend(palette[1], PAPER, 0.75), palette[1], 1.1)
    else:
        fill = {"strong": colour, "soft": blend(palette[1], PAPER, 0.8)}.get(shape, blend(colour, PAPER, 0.88))
        edge = palette[1] if shape == "soft" else colour
        canvas.rect(node, fill=fill, colour=edge, width=1, radius=(y1 - y0) / 2 if shape == "round" else 3)
    ink = PAPER if shape == "strong" else INK
    room = (x1 - x0) * (0.72 if shape == "choice" else 1) - 8
    lines = [
        (line, "hebo" if index == 0 and "\n" in text else "helv")
        for index, part in enumerate(text.split("\n"))
        for line in wrap(part, "hebo", size, room)
    ]
    y = cy - len(lines) * size * 0.6 + size * 0.9
    for line, font in lines:
        canvas.text((cx, y), line, size, font, ink, "center")
        y += size * 1.2


def draw_edge(canvas: Canvas, source: Node, target: Node, label: str, how: str, size: float) -> None:
    """An arrow from the border of one box to the border of another."""
    (ax, ay), (bx, by) = find_middle(source), find_middle(target)
    if how == "tree":
        bend = (source[3] + target[1]) / 2
        canvas.line([(ax, source[3]), (ax, bend), (bx, bend), (bx, target[1])], GREY, 1)
        return
    if how == "side":
        start = (source[2] + 6 if bx > ax else source[0] - 6, ay)
        end = (bx, target[1] if by > ay else target[3])
        canvas.arrow([start, (bx, ay), end], GREY, 1.1)
    elif abs(bx - ax) > abs(by - ay):
        start = (source[2] if bx > ax else source[0], ay)
        end = (target[0] if bx > ax else target[2], by)
        canvas.arrow([start, end], GREY, 1.1)
    else:
        start = (ax, source[3] if by > ay else source[1])
        end = (bx, target[1] if by > ay else target[3])
        canvas.arrow([start, end], GREY, 1.1)
    if label:
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        if how == "side":
            x, y = (start[0] + bx) / 2, ay
        upright = abs(end[0] - start[0]) < 2
        canvas.text(
            (x + 5 if upright else x, y + 3 if upright else y - 4),
            label,
            size,
            "heit",
            INK,
            "left" if upright else "center",
        )


def find_middle(node: Node) -> Point:
    """The middle of a box."""
    return (node[0] + node[2]) / 2, (node[1] + node[3]) / 2


def draw_time_bars(canvas: Canvas, box: Box, spec: dict[str, Any], palette: Sequence[str]) -> None:
    """Tasks as bars over time: `rows` are [name, start, end, group], counted in the columns of `x`; `now` is a line."""
    x0, y0, x1, y1 = box
    size = spec.get("text_size", 9)
    left = x0 + max(measure(row[0], "helv", size) for row in spec["rows"]) + 12
    pitch = (x1 - left) / len(spec["x"])
    lane = (y1 - y0 - 20) / len(spec["rows"])
    for index, name in enumerate(spec["x"]):
        x = left + pitch * index
        canvas.line([(x, y0 + 16), (x, y1 - 4)], RULE, 0.5)
        canvas.text((x + pitch / 2, y0 + 10), str(name), size, "hebo", GREY, "center")
    for index, (name, start, end, group) in enumerate(spec["rows"]):
        y = y0 + 18 + lane * index
        if index % 2 == 0:
            canvas.rect((x0, y, x1, y + lane), fill="#f3f5f6")
        canvas.text((x0 + 4, y + lane / 2 + size * 0.35), name, size, "helv", INK)
        bar = (left + pitch * start, y + lane * 0.22, left + pitch * end, y + lane * 0.78)
        canvas.rect(bar, fill=palette[group], radius=3)
    if "now" in spec:
        x = left + pitch * spec["now"]
        canvas.line([(x, y0 + 14), (x, y1 - 4)], "#b3261e", 1.2, "[4 3] 0")
