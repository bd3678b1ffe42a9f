"""A model that is known at once and loaded when it is first asked: a run that finds nothing new never loads it."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .checkpoint import read_card
from .records import Floats, ModelCard, Pixels, Query

if TYPE_CHECKING:
    from .embedder import Embedder


class DeferredEmbedder:
    """An `Embedder` that reads its card now and its weights at the first query or page."""

    def __init__(self, model: str | Path) -> None:
        """Raises ModelError where the model cannot be found."""
        self._model = model
        self._card = read_card(model)
        self._embedder: Embedder | None = None

    @property
    def card(self) -> ModelCard:
        """What decides its embeddings."""
        return self._card

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        """Unit embeddings [N, D], in order."""
        return self._loaded().encode_queries(queries)

    def encode_pages(self, images: Iterable[Pixels]) -> Iterator[Floats]:
        """One unit embedding [D] a page image, in order."""
        return self._loaded().encode_pages(images)

    def _loaded(self) -> "Embedder":
        if self._embedder is None:
            from .embedder import Embedder

            self._embedder = Embedder.open(self._model)
        return self._embedder
