"""A collection on disk: pages that answer questions. Made by `index_documents`, opened and searched here."""

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from .catalog import Catalog, FileRow, explain, reported
from .errors import CollectionError, ConfigError, DocumentError
from .fingerprint import FILE_NAME, Fingerprint, read_fingerprint, write_fingerprint
from .locks import WriteLock
from .records import Encoder, Explanation, Floats, FusionWeights, Hit, Mode, Page, Pixels, Query
from .search import Request, check_request, find_hits
from .stores import LocalStore, StorePart
from .textlayer import unpack_words
from .vectors import Shards
from .writer import CollectionWriter

CATALOG_NAME = "catalog.sqlite"


def default_path() -> Path:
    """Where the collection lies if none is named: `MOCA_COLLECTION`, or a folder in the user's data folder."""
    named = os.environ.get("MOCA_COLLECTION")
    if named:
        return Path(named)
    from platformdirs import user_data_path

    return user_data_path("moca_rag") / "collection"


def is_collection(folder: Path) -> bool:
    """Whether a collection was made at this place."""
    return (folder / FILE_NAME).is_file()


def holds_documents(folder: Path) -> bool:
    """Whether a catalog lies here that can be read and is not empty."""
    try:
        catalog = Catalog.open(folder / CATALOG_NAME)
    except CollectionError:
        return False
    try:
        return catalog.count()["documents"] > 0
    except sqlite3.DatabaseError:
        return False
    finally:
        catalog.close()


def restore_collection(folder: Path) -> None:
    """Put a collection back that a rebuild had set aside when it was killed between its two renames."""
    aside = folder.with_name(folder.name + ".old")
    if not folder.exists() and is_collection(aside):
        os.rename(aside, folder)


class Collection:
    """An open collection. Searching needs no lock and sees what was committed, also while another process writes.

    >>> with Collection.open("demo/collection") as collection:  # doctest: +SKIP
    ...     for hit in collection.search("How much water was lost?", top_k=3):
    ...         print(hit.rank, hit.document, hit.page, hit.snippet)
    """

    def __init__(self, path: Path, fingerprint: Fingerprint, catalog: Catalog, encoder: Encoder | None = None) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.catalog = catalog
        self._encoder = encoder
        self._store: LocalStore | None = None
        self._store_version = (-1, -1)
        self._kinds_of: LocalStore | None = None
        self._pictures = np.zeros(0, np.bool_)

    @classmethod
    def open(cls, path: str | Path | None = None, *, encoder: Encoder | None = None) -> "Collection":
        """Open an existing collection. Without an encoder, the model that it was made with is loaded when asked.

        Raises CollectionError where there is none or it is damaged, FingerprintError where the encoder is another.
        """
        folder = Path(path) if path is not None else default_path()
        restore_collection(folder)
        if not is_collection(folder):
            raise CollectionError(f"there is no collection at {folder}: make one with `moca index FOLDER_OF_PDFS`")
        fingerprint = read_fingerprint(folder)
        if encoder is not None:
            fingerprint.check_model(encoder.card, folder)
        return cls(folder, fingerprint, Catalog.open(folder / CATALOG_NAME), encoder)

    @classmethod
    @contextmanager
    def writing(
        cls, path: str | Path, fingerprint: Fingerprint | None = None
    ) -> Iterator[tuple["Collection", CollectionWriter]]:
        """Hold the write lock of a collection; made first, with this fingerprint, where there is none.

        Raises LockedError while another process writes.
        """
        folder = Path(path)
        restore_collection(folder)
        if fingerprint is None and not is_collection(folder):
            raise CollectionError(f"there is no collection at {folder}: make one with `moca index FOLDER_OF_PDFS`")
        _make_folder(folder)
        lock = WriteLock(folder / "lock")
        catalog = None
        try:
            if not is_collection(folder):
                assert fingerprint is not None
                _create(folder, fingerprint)
            fingerprint = read_fingerprint(folder)
            catalog = Catalog.open(folder / CATALOG_NAME, write=True)
            collection = cls(folder, fingerprint, catalog)
            shards = collection.shards() if fingerprint.model is not None else None
            with reported(catalog.path):
                yield collection, CollectionWriter(catalog, shards, with_text=fingerprint.mode != "vision")
        finally:
            if catalog is not None:
                catalog.close()
            lock.release()

    # -- asking -------------------------------------------------------------------------------------------------------

    def search(
        self,
        query: str = "",
        *,
        image: Pixels | None = None,
        top_k: int = 10,
        mode: Mode | None = None,
        where: Mapping[str, str] | None = None,
        within: str | None = None,
        weights: FusionWeights | None = None,
    ) -> list[Hit]:
        """The best pages for a question, a picture [H, W, 3], or both; best first.

        `mode` is the collection's own if not named. `where` picks by tags and metadata, `within` by a glob over document
        names or a folder; filters are exact: `top_k` hits come back wherever that many pages match. `weights` take the
        place of the model's in hybrid search. Raises ConfigError on a question or filter that cannot be used.
        """
        request = Request(Query(query, image), top_k, mode or self.fingerprint.mode, where, within)
        request = check_request(request, self.fingerprint)
        embedding = None if request.mode == "text" else self.encoder.encode_queries([request.query])[0]
        generation = self.catalog.generation
        try:
            return self._find_hits(request, embedding, weights)
        except CollectionError:
            if self.catalog.generation == generation:
                raise
            return self._find_hits(request, embedding, weights)  # a compaction moved the vectors meanwhile

    def _find_hits(self, request: Request, embedding: Floats | None, weights: FusionWeights | None) -> list[Hit]:
        with reported(self.catalog.path), self.snapshot():
            stores = {} if embedding is None else self.stores()
            return find_hits(self.catalog, request, stores, embedding, self.fingerprint.model, weights)

    def explain(
        self, query: str, page_id: str, *, image: Pixels | None = None, passwords: Sequence[str] = ()
    ) -> Explanation:
        """Which parts of a page make its cosine with a question, a picture [H, W, 3], or both.

        The page is drawn anew, at the size that the model saw. Raises ConfigError in a text collection, DocumentError
        where the file is gone or has changed since it was indexed: its vector may be of another picture.
        """
        encoder = self.encoder
        request = check_request(Request(Query(query, image), mode="vision"), self.fingerprint)
        with reported(self.catalog.path), self.snapshot():
            page = self.page(page_id)
            sha256 = self.find_file(page.document).sha256
        _check_unchanged(page.path, sha256)
        from .render import open_document

        with closing(open_document(page.path, passwords)) as document:
            drawn = document.read_page(page.number, encoder.card.pixels).image
        assert drawn is not None
        return encoder.explain(request.query, drawn)

    def page(self, page_id: str) -> Page:
        """The page with this id, `reports/2023.pdf#4`. Raises ConfigError where there is none."""
        name, _, number = page_id.rpartition("#")
        if not name or not number.isdecimal():
            raise ConfigError(f"{page_id!r} names no page: write DOCUMENT#PAGE, as in report.pdf#3")
        file = self.find_file(name)
        row_id = self.catalog.find_page(file.document_id, int(number))
        if row_id is None:
            pages = self.catalog.document_info(file.document_id).num_pages
            raise ConfigError(f"{name} has no page {number} in this collection: its pages are 1 to {pages}")
        row = self.catalog.pages([row_id])[row_id]
        path = self.catalog.file_path(file)
        return Page(file.name, row.number, path, row.title, row.width, row.height, unpack_words(row.words))

    def find_file(self, name: str) -> FileRow:
        """The file with this name, or with this bare file name where it is unique. Raises ConfigError."""
        files = self.catalog.files()
        exact = [file for file in files if file.name == name]
        bare = exact or [file for file in files if file.name.rpartition("/")[2] == name]
        if len(bare) == 1:
            return bare[0]
        if bare:
            names = ", ".join(file.name for file in bare[:4])
            raise ConfigError(f"{name!r} is the name of {len(bare)} documents: write one of {names}")
        raise ConfigError(f"no document is named {name!r}: `moca ls` lists them")

    @property
    def encoder(self) -> Encoder:
        """The model that this collection was made with, loaded at the first call. Raises ModelError."""
        if self._encoder is None:
            card = self.fingerprint.model
            if card is None:
                raise ConfigError(
                    "a text collection has no model: `moca index --rebuild --model ...` makes one that has"
                )
            from .deferred import DeferredEmbedder

            encoder = DeferredEmbedder.of(card)
            self.fingerprint.check_model(encoder.card, self.path)
            self._encoder = encoder
        return self._encoder

    def weigh(self, weights: FusionWeights) -> None:
        """Search with these weights from now on; the write lock must be held."""
        model = self.fingerprint.model
        if model is not None and model.weights != weights:
            self.fingerprint = replace(self.fingerprint, model=replace(model, weights=weights))
            write_fingerprint(self.path, self.fingerprint)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is read inside is of one committed state."""
        self.catalog.db.execute("BEGIN")
        try:
            yield
        finally:
            self.catalog.db.execute("ROLLBACK")

    # -- vectors ------------------------------------------------------------------------------------------------------

    def shards(self) -> Shards:
        """The files that hold this collection's vectors."""
        assert self.fingerprint.model is not None
        return Shards(self.path / "vectors", self.fingerprint.model.dimension, self.catalog.generation)

    def store(self) -> LocalStore:
        """What ranks the vectors that are committed now; kept while nothing changes."""
        version = self.catalog.version()
        if self._store is None or version != self._store_version:
            shards, num_rows, dead = self.shards(), self.catalog.num_rows(), self.catalog.dead_rows()
            shards.check(num_rows)
            if self._store is not None and self._store.generation == shards.generation:
                self._store.sync(num_rows, dead)
            else:
                self._store = LocalStore(shards, self.path / "index", num_rows, dead)
            self._store_version = version
        return self._store

    def stores(self) -> dict[str, LocalStore | StorePart]:
        """What ranks the vectors of pictures (`vision`) and of passages, where there are some; kept as the store is."""
        store = self.store()
        if not self.fingerprint.passages:
            return {"vision": store}
        if self._kinds_of is not store:
            self._kinds_of, self._pictures = store, np.zeros(0, np.bool_)
        num_known, num_rows = len(self._pictures), store.num_rows
        if num_known < num_rows:  # newer rows; what a row holds never changes
            ids = self.catalog.picture_rows(num_known)
            self._pictures = np.pad(self._pictures, (0, num_rows - num_known))
            self._pictures[ids[ids < num_rows]] = True
        return {"vision": StorePart(store, self._pictures), "passages": StorePart(store, ~self._pictures)}

    # -- closing ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the files."""
        self.catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise explain(error, self.catalog.path) from error


def _check_unchanged(path: Path, sha256: str) -> None:
    """Raises DocumentError where a file is not the one that was indexed."""
    import hashlib

    advice = "run `moca index` to bring the collection up to date"
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise DocumentError(f"{path} is gone: {advice}", "gone") from error
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error.strerror}", "unreadable") from error
    if found != sha256:
        raise DocumentError(f"{path} has changed since it was indexed: {advice}", "changed")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strangers = [entry.name for entry in folder.iterdir()] if not (folder / FILE_NAME).exists() else []
    except OSError as error:
        raise CollectionError(f"{folder} cannot be made: {error.strerror}: choose another --collection") from error
    ours = {"lock", "vectors", "index", "collection.new"}
    if any(name not in ours and not name.startswith(CATALOG_NAME) for name in strangers):
        raise CollectionError(f"{folder} holds other files ({strangers[0]}): choose an empty folder as --collection")


def _create(folder: Path, fingerprint: Fingerprint) -> None:
    """Make the empty parts; `collection.toml` comes last, so that a half-made collection is made again."""
    if holds_documents(folder):
        raise CollectionError(
            f"{folder / FILE_NAME} is missing beside a catalog that holds documents: bring it back from a backup, or "
            "make the collection anew with `moca index --rebuild FOLDER_OF_PDFS`"
        )
    try:
        for leftover in folder.glob(CATALOG_NAME + "*"):
            leftover.unlink()
        (folder / "vectors").mkdir(exist_ok=True)
        (folder / "index").mkdir(exist_ok=True)
        Catalog.create(folder / CATALOG_NAME).close()
        write_fingerprint(folder, fingerprint)
    except OSError as error:
        raise CollectionError(f"{folder} cannot be written: {error.strerror}") from error
