"""Turns hits into PNG pages with the matched words marked."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from moca_rag.errors import DocumentError
from moca_rag.records import Box, Hit, PixelBudget

if TYPE_CHECKING:
    from PIL import Image

VIEW = PixelBudget(1_500_000, 2_000_000)  # twice what an encoder sees: a person wants to read the small print
MARK = (255, 221, 51)
EDGE = (214, 120, 0)


def draw_page(path: Path, number: int, boxes: Iterable[Box] = (), passwords: Sequence[str] = ()) -> "Image.Image":
    """The page as a picture; boxes (in 0..1) are marked like with a felt pen. Raises DocumentError."""
    from PIL import Image, ImageChops, ImageDraw

    from moca_rag.render import open_document

    if not path.exists():
        raise DocumentError(f"{path} is gone: run `moca index` to bring the collection up to date", "gone")
    with closing(open_document(path, passwords)) as document:
        pixels = document.read_page(number, VIEW).image
    assert pixels is not None
    page = Image.fromarray(pixels)
    ink = Image.new("RGB", page.size, "white")
    pen = ImageDraw.Draw(ink)
    frames = [
        (x0 * page.width - 2, y0 * page.height - 2, x1 * page.width + 2, y1 * page.height + 2)
        for x0, y0, x1, y1 in boxes
    ]
    for frame in frames:
        pen.rectangle(frame, fill=MARK)
    marked = ImageChops.multiply(page, ink)  # text stays black under the pen
    pen = ImageDraw.Draw(marked)
    for x0, _, x1, y1 in frames:
        pen.line((x0, y1, x1, y1), fill=EDGE, width=2)
    return marked


def save_hits(hits: Iterable[Hit], folder: Path) -> tuple[list[Path], list[str]]:
    """Write each hit's page as `01_report.pdf_p4.png`; the files, and why a page could not be drawn, a line each.

    Raises OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    saved, unsaved = [], []
    for hit in hits:
        path = folder / f"{hit.rank:02}_{Path(hit.document).name}_p{hit.page}.png"
        try:
            draw_page(hit.path, hit.page, hit.boxes).save(path)
            saved.append(path)
        except DocumentError as error:  # one file that is gone or locked takes no answer away
            unsaved.append(f"{hit.document}#{hit.page} was not saved: {error}")
    return saved, unsaved
