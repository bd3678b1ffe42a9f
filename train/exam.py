"""Writes composed pages with questions that one of them answers: a judged folder, for `moca eval folder`."""

import re
import shutil
from pathlib import Path

import numpy as np
import pymupdf
from PIL import Image

from moca_rag.errors import ConfigError
from moca_rag.judged import PDFS
from moca_rag.pixels import DOTS_PER_INCH, POINTS_PER_INCH
from moca_rag.progress import Reporter

from .asking import Sheet, check_exam, count_keywords, is_searchable, write_questions
from .canvas import ComposedPage
from .compose import SENTENCE_END, compose_page
from .corruption import derive_seed
from .documents import PageText, read_documents
from .faces import Faces
from .passages import HEADING_WORDS, SENTENCE_WORDS
from .scanning import scan_page
from .settings import ExamReport, ExamSettings

POINTS = POINTS_PER_INCH / DOTS_PER_INCH  # of a pixel, so that a page is drawn again pixel by pixel
INVISIBLE = 3  # how a PDF writes text that is there to be searched only


def write_exam(documents: Path, faces: Path, out: Path, settings: ExamSettings, reporter: Reporter) -> ExamReport:
    """Write `pdfs/` (a PNG or PDF a page), `queries.jsonl` and `qrels.tsv` into a new folder.

    Each page is asked for by a sentence, a heading and keywords of its own: text that stands on one page only. Raises
    ConfigError where `out` is taken, the share is none, or the documents have too few pages with enough words.
    """
    check_exam(out, settings)
    pages = [page for document in read_documents(documents) for page in document.pages]
    pages = [page for page in pages if page.num_words >= settings.min_words]
    if len(pages) < settings.pages:
        raise ConfigError(
            f"{documents} has {len(pages):,} pages of {settings.min_words} words or more: give --pages of at most that"
        )
    chosen = np.random.default_rng(settings.seed).permutation(len(pages))[: settings.pages]
    try:
        (out / PDFS).mkdir(parents=True)
        found = Faces.open(faces)
        reporter.start("pages", len(chosen))
        sheets = [_write_page(pages[place], found, out, settings, reporter) for place in np.sort(chosen).tolist()]
        questions = write_questions(out, sheets, settings)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return ExamReport(out, len(sheets), questions)


def _write_page(text: PageText, faces: Faces, out: Path, settings: ExamSettings, reporter: Reporter) -> Sheet:
    rng = np.random.default_rng(derive_seed(settings.seed, text.number, text.document))
    page = compose_page(text.blocks, faces, rng)
    name = re.sub(r"\W+", "-", f"{text.document}-{text.number}").strip("-").lower()
    searchable = is_searchable(name, settings)
    file = f"{name}.{'pdf' if searchable else 'png'}"
    if settings.scans:
        page = scan_page(page, rng)
    if searchable:
        write_searchable(page, out / PDFS / file)
    else:
        Image.fromarray(page.pixels).save(out / PDFS / file, compress_level=1)
    reporter.advance("pages")
    return read_sheet(file, text, page)


def write_searchable(page: ComposedPage, path: Path) -> None:
    """The page as a PDF: its picture, and its words, invisible, where they stand."""
    picture = pymupdf.Pixmap(pymupdf.csRGB, page.pixels.shape[1], page.pixels.shape[0], page.pixels.tobytes(), False)
    with pymupdf.open() as document:
        sheet = document.new_page(width=picture.width * POINTS, height=picture.height * POINTS)
        sheet.insert_image(sheet.rect, pixmap=picture)
        writer, font = pymupdf.TextWriter(sheet.rect), pymupdf.Font("helv")
        for word, (left, top, _, bottom) in zip(page.words, (page.word_boxes * POINTS).tolist(), strict=True):
            size = (bottom - top) / (font.ascender - font.descender)
            writer.append((left, bottom + font.descender * size), word, font, size)
        writer.write_text(sheet, render_mode=INVISIBLE)
        document.save(path, garbage=3, deflate=True, no_new_id=True)


def read_sheet(file: str, text: PageText, page: ComposedPage) -> Sheet:
    """What of a page's text found room on its picture."""
    written = " ".join(page.text.split())
    sentences = [
        sentence
        for block in text.blocks
        if block.kind == "paragraph"
        for sentence in SENTENCE_END.split(" ".join(block.text.split()))
    ]
    headings = [" ".join(block.text.split()) for block in text.blocks if block.kind == "heading"]
    return Sheet(
        file,
        {
            "sentence": [part for part in sentences if _has_length(part, SENTENCE_WORDS) and part in written],
            "heading": [part for part in headings if _has_length(part, HEADING_WORDS) and part in written],
        },
        count_keywords(page.words),
    )


def _has_length(text: str, words: tuple[int, int]) -> bool:
    return words[0] <= len(text.split()) <= words[1]
