"""How the kinds of blocks are set, and charts and forms: what is drawn is what they say."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from moca_rag.train.canvas import Canvas, ComposedPage
from moca_rag.train.charts import Chart, ChartKind, draw_chart
from moca_rag.train.documents import Block
from moca_rag.train.faces import Faces
from moca_rag.train.forms import FormSetter, make_picture
from moca_rag.train.invention import Invention
from moca_rag.train.strips import Strip, Voice, stack_strips
from moca_rag.train.styles import PageStyle
from moca_rag.train.typesetting import Typesetter

from tests.fonts import write_fonts

BLACK, WHITE, RED, BLUE = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255)
WORDS = "The harbour ferry leaves at seven and carries forty wagons of timber to the other side"


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    return Faces.open(write_fonts(tmp_path_factory.mktemp("fonts")))


def make_style(**heading: Any) -> PageStyle:
    style = PageStyle.draw(np.random.default_rng(0))
    looks = {"scale": 1.5, "numbered": False, "capitals": False, "centred": False, "trim": "plain", "ink": BLACK}
    return replace(
        style,
        paper=WHITE,
        accent=BLUE,
        body=Voice(11.0, 14.0, BLACK),
        emphasis=0.0,
        box_rate=0.0,
        indent=0.0,
        gap=0.0,
        bullet="•",
        heading=replace(style.heading, **{**looks, **heading}),
    )


def make_setter(faces: Faces, style: PageStyle) -> Typesetter:
    rng = np.random.default_rng(3)
    return Typesetter(style, faces.draw(rng), rng)


def draw(strips: Sequence[Strip]) -> ComposedPage:
    canvas = Canvas(420, 420, WHITE)
    stack_strips(strips).draw(canvas, 10, 10)
    return canvas.finish("")


def red(page: ComposedPage) -> np.ndarray:
    """Where a page is red, and how much."""
    pixels = page.pixels.astype(int)
    return (pixels[..., 0] - pixels[..., 1]).clip(0) / 255 * (pixels[..., 2] < 200)


def test_headings_are_larger_stay_with_what_follows_and_count_on(faces: Faces) -> None:
    setter = make_setter(faces, make_style(numbered=True))
    blocks = [Block("heading", "Harbour"), Block("heading", "3.1 Ferries"), Block("heading", "Bridge")]
    strips = [strip for block in blocks for strip in setter.set_block(block, 300)]
    assert all(strip.binds for strip in strips)
    page = draw(strips)
    numbers = [word for word in page.words if word[0].isdigit()]
    assert len(numbers) == 3 and numbers[1] == "3.1" and numbers[0] != numbers[2]
    line = draw(setter.set_block(Block("paragraph", "Harbour"), 300)).word_boxes[0]
    assert (page.word_boxes[1, 3] - page.word_boxes[1, 1]) / (line[3] - line[1]) == pytest.approx(1.5, abs=0.08)
    assert not any(strip.binds for strip in setter.set_block(Block("paragraph", WORDS), 200))


def test_a_heading_in_a_band_is_white_on_the_accent_and_capitals_are_reported_as_drawn(faces: Faces) -> None:
    page = draw(make_setter(faces, make_style(trim="band", capitals=True)).set_block(Block("heading", "Harbour"), 300))
    assert page.words == ("HARBOUR",)
    left, top, right, bottom = page.word_boxes[0].round().astype(int)
    assert page.pixels[top - 3, left + 2].tolist() == list(BLUE)
    assert (page.pixels[top:bottom, left:right].min(axis=2) > 200).any()
    assert page.pixels[top, 308].tolist() == list(BLUE) and page.pixels[top, 312].tolist() == list(WHITE)


def test_items_stand_on_lines_of_their_own_behind_their_marks(faces: Faces) -> None:
    text = "\n".join([WORDS, "2. timber", "", "– coal and iron"])
    page = draw(make_setter(faces, make_style()).set_block(Block("list", text), 260))
    lines = page.text.split("\n")
    assert lines[0].split()[1:] == WORDS.split() and lines[1:] == ["2. timber", "– coal and iron"]
    at = {word: page.word_boxes[number] for number, word in enumerate(page.words)}
    assert at["The"][0] == at["timber"][0] or at["timber"][0] == at["coal"][0]
    assert at["2."][0] < at["timber"][0] and at["2."][1] == at["timber"][1]
    first_line = page.word_boxes[:, 1] == at["The"][1]
    continued = np.flatnonzero(~first_line & (page.word_boxes[:, 1] < at["2."][1]))
    assert page.word_boxes[continued[0], 0] == pytest.approx(at["The"][0], abs=0.3)


def test_code_keeps_its_lines_and_columns_and_loses_what_is_too_wide(faces: Faces) -> None:
    code = "def main():\n\treturn  1\n\nx" + " + 1" * 60
    page = draw(make_setter(faces, make_style()).set_block(Block("code", code), 200))
    lines = page.text.split("\n")
    assert lines[0] == "def main():" and lines[1] == "    return  1"
    assert lines[-1].startswith("x + 1 + 1") and len(lines[-1]) < 60
    boxes = page.word_boxes
    cell = (boxes[0, 2] - boxes[0, 0]) / 3
    assert boxes[1, 0] - boxes[0, 0] == pytest.approx(4 * cell, abs=0.5)
    assert boxes[2, 0] - boxes[0, 0] == pytest.approx(4 * cell, abs=0.3)
    assert boxes[3, 0] - boxes[0, 0] == pytest.approx(12 * cell, abs=0.5)
    assert boxes[4, 1] - boxes[2, 1] == pytest.approx(2 * (boxes[2, 1] - boxes[0, 1]), abs=0.5)
    assert boxes[:, 2].max() <= 210


def test_short_captions_are_centred_and_long_ones_are_not(faces: Faces) -> None:
    setter = make_setter(faces, make_style())
    short, long = (
        draw(setter.set_block(Block("caption", text), 300)) for text in ("Figure 2: timber", "Figure 3. " + 3 * WORDS)
    )
    assert (short.word_boxes[0, 0] + short.word_boxes[-1, 2]) / 2 == pytest.approx(160, abs=0.5)
    assert long.word_boxes[0, 0] == 10
    assert short.text == "Figure 2: timber"


def test_some_short_blocks_stand_in_boxes_and_long_ones_never(faces: Faces) -> None:
    setter = make_setter(faces, replace(make_style(), box_rate=1.0))
    boxed, long = (setter.set_block(Block("paragraph", text), 300) for text in (WORDS, 15 * (WORDS + " ")))
    assert len(boxed) == 1 and boxed[0].gap > 0 and boxed[0].below > 0
    assert draw(boxed).words == tuple(WORDS.split())
    assert len(long) > 15


def make_chart(faces: Faces, kind: ChartKind, figures: list[list[float]], **changes: Any) -> ComposedPage:
    chart = Chart(
        kind=kind,
        title="Timber",
        across="Ports",
        upward="Tons",
        categories=["Ayr", "Bonn", "Cork"],
        series=["old", "new"][: len(figures)],
        figures=np.array(figures, np.float32),
        percent=False,
        face=faces.text[1].regular,
        size=11.0,
        ink=BLACK,
        paper=WHITE,
        colours=(RED, BLUE, (0, 255, 0)),
        has_grid=False,
        has_values=False,
    )
    canvas = Canvas(448, 308, WHITE)
    draw_chart(replace(chart, **changes), 400, 280, canvas, 20, 10)
    return canvas.finish("chart")


def runs(sums: np.ndarray) -> list[float]:
    """The largest sum of each run of rows or columns with red in them."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], sums > 5, [0]])))
    return [float(sums[start:stop].max()) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def test_bars_are_as_high_as_their_figures_on_the_axis(faces: Faces) -> None:
    page = make_chart(faces, "bars", [[10, 20, 40]], has_values=True)
    tops = runs(red(page).sum(axis=0))
    assert (
        len(tops) == 3
        and tops[1] / tops[0] == pytest.approx(2, rel=0.03)
        and tops[2] / tops[0] == pytest.approx(4, rel=0.03)
    )
    centre = {word: page.word_boxes[number, 1::2].mean() for number, word in enumerate(page.words)}
    assert (centre["0"] - centre["40"]) == pytest.approx(tops[2], rel=0.12)
    assert {"Timber", "Ports", "Tons", "Ayr", "Bonn", "Cork", "0", "40"} <= set(page.words)
    tons = page.word_boxes[page.words.index("Tons")]
    assert tons[3] - tons[1] > tons[2] - tons[0]


def test_sideways_bars_are_as_long_as_their_figures(faces: Faces) -> None:
    page = make_chart(faces, "sideways", [[10, 20, 40]])
    lengths = runs(red(page).sum(axis=1))
    zero, last = (page.word_boxes[page.words.index(tick), ::2].mean() for tick in ("0", "40"))
    assert lengths[2] == pytest.approx(last - zero, abs=1.5)
    assert np.array(lengths) / lengths[0] == pytest.approx([1, 2, 4], rel=0.03)


def test_lines_rise_and_series_are_named(faces: Faces) -> None:
    page = make_chart(faces, "lines", [[10, 20, 40], [40, 20, 10]])
    rows, columns = np.nonzero(red(page) > 0.5)
    assert np.corrcoef(rows[columns > 150], columns[columns > 150])[0, 1] < -0.8
    assert {"old", "new"} <= set(page.words)


def test_slices_are_as_large_as_their_shares(faces: Faces) -> None:
    page = make_chart(faces, "pie", [[50, 25, 25]])
    pixels = page.pixels.astype(int)
    areas = [np.all(np.abs(pixels - colour) < 20, axis=2).sum() for colour in (RED, BLUE, (0, 255, 0))]
    assert areas[0] / sum(areas) == pytest.approx(0.5, abs=0.02) and areas[1] / sum(areas) == pytest.approx(
        0.25, abs=0.02
    )
    assert Counter(page.words)["25%"] == 2 and "50%" in page.words and "Bonn" in page.words


def test_forms_are_filled_in_part_in_the_pen_s_ink(faces: Faces) -> None:
    blocks, counts = [Block("paragraph", WORDS)], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        form = FormSetter(Invention(blocks, rng), make_style(), faces.draw(rng))
        form.pen = RED
        page = draw(form.set_form(380))
        lines = [line for line in page.text.split("\n") if line]
        assert len(lines) >= 4
        counts.append((len(lines), red(page).sum()))
    assert all(ink > 20 for _, ink in counts)
    assert len({lines for lines, _ in counts}) > 5
    assert (
        FormSetter(
            Invention([], np.random.default_rng(0)), make_style(), faces.draw(np.random.default_rng(0))
        ).set_form(300)
        == []
    )


def test_pictures_are_soft_and_differ() -> None:
    one, other = (make_picture(np.random.default_rng(seed), 200, 100).astype(int) for seed in (1, 2))
    assert one.shape == (100, 200, 3)
    assert np.abs(one - other).mean() > 10 and one.std() > 8
    assert np.abs(np.diff(one, axis=1)).mean() < 8
