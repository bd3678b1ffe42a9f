"""Search folders of PDFs by meaning and by look.

from moca_rag import Collection, Embedder, index_documents

index_documents(["./pdfs"], "./answers", Embedder.open("moca-tiny"))  # without a model: by words alone
for hit in Collection.open("./answers").search("How much did energy cost in 2023?", top_k=5):
    print(hit.rank, hit.document, hit.page, hit.snippet)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # A program of ours, installed beside the library: from the source folder alone it cannot be followed.
    from moca_rag.indexer.pipeline import index_documents

    from .collection import Collection
    from .embedder import Embedder
    from .errors import CollectionError, ConfigError, DocumentError, MocaError, ModelError
    from .records import FusionWeights, Hit, Page

__all__ = [
    "Collection",
    "CollectionError",
    "ConfigError",
    "DocumentError",
    "Embedder",
    "FusionWeights",
    "Hit",
    "MocaError",
    "ModelError",
    "Page",
    "index_documents",
]

_PLACES = {
    "Collection": "moca_rag.collection",
    "Embedder": "moca_rag.embedder",
    "FusionWeights": "moca_rag.records",
    "Hit": "moca_rag.records",
    "Page": "moca_rag.records",
    "index_documents": "moca_rag.indexer.pipeline",
} | dict.fromkeys(("CollectionError", "ConfigError", "DocumentError", "MocaError", "ModelError"), "moca_rag.errors")


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: `import moca_rag` loads neither torch nor faiss."""
    if name not in _PLACES:
        raise AttributeError(f"module 'moca_rag' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
