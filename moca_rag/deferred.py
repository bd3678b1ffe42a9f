"""A model that is known at once and loaded when it is first asked: a run that finds nothing new never loads it.

A few text queries of a small model are embedded without loading it at all, see `text_queries`.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from .checkpoint import find_checkpoint, read_card
from .records import Explanation, Floats, ModelCard, Part, PixelBudget, Pixels, Query

if TYPE_CHECKING:
    from .embedder import Embedder
    from .text_queries import TextQueryEncoder

FEW_QUERIES = 8  # more of them are worth the import of torch


class DeferredEmbedder:
    """An `Embedder` that reads its card now and its weights at the first query or page."""

    def __init__(self, model: str | Path, *, pixels: PixelBudget | None = None, dimension: int | None = None) -> None:
        """Raises ModelError where the model cannot be found; see `Embedder.open` for the options."""
        self._model = model
        self._card = read_card(model, pixels, dimension)
        self._embedder: Embedder | None = None

    @classmethod
    def of(cls, card: ModelCard) -> Self:
        """The model of a collection, with the settings that it was made with; one that has changed, with its own."""
        own = cls(card.name)
        if own.card == card or own.card.revision != card.revision:
            return own
        return cls(card.name, pixels=card.pixels, dimension=card.dimension)

    @property
    def card(self) -> ModelCard:
        """What decides its embeddings."""
        return self._card

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        """Unit embeddings [N, D], in order."""
        are_few_texts = 0 < len(queries) <= FEW_QUERIES and all(
            query.image is None and query.text.strip() for query in queries
        )
        if are_few_texts and self._embedder is None and self._text_queries is not None:
            return np.stack([self._text_queries.encode(query.text) for query in queries])
        return self._loaded().encode_queries(queries)

    def encode_pages(self, parts: Iterable[Part]) -> Iterator[Floats]:
        """The unit embedding or embeddings of each page image or passage, in order."""
        return self._loaded().encode_pages(parts)

    def explain(self, query: Query, image: Pixels) -> Explanation:
        """Which parts of a page image make its score for this query."""
        return self._loaded().explain(query, image)

    @cached_property
    def _text_queries(self) -> "TextQueryEncoder | None":
        from .text_queries import TextQueryEncoder

        return TextQueryEncoder.open(find_checkpoint(self._model), self._card)

    def _loaded(self) -> "Embedder":
        if self._embedder is None:
            from .embedder import Embedder

            self._embedder = Embedder.open(self._model, pixels=self._card.pixels, dimension=self._card.dimension)
        return self._embedder
