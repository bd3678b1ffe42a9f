"""The small frozen records that travel between the parts: words, pages, queries, hits, and what an encoder promises."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError

Floats: TypeAlias = NDArray[np.float32]
Ids: TypeAlias = NDArray[np.int64]
Pixels: TypeAlias = NDArray[np.uint8]
Part: TypeAlias = Pixels | str
"""What is embedded of a page: its picture [H, W, 3], or a passage of its text."""
CollectionMode: TypeAlias = Literal["text", "vision", "hybrid"]
"""Which rankings a collection is made for; `hybrid` is made for all."""
Mode: TypeAlias = Literal["text", "vision", "passages", "hybrid"]
"""Which ranking answers: by words, by look, by the meaning of passages, or all that the collection has."""


class Box(NamedTuple):
    """A rectangle on a page as shares of its width and height: origin top left, 0 <= x0 <= x1 <= 1."""

    x0: float
    y0: float
    x1: float
    y1: float


class Word(NamedTuple):
    """One word of a page's text layer and where it stands."""

    text: str
    box: Box


class Heading(NamedTuple):
    """One entry of a document's outline: depth from 1, and the page (from 1) it points to."""

    level: int
    title: str
    page: int


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """What a document says of itself; `kind` is `pdf` or `image`, `metadata` holds only keys with a value."""

    kind: str
    num_pages: int
    title: str
    metadata: dict[str, str]
    outline: tuple[Heading, ...]


@dataclass(frozen=True, slots=True)
class PageContent:
    """One page as a renderer gives it: number from 1, size in points, text layer, and pixels [H, W, 3] if asked for."""

    number: int
    width: float
    height: float
    words: tuple[Word, ...]
    image: Pixels | None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a collection: its document's name, its number from 1, its size in points and its text layer."""

    document: str
    number: int
    path: Path
    title: str
    width: float
    height: float
    words: tuple[Word, ...]

    @property
    def page_id(self) -> str:
        """The name that commands take: `reports/2023.pdf#4`."""
        return f"{self.document}#{self.number}"

    @property
    def text(self) -> str:
        """The words of the text layer, in reading order."""
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer: the page, its score, and what each ranking gave to it.

    In hybrid mode `vision + passages + text == score`, None counting nothing. With one ranking alone the score is that
    ranking's own: the cosine, or BM25. A ranking that the page cannot take part in (a scan has no text), or that the
    collection does not have, gives None. `boxes` surround the matched words.
    """

    rank: int
    score: float
    document: str
    page: int
    path: Path
    title: str
    vision: float | None
    passages: float | None
    text: float | None
    snippet: str
    matches: tuple[str, ...]
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A file, or one page of it (`page` from 1; 0 is the whole file), that could not be read, and why."""

    path: str
    page: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class PixelBudget:
    """How many pixels an encoder sees of a page; sides are multiples of `factor` (one merged visual token)."""

    min_pixels: int = 256 * 28 * 28
    max_pixels: int = 1024 * 28 * 28
    factor: int = 28


@dataclass(frozen=True, slots=True)
class FusionWeights:
    """How far the best page of each ranking is believed in hybrid search, from 0 (not at all) to 1 (see `fusion`).

    `wordless` takes the place of `vision` on a page without words. The defaults are those of a model whose look is nearly
    a match for words; no two sets of rankings come to the same belief, so that their best pages are never tied. Raises
    ConfigError on a weight outside 0 to 1.
    """

    text: float = 0.8
    passages: float = 0.5
    vision: float = 0.75
    wordless: float = 0.94

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ConfigError(f"weights: {name} is {value!r}: give a number from 0 to 1")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What decides an embedding, so that embeddings of two models are never mixed in one collection.

    The `weights` decide none: they say how far the model is believed beside words. A page picture has an embedding of
    each of its `regions`, one where it has one.
    """

    name: str
    revision: str
    dimension: int
    pooling: str
    page_prompt: str
    query_prompt: str
    pixels: PixelBudget
    regions: int = 1
    weights: FusionWeights = FusionWeights()


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: a text, a picture [H, W, 3] (uint8, RGB), or both."""

    text: str = ""
    image: Pixels | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why a page scores as it does: `score == shares.sum() + remainder`, up to rounding.

    A cosine with a mean of token states is a sum over the tokens, so each visual token has its exact share of it:
    above 0 it speaks for the page, below 0 against it.
    """

    score: float
    """The cosine of query and page."""
    shares: Floats
    """[rows, columns], on the page's grid of visual tokens."""
    remainder: float
    """What the tokens of the page's prompt and frame add."""


class Encoder(Protocol):
    """What a collection needs of a model; `moca_rag.Embedder` is the real one."""

    @property
    def card(self) -> ModelCard:
        """What decides its embeddings."""
        ...

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        """Unit embeddings [N, D], in order."""
        ...

    def encode_pages(self, parts: Iterable[Part]) -> Iterator[Floats]:
        """A unit embedding [D] a page image [H, W, 3] or passage, in any mixture, in order; it reads only a few ahead.

        Where the card has several regions, a page image has as many, or fewer: [R, D].
        """
        ...

    def explain(self, query: Query, image: Pixels) -> Explanation:
        """Which parts of a page image [H, W, 3] make its score for this query."""
        ...
