"""Makes an exam of a user's own PDFs, page by page, with or without their words: a judged folder, for `moca eval folder`."""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pymupdf
from PIL import Image

from moca_rag.errors import ConfigError, DocumentError, one_line
from moca_rag.judged import PDFS
from moca_rag.progress import Reporter
from moca_rag.records import Failure, PixelBudget
from moca_rag.render import open_document

from .asking import Sheet, check_exam, count_keywords, is_searchable, write_questions
from .passages import find_queries, read_paragraphs
from .pdf_rows import tell_first
from .settings import ExamReport, ExamSettings

KINDS = ("sentence", "heading", "caption")


class _Page(NamedTuple):
    path: Path
    number: int
    words: tuple[str, ...]
    queries: Mapping[str, str]


def write_pdf_exam(paths: Iterable[Path], out: Path, settings: ExamSettings, reporter: Reporter) -> ExamReport:
    """Write `pdfs/` (a PNG, or a PDF of one page), `queries.jsonl` and `qrels.tsv` into a new folder.

    At most `settings.pages` pages are drawn of those with enough words; a page that says what another says is left out.
    Each is asked for by a sentence, a heading, a caption and keywords that stand on no other. What cannot be read is
    reported and left out. Raises ConfigError where `out` is taken or no page has enough words.
    """
    check_exam(out, settings)
    documents = sorted(paths)
    failed: list[Failure] = []
    reporter.start("documents", len(documents))
    found: dict[tuple[str, ...], _Page] = {}
    for path in documents:
        for page in _read_pages(path, settings, failed):
            if len(page.words) >= settings.min_words:
                found.setdefault(page.words, page)
        reporter.advance("documents")
    pages = list(found.values())
    if not pages:
        raise ConfigError(
            f"no page has {settings.min_words} words in its text layer: give other PDFs or --min-words{tell_first(failed)}"
        )
    chosen = np.sort(np.random.default_rng(settings.seed).permutation(len(pages))[: settings.pages])
    try:
        (out / PDFS).mkdir(parents=True)
        reporter.start("pages", len(chosen))
        sheets: list[Sheet] = []
        for place in chosen.tolist():
            page = pages[place]
            title = re.sub(r"\W+", "-", page.path.stem).strip("-").lower()[:80]
            sheets += _write_page(page, f"{title}-{page.number}-{place}", out, settings, failed)
            reporter.advance("pages")
        questions = write_questions(out, sheets, settings)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return ExamReport(out, len(sheets), questions, failed)


def _read_pages(path: Path, settings: ExamSettings, failed: list[Failure]) -> Iterator[_Page]:
    """The words of every page, and what they could be asked for."""
    try:
        with closing(open_document(path, settings.passwords)) as document:
            for number in range(1, document.info.num_pages + 1):
                try:
                    page = document.read_page(number, None)
                except DocumentError as error:
                    failed.append(Failure(str(path), number, error.code, one_line(error)))
                    continue
                words = tuple(word.text for word in page.words)
                yield _Page(path, number, words, find_queries(read_paragraphs(page)))
    except DocumentError as error:
        failed.append(Failure(str(path), 0, error.code, one_line(error)))


def _write_page(page: _Page, name: str, out: Path, settings: ExamSettings, failed: list[Failure]) -> Sequence[Sheet]:
    """The page as a file of its own; none where it cannot be drawn."""
    searchable = is_searchable(name, settings)
    file = f"{name}.{'pdf' if searchable else 'png'}"
    try:
        if searchable:
            with pymupdf.open(page.path) as document, pymupdf.open() as alone:
                for password in settings.passwords:
                    document.authenticate(password)
                alone.insert_pdf(document, from_page=page.number - 1, to_page=page.number - 1, links=False)
                alone.save(out / PDFS / file, garbage=3, deflate=True, no_new_id=True)
        else:
            with closing(open_document(page.path, settings.passwords)) as document:
                image = document.read_page(page.number, PixelBudget()).image
            assert image is not None
            Image.fromarray(image).save(out / PDFS / file)
    except (DocumentError, RuntimeError) as error:  # MuPDF's own are RuntimeErrors
        code = error.code if isinstance(error, DocumentError) else "page_broken"
        failed.append(Failure(str(page.path), page.number, code, one_line(error)))
        (out / PDFS / file).unlink(missing_ok=True)
        return []
    texts = {kind: [text for text, own in page.queries.items() if own == kind] for kind in KINDS}
    return [Sheet(file, texts, count_keywords(page.words))]
