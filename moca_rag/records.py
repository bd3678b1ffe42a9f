"""The small frozen records that travel between the parts: words, pages, queries, hits, and what an encoder promises."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
Ids: TypeAlias = NDArray[np.int64]
Pixels: TypeAlias = NDArray[np.uint8]
Mode: TypeAlias = Literal["text", "vision", "hybrid"]


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


@dataclass(frozen=True, slots=True)
class PixelBudget:
    """How many pixels an encoder sees of a page; sides are multiples of `factor` (one merged visual token)."""

    min_pixels: int = 256 * 28 * 28
    max_pixels: int = 1024 * 28 * 28
    factor: int = 28


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What decides an embedding, so that embeddings of two models are never mixed in one collection."""

    name: str
    revision: str
    dimension: int
    pooling: str
    page_prompt: str
    query_prompt: str
    pixels: PixelBudget


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: a text, a picture [H, W, 3] (uint8, RGB), or both."""

    text: str = ""
    image: Pixels | None = None


class Encoder(Protocol):
    """What a collection needs of a model; `moca_rag.Embedder` is the real one."""

    @property
    def card(self) -> ModelCard:
        """What decides its embeddings."""
        ...

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        """Unit embeddings [N, D], in order."""
        ...

    def encode_pages(self, images: Iterable[Pixels]) -> Iterator[Floats]:
        """One unit embedding [D] a page image [H, W, 3], in order; it reads only a few images ahead."""
        ...
