"""Composed pages: every word in its place, nothing unsaid, and the same seed the same bytes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from moca_rag.train.canvas import Canvas, ComposedPage
from moca_rag.train.compose import Columns, PageStyle, compose_crop, compose_page
from moca_rag.train.documents import Block
from moca_rag.train.faces import Faces
from moca_rag.train.strips import Strip
from moca_rag.train.styles import TINY_PIXELS, Insert

from tests.fonts import write_fonts

FIXED_WORDS = {"figure", "table", "signature", "date", "high", "medium"}
TEXTS = Path(__file__).resolve().parents[2] / "examples" / "texts"


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    return Faces.open(write_fonts(tmp_path_factory.mktemp("fonts")))


@cache
def paragraphs() -> tuple[str, ...]:
    parts = [part for path in sorted(TEXTS.glob("*.md")) for part in path.read_text().split("\n\n")]
    return tuple(" ".join(part.split()) for part in parts if len(part) > 200 and part[0].isalpha() and part.isascii())


def make_blocks(seed: int, boxed: bool = False) -> list[Block]:
    """Every kind of block, of the demo corpus's words; boxed, as they stand on a page of two columns."""
    rng = np.random.default_rng(seed)
    some = [paragraphs()[int(number)] for number in rng.integers(0, len(paragraphs()), 8)]
    words = some[0].split()
    blocks = [
        Block("heading", " ".join(words[:4]), size=14),
        Block("paragraph", some[1], size=10),
        Block("list", "\n".join(" ".join(some[2].split()[start : start + 7]) for start in (0, 7, 14)), size=10),
        Block("heading", " ".join(words[4:8]), size=12),
        Block("code", "def main():\n    return 40 + 2\n\nmain()", size=9),
        Block("table", "Goods\tTons\nTimber\t120\nCoal\t1,400", size=9),
        Block("caption", "Figure 3. " + " ".join(words[8:14]), size=9),
        *(Block("paragraph", text, size=10) for text in some[3:]),
    ]
    if not boxed:
        return blocks
    places = [(0.1 + 0.42 * (number >= 6), 0.06 + 0.15 * (number % 6)) for number in range(len(blocks))]
    return [
        replace(block, box=(left, top, left + 0.38, top + 0.14))
        for block, (left, top) in zip(blocks, places, strict=True)
    ]


def plain_style(seed: int, **changes: object) -> PageStyle:
    """A sheet of running text without anything made up on it."""
    style = next(
        style
        for number in range(1000)
        if (style := PageStyle.draw(np.random.default_rng(1000 * seed + number))).layout == "flow"
    )
    plain = replace(
        style,
        insert="none",
        header=False,
        footer=False,
        box_rate=0.0,
        paper=(255, 255, 255),
        heading=replace(style.heading, numbered=False, capitals=False, trim="plain"),
        body=replace(style.body, ink=(0, 0, 0)),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def check_page(page: ComposedPage) -> None:
    """What holds for every page."""
    height, width = page.pixels.shape[:2]
    assert page.pixels.dtype == np.uint8 and height % 28 == width % 28 == 0
    assert tuple(page.text.split()) == page.words
    assert "".join(map(chr, page.letters)) == "".join(page.words)
    boxes, centres = page.word_boxes, page.letter_centres
    assert boxes.dtype == centres.dtype == np.float32 and boxes.shape == (len(page.words), 4)
    assert centres.shape == (len(page.letters), 2)
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (width, height)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    owners = np.repeat(boxes, [len(word) for word in page.words], axis=0)
    assert ((owners[:, :2] - 2 <= centres) & (centres <= owners[:, 2:] + 2)).all()


def overlap(boxes: np.ndarray) -> float:
    """By how many pixels, in their nearer direction, the two words overlap that overlap most."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).min(axis=2)
    np.fill_diagonal(shared, -1)
    return float(shared.max(initial=-1))


def test_on_two_hundred_random_pages_words_stay_inside_and_off_each_other(faces: Faces) -> None:
    kinds = Counter()
    for seed in range(200):
        page = compose_page(make_blocks(seed, boxed=seed % 3 == 0), faces, np.random.default_rng(seed))
        check_page(page)
        assert overlap(page.word_boxes) <= 0
        assert page.pixels.size // 3 <= TINY_PIXELS.max_pixels
        assert len(page.words) > 5
        kinds[page.kind] += 1
    assert set(kinds) == {"flow", "source", "slide", "table", "chart", "form", "picture"}
    assert kinds["flow"] > 40 and min(kinds.values()) >= 5


def test_the_same_seed_gives_the_same_bytes_and_another_another_page(faces: Faces, tmp_path: Path) -> None:
    again = Faces.open(write_fonts(tmp_path))
    for seed in range(12):
        blocks = make_blocks(seed)
        one, two, other = (
            compose_page(blocks, some, np.random.default_rng(number))
            for some, number in ((faces, seed), (again, seed), (faces, seed + 1))
        )
        assert one.pixels.tobytes() == two.pixels.tobytes() and one.text == two.text
        assert one.word_boxes.tobytes() == two.word_boxes.tobytes()
        assert one.letter_centres.tobytes() == two.letter_centres.tobytes()
        assert one.pixels.tobytes() != other.pixels.tobytes()


@pytest.mark.parametrize("seed", range(8))
def test_all_that_fits_is_written_in_order_and_what_does_not_is_not_said(faces: Faces, seed: int) -> None:
    blocks = [block for block in make_blocks(seed) if block.kind in ("heading", "paragraph")]
    wanted = " ".join(block.text for block in blocks).split()
    roomy = compose_page(blocks[:2], faces, np.random.default_rng(seed), plain_style(seed, columns=1))
    assert list(roomy.words) == " ".join(block.text for block in blocks[:2]).split()
    assert roomy.text == "\n\n".join(block.text for block in blocks[:2])
    style = plain_style(seed, columns=1, height=336)
    small = compose_page(blocks, faces, np.random.default_rng(seed), style)
    assert 0 < len(small.words) < len(wanted)
    assert list(small.words) == wanted[: len(small.words)]


@pytest.mark.parametrize("seed", range(6))
def test_ink_stands_at_every_letter_and_nowhere_else(faces: Faces, seed: int) -> None:
    page = compose_page(make_blocks(seed), faces, np.random.default_rng(seed), plain_style(seed, table_rules="none"))
    dark = page.pixels.min(axis=2) < 200
    said = np.zeros_like(dark)
    for left, top, right, bottom in page.word_boxes.round().astype(int):
        said[max(top - 3, 0) : bottom + 3, max(left - 3, 0) : right + 3] = True
    assert not (dark & ~said).any()
    for letter, (x, y) in zip(page.letters, page.letter_centres, strict=True):
        if chr(letter).isalnum():
            column, row = int(x), int(y)
            assert dark[max(row - 4, 0) : row + 5, max(column - 2, 0) : column + 3].any(), chr(letter)


def test_columns_part_the_words_by_a_gutter(faces: Faces) -> None:
    style = plain_style(1, columns=2, width=616, height=812, margins=(50.0, 50.0, 50.0, 50.0), gutter=24.0)
    style = replace(style, body=replace(style.body, size=9.0, leading=11.0))
    page = compose_page(make_blocks(3)[1:] * 2, faces, np.random.default_rng(4), style)
    left, right = page.word_boxes[:, 0], page.word_boxes[:, 2]
    in_one, in_two = right <= 296.5, left >= 319.5
    across = ~in_one & ~in_two
    assert in_one.sum() > 100 and in_two.sum() > 50
    # Only a head that spans both columns crosses the gutter, above all else.
    assert page.word_boxes[across, 3].max(initial=0) <= page.word_boxes[in_two & (page.word_boxes[:, 1] > 200), 1].min()


def test_a_first_block_too_long_to_span_the_columns_stands_in_the_first(faces: Faces) -> None:
    text = " ".join(paragraphs()[:8])
    for seed in range(6):
        style = plain_style(seed, columns=2, width=616, height=812)
        page = compose_page([Block("paragraph", text)], faces, np.random.default_rng(seed), style)
        assert list(page.words[:40]) == text.split()[:40]


def test_a_heading_is_never_the_last_of_a_column() -> None:
    drawn: list[tuple[str, float, float]] = []

    def strip(name: str, height: float, binds: bool = False, gap: float = 0.0) -> Strip:
        return Strip(height, lambda canvas, left, top: drawn.append((name, left, top)), gap, binds=binds)

    columns = Columns(Canvas(280, 112, (255, 255, 255)), [(10, 10, 100, 100), (110, 10, 200, 100)])
    assert columns.add([strip("text", 70)])
    assert columns.add([strip("head", 10, binds=True, gap=5)])
    assert columns.add([strip("line", 10, gap=3)])
    assert columns.add([strip("tall", 95)])
    assert not columns.add([strip("long", 80)])
    assert drawn == [("text", 10, 10), ("head", 110, 10), ("line", 110, 23)]


def test_blocks_with_boxes_stand_in_them_at_sizes_in_proportion(faces: Faces) -> None:
    blocks = [
        Block("heading", "Harbour", (0.1, 0.1, 0.9, 0.16), 20),
        Block("paragraph", paragraphs()[0][:300], (0.1, 0.2, 0.45, 0.4), 10),
        Block("paragraph", paragraphs()[1][:300], (0.55, 0.2, 0.9, 0.4), 10),
    ]
    style = plain_style(2, layout="source")
    page = compose_page(blocks, faces, np.random.default_rng(2), style)
    assert page.kind == "source"
    assert list(page.words[:10]) == " ".join(block.text for block in blocks).split()[:10]
    shares = page.word_boxes / np.tile((style.width, style.height), 2)
    second = len(page.words) - list(reversed(page.words)).index(paragraphs()[1].split()[0]) - 1
    for (left, top, right, bottom), start, stop in (
        (blocks[0].box or (), 0, 1),
        (blocks[1].box or (), 1, second),
        (blocks[2].box or (), second, len(page.words)),
    ):
        part = shares[start:stop]
        assert (part[:, :2] >= (left - 0.002, top - 0.002)).all() and (
            part[:, 2:] <= (right + 0.002, bottom + 0.02)
        ).all()
    heights = page.word_boxes[:, 3] - page.word_boxes[:, 1]
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.15)
    crowded = replace(blocks[1], text=" ".join(paragraphs()[:4]), size=30)
    cut = compose_page([blocks[0], crowded, blocks[2]], faces, np.random.default_rng(2), style)
    in_column = cut.word_boxes[cut.word_boxes[:, 0] < 0.46 * style.width]
    assert in_column[:, 3].max() < 0.45 * style.height
    flowing = compose_page([replace(block, box=None) for block in blocks], faces, np.random.default_rng(2), style)
    assert flowing.kind == "flow"


@pytest.mark.parametrize("insert", ["chart", "table", "form", "picture"])
def test_what_is_made_up_is_known_to_the_word(faces: Faces, insert: Insert) -> None:
    blocks = [Block("paragraph", paragraphs()[0][:160])]
    for seed in range(10):
        bare = plain_style(seed, columns=1, indent=0.0, emphasis=0.0)
        without = compose_page(blocks, faces, np.random.default_rng(seed), bare)
        page = compose_page(blocks, faces, np.random.default_rng(seed), replace(bare, insert=insert))
        check_page(page)
        assert page.kind == insert and overlap(page.word_boxes) <= 0
        added = len(page.words) - len(without.words)
        assert added >= (3 if insert == "picture" else 6)
        source = {word.strip(".,:;()'").lower() for word in blocks[0].text.split()}
        words = {word.strip(".,:;()'").lower() for word in page.words}
        assert not {word for word in words - source - FIXED_WORDS if word.isalpha() and len(word) > 3}


def test_a_page_without_words_is_blank_and_a_style_may_ask_for_anything(faces: Faces) -> None:
    for seed in range(40):
        style = replace(PageStyle.draw(np.random.default_rng(seed)), footer=False)
        for blocks in (
            [],
            [Block("paragraph", "漢字")],
            [Block("heading", ""), Block("table", "\t\n"), Block("list", "\n")],
        ):
            page = compose_page(blocks, faces, np.random.default_rng(seed), style)
            assert not [word for word in page.words if not word.isdigit()]


def test_styles_are_those_of_real_pages() -> None:
    styles = [PageStyle.draw(np.random.default_rng(seed)) for seed in range(600)]
    sheets = [style for style in styles if style.layout != "slide"]
    sizes = np.array([style.body.size for style in sheets])
    assert (sizes >= 7).all() and (sizes <= 16).all()
    assert ((sizes >= 9) & (sizes <= 13.5)).mean() > 0.55
    assert 0.08 < 1 - len(sheets) / len(styles) < 0.18
    assert {style.columns for style in sheets} == {1, 2, 3}
    assert {style.body.align for style in sheets} == {"left", "justified"}
    assert 0.4 < np.mean([style.layout == "source" for style in sheets]) < 0.6
    assert all(style.width * style.height <= TINY_PIXELS.max_pixels for style in styles)
    shapes = {(style.height, style.width) for style in styles}
    assert len(shapes) >= 7 and any(height < width for height, width in shapes)
    contrasts = [abs(sum(style.paper) - sum(style.body.ink)) / 3 for style in styles]
    assert min(contrasts) > 100


def words_of_crops() -> Sequence[str]:
    return [word for text in paragraphs() for word in text.split()]


def test_crops_are_full_of_the_words_in_order(faces: Faces) -> None:
    words = words_of_crops()
    fullness, heights = [], []
    for seed in range(100):
        page = compose_crop(words[7 * seed :], faces, np.random.default_rng(seed))
        check_page(page)
        assert page.kind == "crop" and page.pixels.shape == (112, 448, 3)
        assert overlap(page.word_boxes) <= 0
        wanted = [word for word in words[7 * seed :][: len(page.words) + 2] if faces.text[0].regular.has(word)]
        assert list(page.words) == wanted[: len(page.words)]
        heights.append(page.word_boxes[0, 3] - page.word_boxes[0, 1])
        fullness.append(page.word_boxes[:, 2].max() / 448 * page.word_boxes[:, 3].max() / 112)
    assert np.mean(fullness) > 0.75
    assert min(heights) < 9 and max(heights) > 20
    assert np.mean(np.array(heights) < 14) > 0.5
    large = compose_crop(words, faces, np.random.default_rng(1), width=280, height=224)
    check_page(large)
    assert large.pixels.shape == (224, 280, 3)
