"""Lines, stacks and tables: where their words end up, and what finds no room."""

from itertools import pairwise

import numpy as np
import pytest
from moca_rag.train.canvas import Canvas, ComposedPage
from moca_rag.train.faces import Face, Faces, Family
from moca_rag.train.strips import (
    LabelPen,
    Strip,
    Voice,
    enclose,
    part_strips,
    set_beside,
    set_text,
    shape_words,
    stack_strips,
)
from moca_rag.train.styles import TableRules
from moca_rag.train.tabular import TableStyle, set_table, share_width

from tests.fonts import write_fonts

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
VOICE = Voice(12.0, 16.0, BLACK)
TEXT = "The harbour ferry leaves at seven and carries forty wagons of timber to the other side of the bay"


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    faces = Faces.open(write_fonts(tmp_path_factory.mktemp("fonts")))
    return next(family for family in faces.proportional if family.name == "Nimbus Sans")


@pytest.fixture(scope="module")
def face(family: Family) -> Face:
    return family.regular


def draw(strips: list[Strip], width: int = 280, height: int = 280) -> ComposedPage:
    canvas = Canvas(width, height, WHITE)
    stack_strips(strips).draw(canvas, 20, 20)
    return canvas.finish("")


def lines_of(page: ComposedPage) -> list[list[int]]:
    """The numbers of the words on each line."""
    tops = sorted(set(page.word_boxes[:, 1].tolist()))
    return [np.flatnonzero(page.word_boxes[:, 1] == top).tolist() for top in tops]


def test_lines_are_filled_as_far_as_the_width_goes(face: Face) -> None:
    page = draw(set_text(shape_words(TEXT, face, "\n"), 200, VOICE))
    assert " ".join(page.words) == page.text == TEXT
    lines = lines_of(page)
    assert [word for line in lines for word in line] == list(range(len(page.words)))
    for line, after in pairwise(lines):
        right = page.word_boxes[line[-1], 2] - 20
        first = page.word_boxes[after[0]]
        assert right <= 200 < right + face.space * 12 + first[2] - first[0] + 0.5
        assert first[1] - page.word_boxes[line[0], 1] == pytest.approx(16, abs=0.26)


def test_justified_lines_end_at_the_width_but_for_the_last_and_the_loose(face: Face) -> None:
    voice = Voice(12.0, 16.0, BLACK, "justified")
    page = draw(set_text(shape_words(TEXT + " unpronounceabilities", face, "\n"), 200, voice))
    rights = [page.word_boxes[line[-1], 2] for line in lines_of(page)]
    assert rights[:2] == pytest.approx([220, 220], abs=0.3)
    assert rights[-1] < 180
    loose = draw(set_text(shape_words("a wide unpronounceabilities", face, "\n"), 130, voice))
    assert loose.word_boxes[1, 2] < 70


@pytest.mark.parametrize(("align", "place"), [("left", 0.0), ("centre", 0.5), ("right", 1.0)])
def test_lines_are_aligned(face: Face, align: str, place: float) -> None:
    page = draw(set_text(shape_words("timber", face, "\n"), 200, Voice(12.0, 16.0, BLACK, align)))  # type: ignore[arg-type]
    left, _, right, _ = page.word_boxes[0]
    assert left == pytest.approx(20 + place * (200 - (right - left)), abs=0.5)


def test_a_word_wider_than_the_line_is_left_out_and_an_indent_moves_the_first_line_alone(face: Face) -> None:
    words = "a " + "incomprehensibilities" * 2 + " few more words than one line takes here"
    page = draw(set_text(shape_words(words, face, "\n"), 150, VOICE, indent=25))
    assert page.words == ("a", *"few more words than one line takes here".split())
    lefts = [page.word_boxes[line[0], 0] for line in lines_of(page)]
    assert lefts[0] == pytest.approx(45, abs=0.2) and set(lefts[1:]) == {20}


def test_tight_lines_are_spread_until_words_do_not_touch(face: Face) -> None:
    page = draw(set_text(shape_words(TEXT, face, "\n"), 200, Voice(12.0, 4.0, BLACK)))
    assert " ".join(page.words) == TEXT


def test_white_between_strips_is_the_larger_of_what_both_want() -> None:
    tops: list[tuple[str, float]] = []

    def block(name: str, gap: float, below: float) -> Strip:
        return Strip(10, lambda canvas, left, top: tops.append((name, top)), gap, below)

    stack = stack_strips([block("a", 5, 8), block("b", 3, 0), block("c", 6, 2)])
    stack.draw(Canvas(28, 28, WHITE), 0, 100)
    assert tops == [("a", 100), ("b", 118), ("c", 134)]
    assert (stack.height, stack.gap, stack.below) == (44, 5, 2)
    assert [strip.gap for strip in part_strips([stack, stack], 9, 9)] == [9, 5]
    assert part_strips([stack], 1, 9)[0].below == 9
    assert part_strips([], 1) == []


def test_stacks_stand_side_by_side_and_boxes_around_what_they_hold(face: Face) -> None:
    cells = [
        (0.0, set_text(shape_words("one", face, "\n"), 50, VOICE)),
        (80.0, set_text(shape_words("two", face, "\t"), 50, VOICE)),
    ]
    strip = enclose([set_beside(cells)], 150, 6, (200, 220, 240), (255, 0, 0))
    page = draw([strip])
    assert page.text == "one\ttwo" and strip.height == 28
    assert page.word_boxes[:, 0].tolist() == [26, 106]
    assert page.word_boxes[0, 1] == page.word_boxes[1, 1]
    assert page.pixels[23, 100].tolist() == [200, 220, 240]
    assert page.pixels[30, 169:172, 0].min() >= 200 and page.pixels[30, 175].tolist() == [255, 255, 255]


def test_labels_are_anchored_and_cut_to_their_room(face: Face) -> None:
    canvas = Canvas(280, 112, WHITE)
    pen = LabelPen(canvas, face, 12.0, BLACK)
    width = pen.write("Tons sold", (140, 30), "centre")
    assert pen.write("Tons sold", (270, 50), "right", room=35) < 35
    assert pen.write("漢字", (20, 70)) == 0
    pen.write("up", (40, 90), upward=True)
    page = canvas.finish("")
    assert page.text == "Tons sold\nTons\nup"
    assert (page.word_boxes[0, 0] + page.word_boxes[1, 2]) / 2 == pytest.approx(140, abs=0.3)
    assert page.word_boxes[1, 2] - page.word_boxes[0, 0] == pytest.approx(width, abs=0.5)
    assert page.word_boxes[2, 2] == pytest.approx(270, abs=0.3)
    assert page.word_boxes[3, 3] == pytest.approx(90, abs=0.3)


def table_page(family: Family, text: str, width: float = 240, rules: TableRules = "none") -> ComposedPage:
    style = TableStyle(rules, (255, 0, 0), (0, 255, 0), bold_head=True, centred=False)
    return draw(set_table(text, family, width, VOICE, style))


def test_a_table_keeps_rows_and_columns_in_place_and_text(family: Family) -> None:
    text = "Name\tTons\nTimber\t7\nCoal\t1,200\n\t30"
    page = table_page(family, text)
    assert page.text == "Name\tTons\nTimber\t7\nCoal\t1,200\n30"
    boxes = dict(zip(page.words, page.word_boxes, strict=True))
    assert boxes["Name"][0] == boxes["Timber"][0] == boxes["Coal"][0]
    assert boxes["7"][2] == pytest.approx(boxes["1,200"][2], abs=0.3)
    assert boxes["Tons"][2] == pytest.approx(boxes["1,200"][2], abs=0.3)
    assert boxes["Timber"][1] == boxes["7"][1] < boxes["Coal"][1] == boxes["1,200"][1]


def test_a_wide_table_is_shrunk_then_wrapped_then_left_out(family: Family) -> None:
    text = "Goods and where they come from\tWhere they are going to\nTimber from the northern valley\tSmelter at the harbour"
    wide, narrow = table_page(family, text, 400), table_page(family, text, 150)
    assert len(lines_of(wide)) == 2
    assert narrow.text.split() == text.split() and len(lines_of(narrow)) > 3
    assert narrow.word_boxes[:, 2].max() <= 170
    assert (narrow.word_boxes[0, 3] - narrow.word_boxes[0, 1]) < 0.8 * (wide.word_boxes[0, 3] - wide.word_boxes[0, 1])
    assert table_page(family, text, 60).words == ()
    assert set_table(" \n ", family, 200, VOICE, TableStyle("grid", BLACK, WHITE, False, False)) == []


@pytest.mark.parametrize(
    ("rules", "red", "green"), [("grid", 150, 0), ("lines", 90, 0), ("bands", 0, 800), ("none", 0, 0)]
)
def test_tables_have_the_rules_that_are_asked_for(family: Family, rules: TableRules, red: int, green: int) -> None:
    pixels = table_page(family, "Name\tTons\nTimber\t7\nCoal\t1,200", rules=rules).pixels.astype(int)
    inked = [(pixels[..., channel] - pixels[..., other]).clip(0).sum() / 255 for channel, other in ((0, 1), (1, 0))]
    assert inked[0] >= red and (red or inked[0] < 1)
    assert inked[1] >= green and (green or inked[1] < 1)


def test_columns_get_what_they_need_and_share_what_is_left() -> None:
    assert share_width([10, 20], [10, 60], 100) == [10, 60]
    assert share_width([10, 20, 30], [10, 60, 90], 110) == [10, 40, 60]
    assert share_width([60, 60], [80, 80], 110) == []
