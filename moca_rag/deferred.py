"""A model that is known at once and loaded when it is first asked: a run that finds nothing new never loads it."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from .checkpoint import read_card
from .records import Explanation, Floats, ModelCard, Part, PixelBudget, Pixels, Query

if TYPE_CHECKING:
    from .embedder import Embedder


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
        return self._loaded().encode_queries(queries)

    def encode_pages(self, parts: Iterable[Part]) -> Iterator[Floats]:
        """The unit embedding or embeddings of each page image or passage, in order."""
        return self._loaded().encode_pages(parts)

    def explain(self, query: Query, image: Pixels) -> Explanation:
        """Which parts of a page image make its score for this query."""
        return self._loaded().explain(query, image)

    def _loaded(self) -> "Embedder":
        if self._embedder is None:
            from .embedder import Embedder

            self._embedder = Embedder.open(self._model, pixels=self._card.pixels, dimension=self._card.dimension)
        return self._embedder
