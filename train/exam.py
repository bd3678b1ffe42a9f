"""Writes composed pages with questions that one of them answers: a judged folder, for `moca eval folder`."""

import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pymupdf
from PIL import Image

from moca_rag.errors import ConfigError
from moca_rag.judged import PDFS, QRELS, QUERIES
from moca_rag.pixels import DOTS_PER_INCH, POINTS_PER_INCH
from moca_rag.progress import Reporter

from .canvas import ComposedPage
from .compose import SENTENCE_END, compose_page
from .corruption import derive_seed
from .documents import PageText, read_documents
from .faces import Faces
from .letters import clean_word
from .passages import HEADING_WORDS, SENTENCE_WORDS
from .scanning import scan_page
from .settings import ExamReport, ExamSettings

KEYWORD = re.compile(r"[a-z]{4,}")
NUM_KEYWORDS = 4
POINTS = POINTS_PER_INCH / DOTS_PER_INCH  # of a pixel, so that a page is drawn again pixel by pixel
INVISIBLE = 3  # how a PDF writes text that is there to be searched only


class Question(NamedTuple):
    """What is asked, and the page that answers it."""

    kind: str
    text: str
    page: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """What stands on a page of the exam: its file, sentences, headings, and how often each word."""

    file: str
    sentences: tuple[str, ...]
    headings: tuple[str, ...]
    words: Counter[str]


def write_exam(documents: Path, faces: Path, out: Path, settings: ExamSettings, reporter: Reporter) -> ExamReport:
    """Write `pdfs/` (a PNG or PDF a page), `queries.jsonl` and `qrels.tsv` into a new folder.

    Each page is asked for by a sentence, a heading and keywords of its own: text that stands on one page only. Where
    pages of both kinds are written, a question's kind says which one it asks for. Raises ConfigError where `out` is
    taken, the share is none, or the documents have too few pages with enough words.
    """
    if not 0 <= settings.searchable <= 1:
        raise ConfigError(f"--searchable {settings.searchable}: give a share of the pages from 0 to 1")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there already: give a folder that is new or empty")
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
        counts = Counter(item for sheet in sheets for item in {*sheet.sentences, *sheet.headings, *sheet.words})
        questions = [question for sheet in sheets for question in ask(sheet, counts, settings)]
        _write_questions(out, questions)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return ExamReport(out, len(sheets), dict(Counter(question.kind for question in questions)))


def _write_page(text: PageText, faces: Faces, out: Path, settings: ExamSettings, reporter: Reporter) -> Sheet:
    rng = np.random.default_rng(derive_seed(settings.seed, text.number, text.document))
    page = compose_page(text.blocks, faces, rng)
    name = re.sub(r"\W+", "-", f"{text.document}-{text.number}").strip("-").lower()
    is_searchable = np.random.default_rng(derive_seed(settings.seed, 0, name)).random() < settings.searchable
    file = f"{name}.{'pdf' if is_searchable else 'png'}"
    if settings.scans:
        page = scan_page(page, rng)
    if is_searchable:
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
        tuple(part for part in sentences if _has_length(part, SENTENCE_WORDS) and part in written),
        tuple(part for part in headings if _has_length(part, HEADING_WORDS) and part in written),
        Counter(word for word in map(clean_word, page.words) if KEYWORD.fullmatch(word)),
    )


def _has_length(text: str, words: tuple[int, int]) -> bool:
    return words[0] <= len(text.split()) <= words[1]


def ask(sheet: Sheet, counts: Mapping[str, int], settings: ExamSettings) -> Iterator[Question]:
    """What this page alone answers; `counts` says on how many pages each text and word stands."""
    rng = np.random.default_rng(derive_seed(settings.seed, 0, Path(sheet.file).stem))
    of = "" if settings.searchable in (0, 1) else f" {Path(sheet.file).suffix[1:]}"
    for kind, texts in (("sentence", sheet.sentences), ("heading", sheet.headings)):
        own = [text for text in texts if counts[text] == 1]
        if own:
            yield Question(kind + of, own[int(rng.integers(len(own)))], sheet.file)
    keywords = find_keywords(sheet.words, counts, settings.pages)
    if len(keywords) == NUM_KEYWORDS:
        yield Question("keywords" + of, " ".join(keywords), sheet.file)


def find_keywords(
    words: Mapping[str, int], counts: Mapping[str, int], num_pages: int, number: int = NUM_KEYWORDS
) -> list[str]:
    """The words that say most about a page: often on it, and on few others.

    >>> find_keywords({"coal": 3, "with": 5, "iron": 1}, {"coal": 2, "with": 90, "iron": 1}, 100, number=2)
    ['coal', 'iron']
    """
    weights = {word: times * math.log(num_pages / counts[word]) for word, times in words.items()}
    return sorted(weights, key=lambda word: (-weights[word], word))[:number]


def _write_questions(out: Path, questions: Sequence[Question]) -> None:
    named = [
        (f"{question.kind.replace(' ', '-')}-{number:05d}", question) for number, question in enumerate(questions, 1)
    ]
    lines = [json.dumps({"_id": name, "text": one.text, "kind": one.kind}, ensure_ascii=False) for name, one in named]
    (out / QUERIES).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    judged = [f"{name}\t{one.page}#1\t1\n" for name, one in named]
    (out / QRELS).write_text("query-id\tcorpus-id\tscore\n" + "".join(judged), encoding="utf-8")
