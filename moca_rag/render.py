"""Turns a page of a document into pixels at its target size and a text layer with boxes.

Everything above asks `open_document`; what reads PDFs stands behind `OpenDocument`, so that another renderer can join.
"""

from collections.abc import Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import DocumentError, one_line
from .pixels import POINTS_PER_INCH, image_size
from .records import DocumentInfo, PageContent, PixelBudget, Pixels

RENDERER = "pymupdf"
MAX_IMAGE_PIXELS = 400_000_000  # 1.2 GB once decoded: beyond it a file is an attack or a mistake
IMAGE_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
SUFFIXES = frozenset({".pdf", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"})


def renderer_version() -> str:
    """The version of what draws and reads PDFs; looked up without loading it."""
    return version(RENDERER)


class OpenDocument(Protocol):
    """A document held open by a renderer."""

    info: DocumentInfo

    def read_page(self, number: int, pixels: PixelBudget | None) -> PageContent:
        """Read page `number` (from 1); without a pixel budget no image is drawn. Raises DocumentError."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def open_document(path: Path, passwords: Sequence[str] = ()) -> OpenDocument:
    """Open a PDF or an image, told apart by content: a picture named `.pdf` is read as the picture that it is.

    Raises DocumentError with the codes `unreadable`, `empty_file`, `not_a_document`, `broken`, `no_pages`,
    `password_required` and `password_wrong`.
    """
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror}", "unreadable") from error
    if not head:
        raise DocumentError("the file is empty", "empty_file")
    if head.startswith(IMAGE_MAGIC) or head[8:12] == b"WEBP":
        return ImageDocument(path)
    from .mupdf import PdfDocument

    try:
        return PdfDocument(path, passwords)
    except DocumentError as error:
        if error.code != "broken" or b"%PDF" in head:
            raise
        raise DocumentError("is neither a PDF nor a picture", "not_a_document") from error


class ImageDocument:
    """A picture as a document: one page, or one a frame for a TIFF (a fax or a scanner's stack)."""

    def __init__(self, path: Path) -> None:
        Image.MAX_IMAGE_PIXELS = MAX_IMAGE_PIXELS // 2  # Pillow refuses at twice its limit
        try:
            self._image = Image.open(path)
            frames = getattr(self._image, "n_frames", 1) if self._image.format == "TIFF" else 1
        except Image.DecompressionBombError as error:
            raise DocumentError("the picture has too many pixels", "too_large") from error
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
            raise DocumentError(f"the picture is broken: {one_line(error)}", "broken") from error
        self.info = DocumentInfo("image", frames, "", {}, ())

    def read_page(self, number: int, pixels: PixelBudget | None) -> PageContent:
        """Read frame `number`, turned upright as its camera noted."""
        try:
            self._image.seek(number - 1)
            points = POINTS_PER_INCH / _dots_per_inch(self._image)
            width, height = self._image.size
            if pixels is not None:
                longest = 2 * max(image_size(width, height, pixels))
                self._image.draft("RGB", (longest, longest))  # a JPEG of 100 megapixels is decoded at an eighth
            upright = ImageOps.exif_transpose(self._image)
            if (upright.width > upright.height) != (width > height):
                width, height = height, width
            image = None if pixels is None else resize_image(upright, pixels)
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise DocumentError(f"the picture is broken: {one_line(error)}", "broken") from error
        return PageContent(number, width * points, height * points, (), image)

    def close(self) -> None:
        """Let go of the file."""
        self._image.close()


def read_image(path: Path, pixels: PixelBudget) -> Pixels:
    """The first page of a picture or PDF as pixels [H, W, 3] within the budget, for a query by image."""
    with closing(open_document(path)) as document:
        image = document.read_page(1, pixels).image
    assert image is not None
    return image


def resize_image(image: Image.Image, pixels: PixelBudget) -> Pixels:
    """Pixels [H, W, 3] of a picture at its target size; what is transparent becomes white paper."""
    rows, columns = image_size(*image.size, pixels)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    elif image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.asarray(image.convert("RGB").resize((columns, rows), Image.Resampling.BICUBIC), dtype=np.uint8)


def _dots_per_inch(image: Image.Image) -> float:
    dpi = image.info.get("dpi", (POINTS_PER_INCH, POINTS_PER_INCH))
    first = float(dpi[0]) if isinstance(dpi, tuple) and dpi else 0.0
    return first if 30 <= first <= 2400 else float(POINTS_PER_INCH)
