"""Rows from PDFs: what becomes a query, what stays a negative, and that equal folders give equal rows."""

import random
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from moca_rag.train.passages import find_queries, read_paragraphs
from moca_rag.train.pdf_rows import PdfReport, PdfSettings, encode_page, interleave, write_pdf_rows
from moca_rag.train.rows import IMAGE_SLOT, CptRow, PairRow, decode_image
from moca_rag.train.schemas import PAGE_TEXT
from moca_rag.train.settings import Source
from moca_rag.train.sources import open_cpt, open_pairs

from moca_rag.errors import ConfigError
from moca_rag.records import PixelBudget
from moca_rag.render import open_document
from tests.makers import PAGE_WORDS, make_pdf, make_picture

HEADER = "Every page of every report says the same sentence at its top."


def make_report(path: Path, number: int, num_pages: int = 4) -> Path:
    """A report with a title, an outline, and on each page a header, a heading, a caption and two sentences."""
    document = pymupdf.open()
    for page_number in range(num_pages):
        page = document.new_page(width=640, height=420)
        name = f"{'abcdefgh'[number]}{'abcdefgh'[page_number]}"
        page.insert_text((30, 30), HEADER, fontsize=10)
        page.insert_text((30, 80), f"Results of section {name}", fontsize=20)
        page.insert_text((30, 98), f"{PAGE_WORDS[page_number]} This was seen in {name} by", fontsize=10)
        page.insert_text((30, 110), f"all {name} readers of the report.", fontsize=10)
        page.insert_text((30, 200), f"Figure {page_number + 1}: Wagons of timber in {name}", fontsize=10)
        page.insert_text((30, 260), "a1 1234 b2 1234 c3 1234 d4 1234 e5 1234 f6 1234.", fontsize=10)
    document.set_toc([[1, f"Outline entry of {number} bees", num_pages]])
    document.set_metadata(
        {"title": f"The harbour in the year {'one two three four five six seven eight'.split()[number]}"}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    document.save(path)
    return path


def pages_of(path: Path) -> dict[bytes, int]:
    document = open_document(path)
    images = [document.read_page(number + 1, PixelBudget()).image for number in range(document.info.num_pages)]
    document.close()
    return {image.tobytes(): number for number, image in enumerate(images) if image is not None}


def read_rows(out: Path) -> tuple[list[CptRow], list[PairRow]]:
    """All rows, those kept aside last."""
    names = ("", ".heldout")
    cpt = [row for name in names for row in open_cpt(Source(str(out / f"cpt{name}.parquet")))]
    return cpt, [row for name in names for row in open_pairs(Source(str(out / f"cl{name}.parquet"), negatives=9))]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    for number in range(4):
        make_report(folder / f"{number}.pdf", number)
    return folder


@pytest.fixture(scope="module")
def written(reports: Path) -> tuple[Path, PdfReport]:
    out = reports.parent / f"{reports.name}-rows"
    return out, write_pdf_rows(reports.glob("*.pdf"), out, PdfSettings(held_out=0.25, pairs_per_page=9))


def test_each_page_is_one_row_of_its_picture_and_its_text(written: tuple[Path, PdfReport], reports: Path) -> None:
    cpt, _ = read_rows(written[0])
    assert len(cpt) == 16
    drawn = {image for path in reports.glob("*.pdf") for image in pages_of(path)}
    assert {decode_image(row.images[0]).tobytes() for row in cpt} == drawn  # pixel for pixel what indexing sees
    for row in cpt:
        assert row.text.count(IMAGE_SLOT) == len(row.images) == 1
        assert "Results of section" in row.text
        assert f"by all {row.text.split('section ')[1][:2]} readers" in row.text
    starts = {row.text.startswith(IMAGE_SLOT) for row in cpt}
    assert starts == {True, False}


def test_a_query_stands_on_its_page_and_on_no_other(written: tuple[Path, PdfReport], reports: Path) -> None:
    _, pairs = read_rows(written[0])
    texts = {}
    for path in reports.glob("*.pdf"):
        document = open_document(path)
        for image, number in pages_of(path).items():
            texts[image] = " ".join(word.text for word in document.read_page(number + 1, None).words)
        document.close()
    assert {pair.task for pair in pairs} == {"pdf-title", "pdf-heading", "pdf-caption", "pdf-sentence"}
    for pair in pairs:
        own = texts[decode_image(pair.positive.images[0]).tobytes()]
        if pair.task in ("pdf-caption", "pdf-sentence"):
            assert [text for text in texts.values() if pair.query.text in text] == [own]
        assert pair.positive.text == PAGE_TEXT
        assert (pair.instruction, pair.query.images) == ("", ())
    asked = [pair.query.text for pair in pairs]
    assert len(set(asked)) == len(asked)
    assert HEADER not in asked
    assert PAGE_WORDS[0] not in asked  # each report says it
    assert "Outline entry of 2 bees" in asked
    assert "The harbour in the year three" in asked
    assert not any(text.startswith("a1 12") for text in asked)


def test_hard_negatives_are_the_other_pages_of_the_same_document(
    written: tuple[Path, PdfReport], reports: Path
) -> None:
    documents = [pages_of(path) for path in sorted(reports.glob("*.pdf"))]
    for pair in read_rows(written[0])[1]:
        own = decode_image(pair.positive.images[0]).tobytes()
        (document,) = (pages for pages in documents if own in pages)
        others = {decode_image(side.images[0]).tobytes() for side in pair.negatives}
        assert others == set(document) - {own}
        assert {side.text for side in pair.negatives} == {PAGE_TEXT}


def test_documents_are_kept_aside_whole(written: tuple[Path, PdfReport], reports: Path) -> None:
    out, report = written
    assert (report.documents, report.pages, report.failed) == (4, 16, [])
    assert report.rows["cpt.heldout.parquet"] == 4
    documents = [set(pages_of(path)) for path in reports.glob("*.pdf")]
    for stage in ("cpt", "cl"):
        open_rows = open_cpt if stage == "cpt" else open_pairs
        aside = open_rows(Source(str(out / f"{stage}.heldout.parquet")))
        images = {decode_image((row.images if stage == "cpt" else row.positive.images)[0]).tobytes() for row in aside}
        assert images in documents


def test_equal_documents_and_seeds_give_equal_files(reports: Path, tmp_path: Path) -> None:
    def write(name: str, seed: int) -> dict[str, bytes]:
        write_pdf_rows(reports.glob("*.pdf"), tmp_path / name, PdfSettings(seed=seed, pairs_per_page=1))
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    first = write("first", 1)
    assert set(first) == {"cpt.parquet", "cpt.heldout.parquet", "cl.parquet", "cl.heldout.parquet", "images.zip"}
    assert write("again", 1) == first
    assert write("other", 2) != first
    kinds = [pair.task for pair in read_rows(tmp_path / "first")[1]]
    assert len(kinds) == 16 and "pdf-sentence" not in kinds  # each page has something better


def test_what_is_there_twice_or_blank_is_left_out(tmp_path: Path) -> None:
    make_pdf(tmp_path / "docs" / "a.pdf", [PAGE_WORDS[0], "", PAGE_WORDS[1], PAGE_WORDS[0]])
    (tmp_path / "docs" / "b.pdf").write_bytes((tmp_path / "docs" / "a.pdf").read_bytes())
    report = write_pdf_rows((tmp_path / "docs").iterdir(), tmp_path / "out", PdfSettings(held_out=0))
    assert report.dropped == {"same document": 1, "blank page": 1, "same page": 1}
    assert (report.pages, report.rows) == (2, {"cpt.parquet": 2, "cl.parquet": 1})
    (pair,) = open_pairs(Source(str(tmp_path / "out" / "cl.parquet")))
    assert (pair.query.text, len(pair.negatives)) == (PAGE_WORDS[1], 1)


def test_bad_documents_are_reported_and_end_nothing(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    make_pdf(docs / "good.pdf", PAGE_WORDS[:2])
    make_pdf(docs / "locked.pdf", PAGE_WORDS[2:4], password="secret")
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7 and no more")
    (docs / "empty.pdf").touch()
    make_picture(docs / "scan.png")
    report = write_pdf_rows([*docs.iterdir(), docs / "gone.pdf"], tmp_path / "out", PdfSettings(held_out=0))
    failed = {(Path(failure.path).name, failure.code) for failure in report.failed}
    assert failed == {
        ("locked.pdf", "password_required"),
        ("broken.pdf", "broken"),
        ("empty.pdf", "empty_file"),
        ("gone.pdf", "unreadable"),
    }
    assert (report.documents, report.pages) == (2, 3)
    settings = PdfSettings(held_out=0, passwords=("wrong", "secret"))
    opened = write_pdf_rows(docs.iterdir(), tmp_path / "opened", settings)
    assert (opened.documents, opened.pages) == (3, 5)
    assert "secret" not in repr(settings)
    assert IMAGE_SLOT in {row.text for row in open_cpt(Source(str(tmp_path / "out" / "cpt.parquet")))}  # the scan


def test_a_run_that_fails_leaves_nothing_behind(reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zipfile.ZipFile.writestr", fail)
    with pytest.raises(OSError, match="No space"):
        write_pdf_rows(reports.glob("*.pdf"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_taken_folder_and_a_run_without_rows_are_refused(reports: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is there already"):
        write_pdf_rows(reports.glob("*.pdf"), reports)
    with pytest.raises(ConfigError, match="no row came out of 0 documents"):
        write_pdf_rows([], tmp_path / "out")
    with pytest.raises(ConfigError, match="held_out is 1"):
        write_pdf_rows([], tmp_path / "out", PdfSettings(held_out=1))
    assert list(tmp_path.iterdir()) == []
    locked = [make_pdf(tmp_path / name, PAGE_WORDS[:1], password="secret") for name in ("a.pdf", "b.pdf")]
    with pytest.raises(ConfigError, match=r"\(.*a.pdf is encrypted: give --password, and 1 more\)"):
        write_pdf_rows(locked, tmp_path / "out")


def test_one_stage_alone_writes_its_files_alone(reports: Path, tmp_path: Path) -> None:
    for stage in ("cpt", "cl"):
        report = write_pdf_rows(reports.glob("*.pdf"), tmp_path / stage, PdfSettings(stage=stage, held_out=0))  # type: ignore[arg-type]
        assert list(report.rows) == [f"{stage}.parquet"]
        assert {path.name for path in (tmp_path / stage).iterdir()} == {f"{stage}.parquet", "images.zip"}
        assert report.size == sum(path.stat().st_size for path in (tmp_path / stage).iterdir())


def test_paragraphs_end_at_gaps_and_at_other_sizes(reports: Path) -> None:
    document = open_document(reports / "0.pdf")
    paragraphs = read_paragraphs(document.read_page(1, None))
    document.close()
    assert [paragraph.text for paragraph in paragraphs] == [
        HEADER,
        "Results of section aa",
        f"{PAGE_WORDS[0]} This was seen in aa by all aa readers of the report.",
        "Figure 1: Wagons of timber in aa",
        "a1 1234 b2 1234 c3 1234 d4 1234 e5 1234 f6 1234.",
    ]
    assert list(find_queries(paragraphs).values()) == ["sentence", "heading", "sentence", "sentence", "caption"]
    drawn = {interleave(open_document(reports / "0.pdf").read_page(1, None), random.Random(seed)) for seed in range(40)}
    assert len(drawn) == 5  # before the text, or in one of its four gaps


def test_a_page_is_kept_without_loss_unless_that_costs_double() -> None:
    draw = np.random.default_rng(0)
    paper = np.full((280, 280, 3), 255, np.uint8)
    paper[::9, ::5] = 0
    data, suffix = encode_page(paper)
    assert suffix == "png"
    assert (decode_image(data, PixelBudget(28 * 28)) == paper).all()
    assert encode_page(draw.integers(0, 255, (280, 280, 3), dtype=np.uint8))[1] == "jpg"
