"""What is drawn stands where it is said to stand."""

import numpy as np
import pytest
from moca_rag.train.canvas import Canvas, ComposedPage
from moca_rag.train.faces import Face, Faces
from numpy.typing import NDArray

from tests.fonts import write_fonts

BLACK, WHITE = (0, 0, 0), (255, 255, 255)


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Face:
    return Faces.open(write_fonts(tmp_path_factory.mktemp("fonts"))).text[0].regular


def darkness(page: ComposedPage) -> NDArray[np.int64]:
    return 255 - page.pixels[..., 0].astype(int)


@pytest.mark.parametrize("size", [8.0, 10.25, 13.5, 24.0])
def test_letter_centres_are_the_middle_of_the_ink_to_half_a_pixel(face: Face, size: float) -> None:
    letters = "omHWfrjl1.Qy"
    canvas = Canvas(560, 56, WHITE)
    lefts = [10.3 + 45.37 * number for number in range(len(letters))]
    canvas.write([face.shape(letter) for letter in letters], lefts, 35.8, size, BLACK)
    page = canvas.finish("")
    ink = darkness(page)
    for number, (x, y) in enumerate(page.letter_centres):
        start = max(round(lefts[number]) - 8, 0)
        columns = ink[:, start : start + 40].sum(axis=0) / ink[:, start : start + 40].max()
        inked = np.flatnonzero(columns)
        assert x == pytest.approx(start + (inked[0] + inked[-1] + 1) / 2, abs=0.5)
        assert y == pytest.approx(35.8 - face.x_height * size / 2, abs=0.25)


def test_a_word_is_set_letter_by_letter_at_its_pens(face: Face) -> None:
    together, alone = Canvas(112, 56, WHITE), Canvas(112, 56, WHITE)
    piece = face.shape("minimum")
    together.write([piece], [10], 30, 12, BLACK)
    pages = []
    for pen, letter in zip(piece.pens, "minimum", strict=False):
        alone = Canvas(112, 56, WHITE)
        alone.write([face.shape(letter)], [10 + pen * 12], 30, 12, BLACK)
        pages.append(alone.finish(""))
    page = together.finish("")
    assert page.letter_centres == pytest.approx(np.concatenate([one.letter_centres for one in pages]), abs=0.26)
    # Neighbours share a column here and there, which is darker than either.
    assert np.abs(darkness(page) - np.max([darkness(one) for one in pages], axis=0)).max() < 140
    assert "".join(map(chr, page.letters)) == "minimum" and page.words == ("minimum",)
    left, top, right, bottom = page.word_boxes[0]
    assert (left, right) == pytest.approx((10, 10 + piece.width * 12), abs=0.25)
    rows, columns = np.nonzero(darkness(page))
    assert left - 1 <= columns.min() and columns.max() + 1 <= right + 1
    assert top - 1 <= rows.min() and rows.max() + 1 <= bottom + 1


def test_type_grows_by_quarters_of_a_pixel(face: Face) -> None:
    inks = []
    for size in (10.0, 10.25, 10.5):
        canvas = Canvas(224, 28, WHITE)
        canvas.write([face.shape("Harbourmasters")], [10], 20, size, BLACK)
        inks.append(darkness(canvas.finish("")).sum())
    assert inks[1] / inks[0] == pytest.approx(1.05, abs=0.035) and inks[2] / inks[0] == pytest.approx(1.10, abs=0.035)


def test_an_upward_line_is_the_level_one_turned_against_the_clock(face: Face) -> None:
    level, upward = Canvas(112, 112, WHITE), Canvas(112, 112, WHITE)
    pieces = [face.shape(word) for word in ("Tons", "sold")]
    level.write(pieces, [20, 60], 50, 13, BLACK)
    upward.write(pieces, [20, 60], 50 + 42, 13, BLACK, upward=True)
    one, other = level.finish(""), upward.finish("")
    # (x, y) goes to (20 + y - 50, 92 - (x - 20)): a turn of the picture, then a shift of whole pixels.
    turned = np.roll(np.rot90(darkness(one)), (0, -30), axis=(0, 1))
    assert np.array_equal(turned, darkness(other))
    x, y = one.letter_centres.T
    assert other.letter_centres == pytest.approx(np.column_stack([y - 30, 112 - x]))
    left, top, right, bottom = one.word_boxes.T
    assert other.word_boxes == pytest.approx(np.column_stack([top - 30, 112 - right, bottom - 30, 112 - left]))


def test_a_word_that_would_leave_the_picture_or_stand_on_another_is_not_there(face: Face) -> None:
    canvas = Canvas(112, 56, WHITE)
    word = face.shape("word")
    canvas.write([word, face.shape("other"), word, word], [40, 42, 95, -3], 30, 12, BLACK)
    canvas.write([word], [40], 5, 12, BLACK)
    canvas.write([word], [40], 54.5, 12, BLACK)
    page, alone = canvas.finish(""), Canvas(112, 56, WHITE)
    alone.write([word], [40], 30, 12, BLACK)
    assert page.words == ("word",) and page.text == "word"
    assert len(page.word_boxes) == 1 and len(page.letter_centres) == 4
    assert np.array_equal(page.pixels, alone.finish("").pixels)


def test_words_may_touch_but_for_a_quarter_of_a_pixel(face: Face) -> None:
    canvas = Canvas(112, 56, WHITE)
    word = face.shape("word")
    width = round(4 * word.width * 12) / 4
    canvas.write([word, word], [10, 10 + width], 30, 12, BLACK)
    canvas.write([word], [10], 30 + 12 * (face.ascent + face.descent) + 0.25, 12, BLACK)
    assert len(canvas.finish("").words) == 3
    canvas.write([word], [10 + 2 * width - 0.25], 30, 12, BLACK)
    assert len(canvas.finish("").words) == 3


def test_shapes_are_inked_to_their_edges_and_shared_pixels_by_their_share() -> None:
    canvas = Canvas(56, 28, WHITE)
    canvas.rectangle((4.5, 6, 10, 9.25), BLACK)
    page = darkness(canvas.finish(""))
    assert page[6, 4:11].tolist() == [128, 255, 255, 255, 255, 255, 0]
    assert page[5:11, 7].tolist() == [0, 255, 255, 255, 64, 0]
    assert page.sum() == pytest.approx(255 * 5.5 * 3.25, rel=0.01)


def test_lines_and_polygons_cover_what_they_should() -> None:
    canvas = Canvas(112, 112, WHITE)
    canvas.fill([(20, 20), (80, 20), (20, 80)], BLACK)
    assert darkness(canvas.finish("")).sum() / 255 == pytest.approx(60 * 60 / 2, rel=0.02)
    canvas = Canvas(112, 112, WHITE)
    canvas.stroke([(20, 20), (80, 100)], BLACK, 2)
    assert darkness(canvas.finish("")).sum() / 255 == pytest.approx(2 * 100, rel=0.15)
    canvas = Canvas(112, 112, WHITE)
    canvas.rule((10, 50), 40, BLACK)
    canvas.rule((70, 50), -40, BLACK)
    page = darkness(canvas.finish(""))
    assert page[:60, 10:50].sum() == pytest.approx(255 * 40, rel=0.01)
    assert page[50:90, 60:].sum() == pytest.approx(255 * 40, rel=0.01)


def test_the_text_keeps_what_parts_the_words(face: Face) -> None:
    canvas = Canvas(224, 56, WHITE)
    joints = ("\n\n", " ", "\t", "\n")
    canvas.write(
        [face.shape(word, joint) for word, joint in zip("abcd", joints, strict=True)], [5, 25, 45, 65], 30, 12, BLACK
    )
    assert canvas.finish("kind").text == "a b\tc\nd"
    assert canvas.finish("kind").kind == "kind"
    empty = Canvas(28, 28, WHITE).finish("")
    assert empty.word_boxes.shape == (0, 4) and empty.letter_centres.shape == (0, 2) and empty.letters.shape == (0,)
