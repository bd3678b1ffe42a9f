"""Reads PDFs with PyMuPDF: pixels at exactly the target size, words with boxes, outline and metadata."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf

from .errors import DocumentError, one_line
from .pixels import target_size
from .records import Box, DocumentInfo, Heading, PageContent, PixelBudget, Pixels, Word
from .textlayer import clean_word, join_hyphens

METADATA_KEYS = ("author", "subject", "keywords", "creationDate", "modDate")
# Not TEXT_PRESERVE_LIGATURES: the one sign for "fi" must be found as the two letters that people type.
WORD_FLAGS = pymupdf.TEXT_PRESERVE_WHITESPACE | pymupdf.TEXT_MEDIABOX_CLIP | pymupdf.TEXT_CID_FOR_UNKNOWN_UNICODE

pymupdf.TOOLS.mupdf_display_errors(False)
pymupdf.TOOLS.mupdf_display_warnings(False)


class PdfDocument:
    """A PDF held open by MuPDF, which repairs what it can."""

    def __init__(self, path: Path, passwords: Sequence[str]) -> None:
        try:
            self._document = pymupdf.open(path, filetype="pdf")
            if not self._document.is_pdf:
                raise DocumentError("is neither a PDF nor a picture", "not_a_document")
            _unlock(self._document, passwords)
            num_pages = self._document.page_count
        except DocumentError:
            raise
        except Exception as error:  # MuPDF raises a dozen types without a common root
            raise _document_error(error) from error
        if num_pages == 0:
            raise DocumentError("has no pages", "no_pages")
        self.info = DocumentInfo("pdf", num_pages, *_describe(self._document))

    def read_page(self, number: int, pixels: PixelBudget | None) -> PageContent:
        """Read page `number`; the boxes are those of the page as it is seen, after its rotation."""
        try:
            page = self._document[number - 1]
            words = _read_words(page)
            image = None if pixels is None else _draw(page, target_size(page.rect.width, page.rect.height, pixels))
            return PageContent(number, float(page.rect.width), float(page.rect.height), words, image)
        except MemoryError:
            raise
        except Exception as error:  # as above
            code = "page_memory" if "alloc (" in str(error) else "page_broken"  # malloc, calloc, realloc
            raise DocumentError(f"page {number} cannot be read: {one_line(error)}", code) from error

    def close(self) -> None:
        """Let go of the file."""
        self._document.close()


def _document_error(error: Exception) -> DocumentError:
    if isinstance(error, pymupdf.EmptyFileError):
        return DocumentError("the file is empty", "empty_file")
    reason = one_line(error)
    if isinstance(error, pymupdf.FileDataError):
        return DocumentError("is broken beyond repair: nothing in it can be read as a PDF", "broken")
    if "password" in reason or "closed or encrypted" in reason:
        return DocumentError("is encrypted in a way that cannot be opened", "password_required")
    return DocumentError(f"is broken beyond repair: {reason}", "broken")


def _unlock(document: Any, passwords: Sequence[str]) -> None:
    if not document.needs_pass:
        return
    if not passwords:
        raise DocumentError("is encrypted: give --password", "password_required")
    if not any(document.authenticate(password) for password in passwords):
        raise DocumentError("is encrypted, and no given password opens it", "password_wrong")


def _describe(document: Any) -> tuple[str, dict[str, str], tuple[Heading, ...]]:
    try:
        raw = document.metadata or {}
        entries = document.get_toc(simple=True)
    except Exception:
        return "", {}, ()  # a broken outline or info dictionary is no reason to lose the pages
    metadata = {key: clean_word(str(raw[key])) for key in METADATA_KEYS if raw.get(key)}
    outline = tuple(
        Heading(int(level), clean_word(str(title)), int(page)) for level, title, page in entries if page > 0
    )
    return clean_word(str(raw.get("title") or "")), metadata, outline


def _read_words(page: Any) -> tuple[Word, ...]:
    """Words in reading order with boxes in 0..1; a word cut by a hyphen at the end of a line is made whole."""
    matrix, width, height = page.rotation_matrix, page.rect.width, page.rect.height
    words = []
    for x0, y0, x1, y1, text, block, line, _ in page.get_text("words", flags=WORD_FLAGS):
        cleaned = clean_word(text).replace(" ", "")
        rect = pymupdf.Rect(x0, y0, x1, y1) * matrix
        box = Box(*(_share(value, length) for value, length in zip(rect, (width, height) * 2, strict=True)))
        if cleaned and box.x1 > box.x0 and box.y1 > box.y0:
            words.append((Word(cleaned, box), (block, line)))
    return join_hyphens(words)


def _share(value: float, length: float) -> float:
    return min(max(value / length, 0.0), 1.0) if length > 0 else 0.0


def _draw(page: Any, size: tuple[int, int]) -> Pixels:
    """Pixels [H, W, 3] at exactly this size; each axis has its own scale, so that no second resize is needed."""
    height, width = size
    matrix = pymupdf.Matrix(width / max(page.rect.width, 1e-3), height / max(page.rect.height, 1e-3))
    pixmap = page.get_pixmap(matrix=matrix, colorspace=pymupdf.csRGB, alpha=False)
    lines = np.frombuffer(pixmap.samples_mv, np.uint8).reshape(pixmap.height, pixmap.stride)
    drawn = lines[:, : 3 * pixmap.width].reshape(pixmap.height, pixmap.width, 3)
    canvas = np.full((height, width, 3), 255, np.uint8)
    rows, columns = min(height, pixmap.height), min(width, pixmap.width)
    canvas[:rows, :columns] = drawn[:rows, :columns]  # rounding may add or lack one line at an edge
    return canvas
