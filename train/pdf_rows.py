"""Turns unlabelled PDFs into rows of training: pages with their text for CPT, pairs of query and page for CL.

The folder that is written holds `cpt.parquet` and `cl.parquet`, the same with `.heldout` for documents kept aside, and
`images.zip` with each page once, at the size at which an encoder sees it. Rows name their images by path in the zip.
"""

import hashlib
import io
import math
import os
import random
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from PIL import Image

from moca_rag.errors import ConfigError, DocumentError, one_line
from moca_rag.progress import Reporter, SilentReporter
from moca_rag.records import DocumentInfo, Failure, PageContent, PixelBudget, Pixels
from moca_rag.render import OpenDocument, open_document

from .passages import find_queries, is_name, read_paragraphs
from .row_file import RowFile
from .rows import IMAGE_SLOT
from .schemas import PAGE_TEXT

Stage: TypeAlias = Literal["cpt", "cl", "both"]

JPEG_QUALITY = 90
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # equal folders give equal files


@dataclass(frozen=True, slots=True)
class PdfSettings:
    """What is drawn from each document."""

    stage: Stage = "both"
    seed: int = 0
    held_out: float = 0.1
    """The share of documents kept aside, whole; at least one where there are two."""
    pairs_per_page: int = 4
    """At most so many queries a page; titles, headings and captions come before sentences."""
    negatives: int = 4
    """At most so many other pages of the document beside each pair."""
    passwords: tuple[str, ...] = field(default=(), repr=False)
    """Tried on encrypted documents."""


@dataclass(slots=True)
class PdfReport:
    """What was written; `rows` counts by file, `tasks` by kind of query."""

    folder: Path
    documents: int = 0
    pages: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Documents and pages left out: `same document`, `same page`, `blank page`."""
    rows: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    size: int = 0
    failed: list[Failure] = field(default_factory=list)


class _Document(NamedTuple):
    path: Path
    digest: str
    held_out: bool


class _Page(NamedTuple):
    name: str
    number: int
    queries: dict[str, str]


def write_pdf_rows(
    paths: Iterable[Path], out: Path, settings: PdfSettings | None = None, reporter: Reporter | None = None
) -> PdfReport:
    """Write the rows of these documents as a new folder, which appears when it is whole.

    The same documents and seed give the same files, byte for byte. A document or page that cannot be read is reported
    and left out. Raises ConfigError where `out` is taken, or where no document gives a row.
    """
    settings, reporter = settings or PdfSettings(), reporter or SilentReporter()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out} is there already: give a folder that is new or empty")
    if not 0 <= settings.held_out < 1:
        raise ConfigError(f"held_out is {settings.held_out}: give a share of the documents, at least 0 and below 1")
    fresh = Path(os.path.abspath(out))
    fresh = fresh.with_name(f".{fresh.name}.{os.getpid()}")
    fresh.mkdir(parents=True)
    try:
        report = _Run(fresh, settings, reporter).write(paths)
        report.size = sum(path.stat().st_size for path in fresh.iterdir())
        report.folder = out
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return report


class _Run:
    """One run: documents are read twice, first for what each query is worth, then for their rows."""

    def __init__(self, folder: Path, settings: PdfSettings, reporter: Reporter) -> None:
        self._folder = folder
        self._settings = settings
        self._reporter = reporter
        self._report = PdfReport(folder)
        self._files: dict[str, RowFile] = {}
        self._dropped: Counter[str] = Counter()
        self._tasks: Counter[str] = Counter()
        self._pages_of_query: Counter[bytes] = Counter()
        self._seen_pages: set[bytes] = set()

    def write(self, paths: Iterable[Path]) -> PdfReport:
        """The rows of all documents, and what was counted."""
        documents = self._choose(sorted(paths))
        stages: tuple[Literal["cpt", "cl"], ...] = ("cpt", "cl")
        with ExitStack() as stack:
            images = stack.enter_context(zipfile.ZipFile(self._folder / "images.zip", "w", zipfile.ZIP_STORED))
            for stage in stages if self._settings.stage == "both" else (self._settings.stage,):
                for name in (f"{stage}.parquet", f"{stage}.heldout.parquet")[: 1 + bool(self._settings.held_out)]:
                    self._files[name] = stack.enter_context(RowFile(self._folder / name, stage))
            for document in documents:
                pages = self._write_pages(document, images)
                self._write_pairs(document, pages)
                self._report.documents += bool(pages)
                self._report.pages += len(pages)
        self._report.rows = {name: file.num_rows for name, file in self._files.items()}
        self._report.dropped, self._report.tasks = dict(self._dropped.most_common()), dict(self._tasks.most_common())
        if not any(self._report.rows.values()):
            raise ConfigError(
                f"no row came out of {len(documents)} documents: give PDFs with pages, or --stage cpt"
                + tell_first(self._report.failed)
            )
        return self._report

    def _choose(self, paths: Sequence[Path]) -> list[_Document]:
        """The documents that can be read, each once, some of them kept aside; their queries are counted."""
        known: dict[str, Path] = {}
        num_pages = 0
        self._reporter.start("documents", len(paths))
        for path in paths:
            with (
                self._noting(path),
                closing(open_document(path, self._settings.passwords)) as document,
                path.open("rb") as file,
            ):
                digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
                if digest in known:
                    self._dropped["same document"] += 1
                else:
                    self._count_queries(document)
                    known[digest] = path
                    num_pages += document.info.num_pages
            self._reporter.advance("documents")
        self._reporter.start("pages", num_pages)
        drawn = sorted(known, key=lambda digest: self._draw(digest).random())
        num_aside = min(math.ceil(self._settings.held_out * len(known)), len(known) - 1) if known else 0
        aside = set(drawn[:num_aside])
        return [_Document(path, digest, digest in aside) for digest, path in known.items()]

    def _count_queries(self, document: OpenDocument) -> None:
        if self._settings.stage == "cpt":
            return
        for number in range(1, document.info.num_pages + 1):
            with suppress(DocumentError):  # reported when its picture is drawn
                queries = _list_queries(document.read_page(number, None), document.info)
                self._pages_of_query.update({_query_key(query) for query in queries})

    def _write_pages(self, document: _Document, images: zipfile.ZipFile) -> list[_Page]:
        """Pages put into the zip, with their CPT rows; one that shows nothing, or what another shows, is left out."""
        pages: list[_Page] = []
        file = self._files.get(_name_file("cpt", document))
        for page, info in self._draw_pages(document.path):
            self._reporter.advance("pages")
            assert page.image is not None
            reason = self._refuse(page.image)
            if reason:
                self._dropped[reason] += 1
                continue
            data, suffix = encode_page(page.image)
            name = f"{document.digest}/{page.number:05}.{suffix}"
            images.writestr(zipfile.ZipInfo(name, ZIP_TIME), data)
            pages.append(_Page(name, page.number, _list_queries(page, info)))
            if file is not None:
                file.add({"text": interleave(page, self._draw(document.digest, page.number)), "images": [name]})
        return pages

    def _draw_pages(self, path: Path) -> Iterator[tuple[PageContent, DocumentInfo]]:
        """The pages that can be drawn; errors of whoever asks for them are not caught here."""
        with self._noting(path), closing(open_document(path, self._settings.passwords)) as document:
            for number in range(1, document.info.num_pages + 1):
                page = None
                with self._noting(path, number):
                    page = document.read_page(number, PixelBudget())
                if page is not None:
                    yield page, document.info

    def _refuse(self, image: Pixels) -> str:
        if (image == image[0, 0]).all():
            return "blank page"
        digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()
        if digest in self._seen_pages:
            return "same page"
        self._seen_pages.add(digest)
        return ""

    def _write_pairs(self, document: _Document, pages: Sequence[_Page]) -> None:
        """Queries that stand on one page of all: what stands on several asks for none of them."""
        file = self._files.get(_name_file("cl", document))
        if file is None:
            return
        for page in pages:
            draw = self._draw(document.digest, page.number, "pairs")
            asked = [item for item in page.queries.items() if self._pages_of_query[_query_key(item[0])] == 1]
            draw.shuffle(asked)
            asked.sort(key=lambda item: item[1] == "sentence")
            others = [other.name for other in pages if other is not page]
            for query, kind in asked[: self._settings.pairs_per_page]:
                negatives = draw.sample(others, min(self._settings.negatives, len(others)))
                self._tasks[f"pdf-{kind}"] += 1
                file.add(
                    {"task": f"pdf-{kind}", "query_text": query}
                    | {"positive_text": PAGE_TEXT, "positive_images": [page.name]}
                    | {
                        "negative_texts": [PAGE_TEXT] * len(negatives),
                        "negative_images": [[name] for name in negatives],
                    }
                )

    def _draw(self, *key: object) -> random.Random:
        """Chance that depends on nothing but the seed and this key."""
        return random.Random(repr((self._settings.seed, *key)))

    @contextmanager
    def _noting(self, path: Path, number: int = 0) -> Iterator[None]:
        """Note what cannot be read, and let the run go on."""
        try:
            yield
        except (DocumentError, OSError, MemoryError) as error:
            code = error.code if isinstance(error, DocumentError) else "unreadable"
            self._report.failed.append(Failure(str(path), number, code, one_line(error)))
            self._reporter.failed()


def tell_first(failed: Sequence[Failure]) -> str:
    """The first of what could not be read, to be put behind a line that says what came of it; nothing where all was.

    >>> tell_first([Failure("a.pdf", 0, "password_required", "is encrypted: give --password")])
    ' (a.pdf is encrypted: give --password)'
    """
    more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
    return f" ({failed[0].path} {failed[0].reason}{more})" if failed else ""


def encode_page(image: Pixels) -> tuple[bytes, str]:
    """A page's file and its suffix: PNG, so that training sees what indexing sees, or JPEG where that halves the size."""
    files = {}
    for suffix, options in (("png", {"format": "PNG"}), ("jpg", {"format": "JPEG", "quality": JPEG_QUALITY})):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, **options)
        files[suffix] = buffer.getvalue()
    suffix = "jpg" if 2 * len(files["jpg"]) < len(files["png"]) else "png"
    return files[suffix], suffix


def interleave(page: PageContent, draw: random.Random) -> str:
    """The page's text with its image's slot, in front of it or between two of its paragraphs."""
    texts = [paragraph.text.replace(IMAGE_SLOT, "") for paragraph in read_paragraphs(page)]
    texts.insert(draw.randrange(1, len(texts)) if len(texts) > 1 and draw.random() < 0.5 else 0, IMAGE_SLOT)
    return "\n".join(texts)


def _list_queries(page: PageContent, info: DocumentInfo) -> dict[str, str]:
    """A page's queries: the document's title for its first page, the outline's entries, and what the page says."""
    queries = find_queries(read_paragraphs(page))
    queries |= {heading.title: "heading" for heading in info.outline if heading.page == page.number}
    if page.number == 1:
        queries[info.title] = "title"
    return {text: kind for text, kind in queries.items() if kind in ("caption", "sentence") or is_name(text)}


def _query_key(query: str) -> bytes:
    return hashlib.blake2b(" ".join(query.casefold().split()).encode(), digest_size=8).digest()


def _name_file(stage: str, document: _Document) -> str:
    return f"{stage}.heldout.parquet" if document.held_out else f"{stage}.parquet"
