"""Rows whose pages are composed when they are asked for: documents and fonts take the place of pictures on disk."""

import hashlib
import io
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from moca_rag.checkpoint import PAGE_PROMPT
from moca_rag.errors import ConfigError
from moca_rag.records import Pixels

from .asking import Sheet, find_keywords
from .canvas import ComposedPage
from .compose import compose_page
from .corruption import derive_seed
from .documents import PageText, read_documents
from .exam import read_sheet
from .faces import Faces, TypeSet
from .letters import clean_word
from .numbered import NumberedRows, Row
from .rows import IMAGE_SLOT, CptRow, PairRow, Side
from .scanning import scan_page
from .settings import Source
from .styles import PageStyle

KINDS = ("sentence", "heading", "keywords")
PAGE_TEXT = f"{IMAGE_SLOT}\n{PAGE_PROMPT}"
SCAN_RATE = 0.15
MIN_WORDS = 30
QUERY_WORDS = (3, 6)  # of keywords


@dataclass(frozen=True, slots=True)
class Sheaf:
    """The pages of neighbouring rows, by document and place in it, and how they are set; None is each in its own way."""

    places: tuple[tuple[int, int], ...]
    style: PageStyle | None = None
    types: TypeSet | None = None


class ComposedRows(NumberedRows[Row]):
    """Rows of stage one or two out of documents."""

    def __init__(self, source: Source, stage: type[Row]) -> None:
        """Raises ConfigError where documents or fonts are none. Without a limit each page makes one row, or one a task."""
        for name, number in (("questions", source.questions), ("neighbours", source.neighbours)):
            if number < 1:
                raise ConfigError(f"{name}={number}: give 1 or more")
        documents, fonts = Path(source.path), Path(source.images)
        self._files = [documents, *sorted(path for path in fonts.rglob("*") if path.is_file())]
        self._documents = [
            pages
            for document in read_documents(documents)
            if (pages := [page for page in document.pages if page.num_words >= MIN_WORDS])
        ]
        self._places = [(number, place) for number, pages in enumerate(self._documents) for place in range(len(pages))]
        if not self._places:
            raise ConfigError(f"{documents} holds no page of {MIN_WORDS} words: make another with moca data corpus")
        self._faces = Faces.open(fonts)
        self._pairs = stage is PairRow
        super().__init__(source, len(self._places) * (len(KINDS) if self._pairs else 1))

    def _make(self, index: int) -> Row:
        rng = np.random.default_rng(derive_seed(0, index, "composed"))
        return self._make_pair(index, rng) if self._pairs else self._make_text(rng)  # type: ignore[return-value]

    def fingerprint(self) -> str:
        """A hash of the bytes of documents and fonts."""
        digest = hashlib.blake2b(
            repr((self._size, self.source.negatives, self.source.questions, self.source.neighbours)).encode(),
            digest_size=16,
        )
        for path in self._files:
            digest.update(hashlib.blake2b(path.read_bytes(), digest_size=16).digest())
        return digest.hexdigest()

    @cached_property
    def _counts(self) -> Counter[str]:
        """On how many pages each word stands."""
        counts: Counter[str] = Counter()
        for pages in self._documents:
            for page in pages:
                counts.update({clean_word(word) for block in page.blocks for word in block.text.split()})
        return counts

    def _make_text(self, rng: np.random.Generator) -> CptRow:
        """A page's picture with its text behind or before it."""
        number, place = self._places[int(rng.integers(len(self._places)))]
        page, pixels = self._compose(self._documents[number][place], rng)
        text = " ".join(page.text.split(" ")).replace(IMAGE_SLOT, "")
        parts = (IMAGE_SLOT, text) if rng.random() < 0.7 else (text, IMAGE_SLOT)
        return CptRow.of("\n".join(parts), [encode_png(pixels)])

    def _make_pair(self, index: int, rng: np.random.Generator) -> PairRow:
        sheaf = self._gather(index, rng)
        number, place = sheaf.places[index % self.source.neighbours]
        text = self._documents[number][place]
        page, pixels = self._compose(text, rng, sheaf)
        kinds = [KINDS[number % len(KINDS)] for number in range(index, index + self.source.questions)]
        sheet = self._without_shared(read_sheet("", text, page), text, sheaf)
        query, *more = dict.fromkeys(self._ask(kind, sheet, page, rng) for kind in kinds)
        others: list[int] = [other for other in range(len(self._documents[number])) if other != place]
        chosen = rng.permutation(others)[: self.source.negatives].tolist()
        negatives = [self._compose(self._documents[number][other], rng, sheaf)[1] for other in chosen]
        answer, *wrong = [Side(PAGE_TEXT, (encode_png(picture),)) for picture in (pixels, *negatives)]
        return PairRow.of(self._task(index), Side(query), answer, wrong, others=map(Side, more))

    def _gather(self, index: int, rng: np.random.Generator) -> Sheaf:
        """The pages of a row and its neighbours: of one document, as far as it has so many, set alike."""
        size = self.source.neighbours
        if size == 1:
            return Sheaf((self._places[int(rng.integers(len(self._places)))],))
        rng = np.random.default_rng(derive_seed(0, index // size, "neighbours"))
        drawn = [self._places[place] for place in rng.integers(len(self._places), size=size).tolist()]
        number = drawn[0][0]
        fellows = [(number, place) for place in rng.permutation(len(self._documents[number])).tolist()[:size]]
        return Sheaf((*fellows, *drawn[len(fellows) :]), PageStyle.draw(rng), self._faces.draw(rng))

    def _without_shared(self, sheet: Sheet, own: PageText, sheaf: Sheaf) -> Sheet:
        """The sheet without texts that neighbours have, too: nobody could tell whose they are."""
        pages = [self._documents[number][place] for number, place in sheaf.places]
        others = [" ".join(" ".join(block.text for block in page.blocks).split()) for page in pages if page is not own]
        texts = {
            kind: [one for one in told if not any(one in other for other in others)]
            for kind, told in sheet.texts.items()
        }
        return replace(sheet, texts=texts)

    def _task(self, index: int) -> str:
        """Each kind of question is a task of its own; pages that are asked for in several ways are one."""
        return "composed" if self.source.questions > 1 else f"composed-{KINDS[index % len(KINDS)]}"

    def _ask(self, kind: str, sheet: Sheet, page: ComposedPage, rng: np.random.Generator) -> str:
        """What is on the picture: of the kind where there is one, else its keywords, else any of its words."""
        told = sheet.texts.get(kind, ())
        if told:
            return told[int(rng.integers(len(told)))]
        number = int(rng.integers(*QUERY_WORDS))
        known = {word: times for word, times in sheet.words.items() if self._counts[word]}
        words = find_keywords(known, self._counts, len(self._places), 3 * number) or list(page.words[:number])
        return " ".join(rng.permutation(words)[:number].tolist())

    def _compose(
        self, text: PageText, rng: np.random.Generator, sheaf: Sheaf | None = None
    ) -> tuple[ComposedPage, Pixels]:
        style, types = (sheaf.style, sheaf.types) if sheaf else (None, None)
        page = compose_page(text.blocks, self._faces, rng, style, types)
        return page, (scan_page(page, rng) if rng.random() < SCAN_RATE else page).pixels


def encode_png(pixels: Pixels) -> bytes:
    """The picture as a file, in little time rather than little room."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
