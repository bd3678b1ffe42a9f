"""The documents among which hard negatives are sought: the answers of the rows themselves, or a collection's pages."""

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np

from moca_rag.collection import Collection
from moca_rag.records import Floats, Ids
from moca_rag.render import open_document
from moca_rag.search import first_files, rank_vectors

from .pdf_rows import ZIP_TIME, encode_page
from .rows import Side
from .schemas import PAGE_TEXT


class Document(NamedTuple):
    """A document as rows hold it: its content's key, its text, its images' names in the zip."""

    key: int
    text: str
    images: list[str]


class Pool(Protocol):
    """The documents among which negatives are sought."""

    def __len__(self) -> int: ...

    def rank(self, queries: Floats, depth: int) -> Iterable[tuple[Ids, Floats]]:
        """For each query [B, D] the best documents' numbers and cosines, best first."""
        ...

    def fetch(self, number: int) -> Document:
        """A document that was ranked."""
        ...


class RowPool:
    """The positives of the rows themselves."""

    def __init__(self, documents: Sequence[Document], embeddings: Sequence[Floats]) -> None:
        """`embeddings` [R, D] are those of each document's regions."""
        self._documents = documents
        self._embeddings = np.concatenate(embeddings)
        self._starts = np.cumsum([0, *map(len, embeddings[:-1])])

    def __len__(self) -> int:
        return len(self._documents)

    def rank(self, queries: Floats, depth: int) -> Iterator[tuple[Ids, Floats]]:
        """By the exact cosine of a document's best region; equal ones in the order of the rows."""
        for scores in np.maximum.reduceat(queries @ self._embeddings.T, self._starts, axis=1):
            best = find_best(scores, depth)
            yield best, scores[best]

    def fetch(self, number: int) -> Document:
        """A document of a row."""
        return self._documents[number]


class ImageStore:
    """The zip of images beside the rows, each under the hash of its content."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
        self._names: set[str] = set()

    def keep(self, side: Side) -> Document:
        """A side whose images are in the zip from now on."""
        names = [hashlib.blake2b(image, digest_size=16).hexdigest() for image in side.images]
        for name, image in zip(names, side.images, strict=True):
            if name not in self._names:
                self._names.add(name)
                self._zip.writestr(zipfile.ZipInfo(name, ZIP_TIME), image)
        return Document(side.key, side.text, names)

    def close(self) -> None:
        """Write the zip's end."""
        self._zip.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CollectionPool:
    """The pages of a collection, ranked by its own store and drawn when they are chosen."""

    def __init__(self, collection: Collection, images: ImageStore) -> None:
        self._collection = collection
        self._images = images
        self._drawn: dict[int, Document] = {}

    def __len__(self) -> int:
        return self._collection.catalog.count()["pages"]

    def rank(self, queries: Floats, depth: int) -> list[tuple[Ids, Floats]]:
        """By cosine, as search in the mode `vision` does."""
        collection = self._collection
        with collection.snapshot():
            store = collection.stores()["vision"]
            found = [rank_vectors(collection.catalog, store, query, depth, None) for query in queries]
        return [(np.array([*pages], np.int64), np.array([*pages.values()], np.float32)) for pages in found]

    def fetch(self, number: int) -> Document:
        """A page as `moca data from-pdfs` writes it. Raises DocumentError where its file is gone."""
        if number not in self._drawn:
            catalog, card = self._collection.catalog, self._collection.fingerprint.model
            assert card is not None
            page = catalog.pages([number])[number]
            file = first_files(catalog, [page.document_id])[page.document_id]
            with closing(open_document(catalog.file_path(file))) as document:
                image = document.read_page(page.number, card.pixels).image
            assert image is not None
            self._drawn[number] = self._images.keep(Side(PAGE_TEXT, (encode_page(image)[0],)))
        return self._drawn[number]


def find_best(scores: Floats, depth: int) -> Ids:
    """The places of the `depth` highest scores, best first; of equal ones the first comes first.

    >>> find_best(np.array([0.1, 0.9, 0.5, 0.9], np.float32), 3).tolist()
    [1, 3, 2]
    """
    if depth < len(scores):
        cut = np.partition(scores, -depth)[-depth]
        places = np.flatnonzero(scores >= cut)
    else:
        places = np.arange(len(scores))
    return places[np.argsort(-scores[places], kind="stable")][:depth]
