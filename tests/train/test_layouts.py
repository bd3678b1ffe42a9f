"""Pages of PDFs as blocks: kinds told from type and place, words whole, heads left out."""

import gzip
from pathlib import Path

import pymupdf
import pytest
from moca_rag.train.documents import Block
from moca_rag.train.layouts import read_layout

PROSE = (
    "The harbour ferry leaves at seven and carries forty wagons of timber to the infor-",
    "mation desk on the other side. Its crew is paid by the ton and not by the hour.",
)


def write_pdf(path: Path, num_pages: int = 1) -> Path:
    """Pages with a running head, a heading, prose, a list, code, a caption, a table, and three that say nothing."""
    document = pymupdf.open()
    for number in range(1, num_pages + 1):
        page = document.new_page(width=400, height=800)
        page.insert_text((40, 30), f"Harbour manual, page {number}", fontsize=9)
        page.insert_text((40, 80), f"{number}.2 Timetable of line {'abcdefgh'[number]}", fontsize=16)
        for line, text in enumerate(PROSE):
            page.insert_text((40, 110 + 12 * line), text, fontsize=10)
        page.insert_text((40, 160), "A second paragraph begins below some empty space.", fontsize=10)
        for line, text in enumerate(("• coal of the north", "• timber of the south")):
            page.insert_text((50, 190 + 12 * line), text, fontsize=10)
        page.insert_text((40, 240), "while ferry:", fontsize=9, fontname="cour")
        page.insert_text((40 + 4 * 5.04, 250), "load(timber)", fontsize=9, fontname="cour")
        page.insert_text((40, 300), "Table 3: Wagons by year and kind", fontsize=10)
        for row, cells in enumerate((("year", "coal", "timber"), ("1901", "12", "40"), ("1902", "15", "38"))):
            for column, cell in enumerate(cells):
                page.insert_text((40 + 120 * column, 330 + 14 * row), cell, fontsize=10)
        page.insert_text((40, 420), "= ( + ) - < 7 > x", fontsize=10)
        page.insert_text((40, 520), "Timetables of all lines . . . . . . . . . 12", fontsize=10)
        page.insert_text((40, 560), "Too small to be read by anybody", fontsize=1)
        page.insert_text((40, 700), f"Crew and pay {number}{chr(96 + number)}", fontsize=10, fontname="hebo")
    path.parent.mkdir(parents=True, exist_ok=True)
    document.save(path)
    document.close()
    return path


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> list[Block]:
    pages = read_layout(write_pdf(tmp_path_factory.mktemp("layout") / "a.pdf", 2))
    assert [page.number for page in pages] == [1, 2]
    return list(pages[0].blocks)


def test_each_kind_is_told_from_type_and_place(blocks: list[Block]) -> None:
    assert [(block.kind, block.text) for block in blocks] == [
        ("heading", "1.2 Timetable of line b"),
        ("paragraph", " ".join(PROSE).replace("infor- mation", "information")),
        ("paragraph", "A second paragraph begins below some empty space."),
        ("list", "coal of the north\ntimber of the south"),
        ("code", "while ferry:\n    load(timber)"),
        ("caption", "Table 3: Wagons by year and kind"),
        ("table", "year\tcoal\ttimber\n1901\t12\t40\n1902\t15\t38"),
        ("heading", "Crew and pay 1a"),
    ]


def test_boxes_are_shares_of_the_page_and_sizes_points(blocks: list[Block]) -> None:
    heading, prose = blocks[:2]
    assert (heading.size, prose.size) == (16, 10)
    assert heading.box is not None and prose.box is not None
    assert heading.box[0] == pytest.approx(0.1, abs=0.01) and heading.box[3] == pytest.approx(80 / 800, abs=0.01)
    assert prose.box[1] == pytest.approx(100 / 800, abs=0.01) and prose.box[3] == pytest.approx(124 / 800, abs=0.01)


def test_of_a_turned_page_what_is_seen_upright_is_read_with_the_boxes_that_are_seen(tmp_path: Path) -> None:
    document = pymupdf.open()
    page = document.new_page(width=400, height=800)
    page.insert_text((100, 700), "A wide table was turned to fit", fontsize=10, rotate=90)  # runs upwards
    page.insert_text((40, 30), "A note that now runs downwards", fontsize=10)
    page.set_rotation(90)
    document.save(tmp_path / "turned.pdf")
    (block,) = read_layout(tmp_path / "turned.pdf")[0].blocks
    assert block.text == "A wide table was turned to fit" and block.box is not None
    assert block.box[0] == pytest.approx(100 / 800, abs=0.01) and block.box[3] == pytest.approx(100 / 400, abs=0.02)


def test_heads_stay_on_a_single_page_and_go_where_they_return(tmp_path: Path) -> None:
    texts = [block.text for block in read_layout(write_pdf(tmp_path / "one.pdf"))[0].blocks]
    assert texts[0] == "Harbour manual, page 1"
    for page in read_layout(write_pdf(tmp_path / "three.pdf", 3)):
        assert not any("Harbour manual" in block.text for block in page.blocks)


def test_pages_are_taken_at_even_distances_and_from_gzipped_files(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", 7)
    (tmp_path / "a.pdf.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert [page.number for page in read_layout(tmp_path / "a.pdf.gz", 3)] == [2, 4, 6]
    assert read_layout(tmp_path / "a.pdf.gz", 3)[0].blocks == read_layout(path)[1].blocks


def test_columns_follow_one_another_and_are_no_table(tmp_path: Path) -> None:
    document = pymupdf.open()
    page = document.new_page(width=400, height=400)
    for column in (0, 1):
        text = " ".join(f"{'left' if column == 0 else 'right'}{number}" for number in range(40))
        page.insert_textbox(pymupdf.Rect(20 + 190 * column, 20, 190 + 190 * column, 300), text, fontsize=10)
    document.save(tmp_path / "two.pdf")
    first, second = read_layout(tmp_path / "two.pdf")[0].blocks
    assert first.kind == second.kind == "paragraph"
    assert first.text.split()[-1] == "left39" and second.text.split()[0] == "right0"


def test_a_numbered_listing_is_code_and_a_large_line_in_its_face_a_heading(tmp_path: Path) -> None:
    document = pymupdf.open()
    page = document.new_page(width=400, height=400)
    page.insert_text((40, 50), "load_timber", fontsize=16, fontname="cour")
    page.insert_text((40, 80), "How the wagons are loaded is told here in a few words.", fontsize=10)
    for line, text in enumerate(("for wagon in train:", "fi", "do"), 1998):
        page.insert_text((40, 112 + 12 * (line - 1998)), str(line), fontsize=10)
        page.insert_text((70, 112 + 12 * (line - 1998)), text, fontsize=10, fontname="cour")
    document.save(tmp_path / "code.pdf")
    kinds = {block.kind: block.text for block in read_layout(tmp_path / "code.pdf")[0].blocks}
    assert kinds["heading"] == "load_timber"
    assert kinds["code"] == "1998 for wagon in train:\n1999 fi\n2000 do"


def test_an_indent_begins_a_paragraph_and_white_space_a_listing(tmp_path: Path) -> None:
    document = pymupdf.open()
    page = document.new_page(width=400, height=400)
    lines = ("The ferry leaves at seven.", "It carries forty wagons of timber,", "and as many of coal and copper.")
    for line, (indent, text) in enumerate(zip((0, 15, 0), lines, strict=True)):
        page.insert_text((40 + indent, 50 + 12 * line), text, fontsize=10)
    for top in (100, 112, 124, 200, 212):
        page.insert_text((40, top), f"load({top})", fontsize=10, fontname="cour")
    document.save(tmp_path / "a.pdf")
    assert [block.text for block in read_layout(tmp_path / "a.pdf")[0].blocks] == [
        lines[0],
        " ".join(lines[1:]),
        "load(100)\nload(112)\nload(124)",
        "load(200)\nload(212)",
    ]
