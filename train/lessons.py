"""Where lessons in reading come from: crops and pages composed of documents, each by its number alone."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moca_rag.errors import ConfigError
from moca_rag.inputs import BLOCK, SequenceBuilder, TokenSequence, load_tokenizer
from moca_rag.records import PixelBudget, Pixels
from moca_rag.shapes import VisionTokens

from .canvas import ComposedPage
from .compose import CROP_SIZES, compose_crop, compose_page
from .corruption import derive_seed
from .documents import read_documents
from .faces import Faces
from .letters import Lesson, WordPieces, read_lesson
from .scanning import scan_page

Row = tuple[TokenSequence, Lesson]

# Pages come in the size at which they are to be seen.
ANY_SIZE = PixelBudget(min_pixels=BLOCK**2, max_pixels=10_000 * BLOCK**2)
CROP_WORDS = 400  # more than a crop of the smallest type holds
STRANGE_RATE = 0.15  # of a crop's words are made up: a reader must not lean on words that it knows


@dataclass(frozen=True, slots=True)
class LessonRates:
    """What is drawn: the share of whole pages, that of what looks scanned, the size of crops and of their type in pixels."""

    pages: float = 0.0
    scans: float = 0.15
    crop_width: int = 448
    crop_height: int = 112
    crop_sizes: tuple[float, float] = CROP_SIZES


@dataclass(frozen=True, slots=True)
class LessonSupply:
    """What lessons are made of: documents of `moca data corpus`, a folder of fonts, a model's way to count tokens."""

    documents: Path
    faces: Path
    tokenizer: Path
    tokens: VisionTokens
    max_tokens: int
    rates: LessonRates
    seed: int

    def fingerprint(self) -> str:
        """A hash of the bytes of documents and fonts."""
        digest = hashlib.blake2b(repr(self.rates).encode(), digest_size=16)
        for path in [self.documents, *sorted(path for path in self.faces.rglob("*") if path.is_file())]:
            digest.update(hashlib.blake2b(path.read_bytes(), digest_size=16).digest())
        return digest.hexdigest()


def open_lessons(supply: LessonSupply) -> Callable[[int], Row]:
    """What builds a lesson by its number."""
    return Lessons(supply).build


class Lessons:
    """An endless supply of pages to read; number and seed decide all of each."""

    def __init__(self, supply: LessonSupply) -> None:
        """Raises ConfigError where the documents or fonts are none."""
        documents = read_documents(supply.documents)
        self._pages = [page for document in documents for page in document.pages if page.num_words]
        if not self._pages:
            raise ConfigError(f"{supply.documents} holds no page with words: make another with moca data corpus")
        self._faces, self._rates, self._seed = Faces.open(supply.faces), supply.rates, supply.seed
        tokenizer = load_tokenizer(supply.tokenizer)
        self._pieces = WordPieces(tokenizer)
        self._builder = SequenceBuilder(tokenizer, supply.tokens, ANY_SIZE, supply.max_tokens, tells=False)

    def build(self, number: int) -> Row:
        """A page as a sequence and as a lesson: a crop is a picture alone, a whole page is followed by its text."""
        rng = np.random.default_rng(derive_seed(self._seed, number, "lesson"))
        whole = rng.random() < self._rates.pages
        page = self._compose_page(rng) if whole else self._compose_crop(rng)
        if rng.random() < self._rates.scans:
            page = scan_page(page, rng)
        parts: list[str | Pixels] = [page.pixels, "\n" + page.text] if whole else [page.pixels]
        return self._builder.build(parts), read_lesson(page, self._pieces)

    def _compose_page(self, rng: np.random.Generator) -> ComposedPage:
        return compose_page(self._pages[int(rng.integers(len(self._pages)))].blocks, self._faces, rng)

    def _compose_crop(self, rng: np.random.Generator) -> ComposedPage:
        rates = self._rates
        return compose_crop(
            self._draw_words(rng), self._faces, rng, rates.crop_width, rates.crop_height, rates.crop_sizes
        )

    def _draw_words(self, rng: np.random.Generator) -> list[str]:
        """Words as they follow each other somewhere on a page, some with their letters thrown about."""
        words: list[str] = []
        while len(words) < CROP_WORDS:
            page = self._pages[int(rng.integers(len(self._pages)))]
            text = " ".join(block.text for block in page.blocks).split()
            start = int(rng.integers(max(1, len(text) - 20)))
            words += text[start : start + 100]
        strange = rng.random(len(words)) < STRANGE_RATE
        return ["".join(rng.permutation(list(word))) if odd else word for word, odd in zip(words, strange, strict=True)]
