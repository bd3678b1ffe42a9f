"""The whole engine as mteb's search protocol sees it: pages become files, are indexed, and queries are searched."""

import shutil
import textwrap
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pymupdf
from datasets import Dataset
from mteb.models import ModelMeta

from .collection import Collection
from .errors import DocumentError
from .metrics import check_embeddings
from .mteb_models import content_keys, describe, read_picture, undecoded
from .pixels import DOTS_PER_INCH, POINTS_PER_INCH
from .progress import Reporter, SilentReporter
from .records import CollectionMode, Encoder, Explanation, Floats, Mode, Part, Pixels, Query
from .render import IMAGE_MAGIC, renderer_version

FONT = "japan"  # of MuPDF's built-in fonts the one whose text is read back right in all Latin, Greek and Cyrillic
LINE = 120  # characters of a line of the text layer; the font is made small enough for the page


class Indexing(Protocol):
    """How files become a collection: `moca_rag.index_documents`, handed in because a library calls no program."""

    def __call__(
        self,
        paths: Iterable[Path],
        collection: Path,
        encoder: Encoder | None,
        *,
        mode: CollectionMode,
        reporter: Reporter,
    ) -> Any:
        """Index the files; what is returned has `failed`."""
        ...


class EngineModel:
    """Collection and search behind mteb's `index` and `search`; a corpus is indexed once for all of its languages."""

    def __init__(self, index: Indexing, encoder: Encoder | None, mode: Mode, place: Path, reporter: Reporter) -> None:
        """Pages and collections are written below `place`; the caller removes it."""
        self.mteb_model_meta = _describe_engine(encoder, mode)
        self._index = index
        self._encoder = None if encoder is None else CheckedEncoder(encoder)
        self._mode = mode
        self._place = place
        self._reporter = reporter
        self._ids: dict[str, list[str]] = {}

    def index(self, corpus: Dataset, **_: Any) -> None:
        """Make a collection of a corpus, unless the last one had the same pages."""
        keys = content_keys(corpus)
        same = self._ids.keys() == set(keys)
        self._ids = {key: [] for key in keys}
        for key, page_id in zip(keys, corpus["id"], strict=True):
            self._ids[key].append(page_id)
        if same:
            return
        shutil.rmtree(self._place, ignore_errors=True)
        pages = self._place / "pages"
        pages.mkdir(parents=True)
        for key, row in zip(keys, undecoded(corpus), strict=True):
            write_page(pages / key, read_picture(row["image"]), str(row.get("text") or ""))
        # A text collection recommends a model; here it is what was asked for.
        reporter = SilentReporter() if self._encoder is None else self._reporter
        mode = "hybrid" if self._mode == "passages" else self._mode
        report = self._index([pages], self._place / "collection", self._encoder, mode=mode, reporter=reporter)
        if report.failed:
            first = report.failed[0]
            raise DocumentError(
                f"{len(report.failed)} pages cannot be indexed, such as {first.path}: {first.reason}", first.code
            )

    def search(self, queries: Dataset, *, top_k: int, **_: Any) -> dict[str, dict[str, float]]:
        """The scores of the best pages by query; a query that finds nothing has none."""
        found: dict[str, dict[str, float]] = {}
        self._reporter.start("queries", len(queries))
        with Collection.open(self._place / "collection", encoder=self._encoder) as collection:
            for query in queries:
                hits = collection.search(query["text"], top_k=top_k, mode=self._mode)
                found[query["id"]] = {
                    page_id: hit.score for hit in hits for page_id in self._ids[Path(hit.document).stem]
                }
                self._reporter.advance("queries")
        return found


def _describe_engine(encoder: Encoder | None, mode: Mode) -> ModelMeta:
    if encoder is None:
        values = {"name": f"moca_rag/engine-{mode}", "revision": f"pymupdf-{renderer_version()}"}
        return ModelMeta.create_empty(values | {"modalities": ["text", "image"]})
    meta = describe(encoder.card)
    return meta.model_copy(update={"name": f"{meta.name}-engine-{mode}"})


def write_page(path: Path, picture: bytes, text: str) -> Path:
    """Write a page picture as a file: as it is, or where its text is known, as a PDF that can be searched.

    The text lies unseen over the picture, as scanners' programs lay what they have read. The page is drawn at the size
    at which the picture itself would be.
    """
    if not text.strip() and picture.startswith(IMAGE_MAGIC):
        path = path.with_suffix(".png")
        path.write_bytes(picture)
        return path
    pixmap = pymupdf.Pixmap(picture)
    scale = POINTS_PER_INCH / DOTS_PER_INCH
    with pymupdf.open() as document:
        page = document.new_page(width=pixmap.width * scale, height=pixmap.height * scale)
        page.insert_image(page.rect, stream=picture)
        lines = [line for paragraph in text.splitlines() for line in textwrap.wrap(paragraph, LINE)]
        if lines:
            widest = max(pymupdf.get_text_length(line, fontname=FONT, fontsize=1) for line in lines)
            size = min(page.rect.width / widest, page.rect.height / (1.2 * len(lines) + 1))
            page.insert_text((0, size), lines, fontname=FONT, fontsize=size, lineheight=1.2, render_mode=3)
        document.save(path.with_suffix(".pdf"))
    return path.with_suffix(".pdf")


class CheckedEncoder:
    """An encoder whose embeddings are looked at on their way into a collection."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.card = encoder.card

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        """Unit embeddings [N, D]; raises ModelError where they are not finite or not unit."""
        rows = self._encoder.encode_queries(queries)
        check_embeddings(rows, unit=True, name=f"{self.card.name}, queries")
        return rows

    def encode_pages(self, parts: Iterable[Part]) -> Iterator[Floats]:
        """The unit embeddings of each page image or passage; after the last, raises ModelError where all images' are equal."""
        are_images: deque[bool] = deque()

        def noted() -> Iterator[Part]:
            for part in parts:
                are_images.append(not isinstance(part, str))
                yield part

        rows = []
        for row in self._encoder.encode_pages(noted()):
            check_embeddings(row[None], unit=True, name=f"{self.card.name}, pages")
            if are_images.popleft():
                rows.append(np.atleast_2d(row).mean(axis=0))  # pages may have another number of regions each
            yield row
        if rows:
            check_embeddings(np.stack(rows), unit=False, name=f"{self.card.name}, pages")

    def explain(self, query: Query, image: Pixels) -> Explanation:
        """What made a score."""
        return self._encoder.explain(query, image)
