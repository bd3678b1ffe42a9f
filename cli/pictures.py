"""Turns hits into PNG pages: the matched words marked, or a heat map of what made the score."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from moca_rag.errors import DocumentError
from moca_rag.records import Box, Explanation, Hit, PixelBudget

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


def save_hits(
    hits: Iterable[Hit], explanations: Iterable[Explanation | None], folder: Path
) -> tuple[list[Path], dict[str, str]]:
    """Write each hit's page as `01_report.pdf_p4.png`, as a heat map where it has an explanation.

    The files, and by page id why a page could not be drawn. Raises OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    saved: list[Path] = []
    missed: dict[str, str] = {}
    for hit, explanation in zip(hits, explanations, strict=True):
        path = folder / f"{hit.rank:02}_{Path(hit.document).name}_p{hit.page}.png"
        try:
            _draw_hit(hit, explanation).save(path)
            saved.append(path)
        except DocumentError as error:  # one file that is gone or locked takes no answer away
            missed[f"{hit.document}#{hit.page}"] = f"{hit.document}#{hit.page} was not saved: {error}"
    return saved, missed


def _draw_hit(hit: Hit, explanation: Explanation | None) -> "Image.Image":
    if explanation is None:
        return draw_page(hit.path, hit.page, hit.boxes)
    from .heatmap import draw_heat

    return draw_heat(draw_page(hit.path, hit.page), explanation, hit.boxes)
