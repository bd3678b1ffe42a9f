"""Turns documents, pages and vectors into committed rows of a collection: vectors durable first, then the catalog."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .catalog import PASSAGE, PICTURE, ROOT_ITSELF, Catalog, FileRow
from .errors import CollectionError
from .records import DocumentInfo, Failure, Floats, Heading, PageContent
from .terms import index_columns
from .textlayer import pack_words
from .vectors import Shards


@dataclass(frozen=True, slots=True)
class PageEntry:
    """A page on its way into the collection.

    `name` is the path that its words are searched by. `image_key` is the key of its picture, `passage_keys` are those of
    its passages; `vectors` [D] or [P, D], by key, are those of them that no page before it has brought.
    """

    document_id: int
    name: str
    content: PageContent
    image_key: bytes | None = None
    passage_keys: tuple[bytes, ...] = ()
    vectors: Mapping[bytes, Floats] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys of all that is embedded of it."""
        return self.passage_keys if self.image_key is None else (self.image_key, *self.passage_keys)


def ignore_step(step: str) -> None:
    """What is called at each named step of a commit; tests put a crash in its place."""


class CollectionWriter:
    """The only hand that writes a collection. Its caller holds the lock; every change is inside `transaction`."""

    def __init__(
        self, catalog: Catalog, shards: Shards | None, *, with_text: bool, on_step: Callable[[str], None] = ignore_step
    ) -> None:
        self.catalog = catalog
        self._shards = shards
        self._with_text = with_text
        self._on_step = on_step

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing: what is done inside becomes visible and durable at once, at the end."""
        self.catalog.db.execute("BEGIN IMMEDIATE")
        try:
            self._on_step("begun")
            yield
            self._on_step("written")
            self.catalog.db.execute("COMMIT")
        except BaseException:
            if self.catalog.db.in_transaction:
                self.catalog.db.execute("ROLLBACK")
            raise
        self._on_step("committed")

    # -- roots and files ----------------------------------------------------------------------------------------------

    def add_root(self, path: Path) -> int:
        """The id of a root. Roots inside a new one become part of it, so that no file has two homes."""
        known = {root_path: root_id for root_id, root_path in self.catalog.roots().items()}
        if path in known:
            return known[path]
        root_id = self.catalog.db.execute("INSERT INTO roots (path) VALUES (?)", (str(path),)).lastrowid
        assert root_id is not None
        for inner, inner_id in known.items():
            if inner.is_relative_to(path):
                self._absorb(inner_id, inner.relative_to(path), root_id, path)
        return root_id

    def _absorb(self, inner_id: int, prefix: Path, root_id: int, root: Path) -> None:
        db = self.catalog.db
        files = self.catalog.files(root_id=inner_id)
        db.execute("UPDATE files SET name = char(1) || name WHERE root_id = ?", (inner_id,))  # frees their names
        for file in files:
            relative = (prefix / file.path).as_posix()
            name = self._free_name(root, relative)
            db.execute(
                "UPDATE files SET root_id = ?, path = ?, name = ? WHERE file_id = ?",
                (root_id, relative, name, file.file_id),
            )
        for _, failure, _ in self.catalog.failures(inner_id):
            db.execute(
                "UPDATE failures SET root_id = ?, path = ? WHERE root_id = ? AND path = ? AND page = ?",
                (root_id, (prefix / failure.path).as_posix(), inner_id, failure.path, failure.page),
            )
        db.execute("DELETE FROM roots WHERE root_id = ?", (inner_id,))

    def _free_name(self, root: Path, relative: str) -> str:
        """The path below the root; where another root has that name already, with the root's name, then in full."""
        full = (root if relative == ROOT_ITSELF else root / relative).as_posix()
        short = root.name if relative == ROOT_ITSELF else relative
        for name in (short, f"{root.name}/{relative}", full):
            if self.catalog.db.execute("SELECT 1 FROM files WHERE name = ?", (name,)).fetchone() is None:
                return name
        raise CollectionError(f"{full} is in the collection twice: run `moca verify --repair`")

    def link_file(self, root_id: int, relative: str, stat: tuple[int, int], document_id: int) -> int:
        """Let a file (its size and mtime_ns given) show a document; what it showed before is let go. Its file id."""
        db = self.catalog.db
        row = db.execute("SELECT file_id FROM files WHERE root_id = ? AND path = ?", (root_id, relative)).fetchone()
        if row is not None:
            db.execute(
                "UPDATE files SET size = ?, mtime_ns = ?, document_id = ? WHERE file_id = ?",
                (*stat, document_id, row[0]),
            )
            return int(row[0])
        name = self._free_name(self.catalog.roots()[root_id], relative)
        cursor = db.execute(
            "INSERT INTO files (root_id, path, name, size, mtime_ns, document_id) VALUES (?, ?, ?, ?, ?, ?)",
            (root_id, relative, name, *stat, document_id),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def tag_file(self, file_id: int, tags: Mapping[str, str]) -> None:
        """Set these tags; another value of the same key is replaced."""
        for key, value in tags.items():
            self.catalog.db.execute("DELETE FROM tags WHERE file_id = ? AND key = ?", (file_id, key))
            self.catalog.db.execute("INSERT INTO tags (file_id, key, value) VALUES (?, ?, ?)", (file_id, key, value))

    def drop_files(self, files: Iterable[FileRow]) -> None:
        """Take files out of the collection; their documents go at the next `sweep` if no other file shows them."""
        for file in files:
            self.catalog.db.execute("DELETE FROM files WHERE file_id = ?", (file.file_id,))

    def drop_path(self, root_id: int, relative: str) -> None:
        """Take the file at this path out of the collection, if it is there."""
        self.catalog.db.execute("DELETE FROM files WHERE root_id = ? AND path = ?", (root_id, relative))

    # -- failures -----------------------------------------------------------------------------------------------------

    def add_failure(self, root_id: int, failure: Failure, stat: tuple[int, int]) -> None:
        """Remember what could not be read, and of which size and mtime_ns it was, until it changes."""
        self.catalog.db.execute(
            "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?, ?)",
            (root_id, failure.path, failure.page, failure.code, failure.reason, *stat),
        )

    def clear_failures(self, root_id: int, relative: str) -> None:
        """Forget what could not be read of a file."""
        self.catalog.db.execute("DELETE FROM failures WHERE root_id = ? AND path = ?", (root_id, relative))

    # -- documents and pages ------------------------------------------------------------------------------------------

    def add_document(self, sha256: str, info: DocumentInfo) -> int:
        """The id of a document, new or begun before."""
        known = self.catalog.find_document(sha256)
        if known is not None:
            return known[0]
        cursor = self.catalog.db.execute(
            "INSERT INTO documents (sha256, kind, title, metadata, outline, num_pages) VALUES (?, ?, ?, ?, ?, ?)",
            (sha256, info.kind, info.title, json.dumps(info.metadata), json.dumps(info.outline), info.num_pages),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def complete_document(self, document_id: int) -> None:
        """Note that every page that can be read is here."""
        self.catalog.db.execute("UPDATE documents SET complete = 1 WHERE document_id = ?", (document_id,))

    def reopen_document(self, document_id: int) -> None:
        """Note that pages are missing, so that the next run reads them."""
        self.catalog.db.execute("UPDATE documents SET complete = 0 WHERE document_id = ?", (document_id,))

    def add_pages(self, entries: Sequence[PageEntry]) -> None:
        """Write pages, their text and their vectors."""
        self._write_vectors(entries)
        self._on_step("vectors")
        for entry in entries:
            page_id = self._insert_page(entry)
            if self._with_text and entry.content.words:
                self._insert_text(page_id, entry)
            for key in entry.keys:
                vector_ids = self.catalog.find_vectors(key)
                assert vector_ids, f"nothing was embedded for a part of page {entry.content.number} of {entry.name}"
                self._link_vectors(page_id, vector_ids)
        self._on_step("pages")

    def _insert_page(self, entry: PageEntry) -> int:
        content = entry.content
        row = (entry.document_id, content.number, content.width, content.height, len(content.words))
        cursor = self.catalog.db.execute(
            """INSERT INTO pages (document_id, number, width, height, num_words, words, num_passages)
               VALUES (?, ?, ?, ?, ?, ?, ?)""",
            (*row, pack_words(content.words), len(entry.passage_keys)),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _insert_text(self, page_id: int, entry: PageEntry) -> None:
        info = self.catalog.document_info(entry.document_id)
        headings = headings_above(info.outline, entry.content.number)
        columns = index_columns((word.text for word in entry.content.words), info.title, entry.name, headings)
        self.catalog.db.execute(
            "INSERT INTO page_text (rowid, body, context, pairs) VALUES (?, ?, ?, ?)", (page_id, *columns)
        )

    def _write_vectors(self, entries: Sequence[PageEntry]) -> None:
        """Append new vectors to the shards, synced, and their rows to the catalog."""
        fresh: dict[bytes, tuple[int, Floats]] = {}
        for entry in entries:
            for key, vectors in entry.vectors.items():
                if key not in fresh and not self.catalog.has_vectors(key):
                    fresh[key] = (PICTURE if key == entry.image_key else PASSAGE, np.atleast_2d(vectors))
        if not fresh:
            return
        assert self._shards is not None
        first_id = self.catalog.num_rows()
        crcs = self._shards.write(first_id, np.concatenate([vectors for _, vectors in fresh.values()]))
        rows = [(key, part, kind) for key, (kind, vectors) in fresh.items() for part in range(len(vectors))]
        self.catalog.db.executemany(
            "INSERT INTO vectors (vector_id, crc, image_key, part, kind) VALUES (?, ?, ?, ?, ?)",
            [(first_id + place, int(crc), *row) for place, (row, crc) in enumerate(zip(rows, crcs, strict=True))],
        )

    def _link_vectors(self, page_id: int, vector_ids: Sequence[int]) -> None:
        for vector_id in vector_ids:
            self.catalog.db.execute("INSERT INTO page_vectors VALUES (?, ?)", (page_id, vector_id))
            self.catalog.db.execute("UPDATE vectors SET live = 1 WHERE vector_id = ? AND live = 0", (vector_id,))

    def bury_vectors(self) -> None:
        """Leave tombstones for all vectors that no page owns."""
        self.catalog.db.execute(
            """UPDATE vectors SET live = 0
               WHERE live = 1 AND NOT EXISTS (SELECT 1 FROM page_vectors p WHERE p.vector_id = vectors.vector_id)"""
        )

    def sweep(self) -> int:
        """Delete documents that no file shows, and leave tombstones for vectors that no page owns. Documents deleted."""
        db = self.catalog.db
        orphans = "SELECT document_id FROM documents WHERE document_id NOT IN (SELECT document_id FROM files)"
        pages = f"SELECT page_id FROM pages WHERE document_id IN ({orphans})"
        num_orphans = int(db.execute(f"SELECT count(*) FROM ({orphans})").fetchone()[0])
        if num_orphans:
            touched = db.execute(f"SELECT DISTINCT vector_id FROM page_vectors WHERE page_id IN ({pages})").fetchall()
            db.execute(f"DELETE FROM page_text WHERE rowid IN ({pages})")
            db.execute(f"DELETE FROM pages WHERE page_id IN ({pages})")
            db.execute(f"DELETE FROM documents WHERE document_id IN ({orphans})")
            db.executemany(
                """UPDATE vectors SET live = 0
                   WHERE vector_id = ? AND NOT EXISTS (SELECT 1 FROM page_vectors p WHERE p.vector_id = vectors.vector_id)""",
                touched,
            )
        return num_orphans


def headings_above(outline: Sequence[Heading], number: int) -> list[str]:
    """The outline's headings that a page stands under or that begin on it, outermost first.

    >>> headings_above([Heading(1, "A", 1), Heading(2, "B", 2), Heading(1, "C", 5)], 3)
    ['A', 'B']
    """
    open_headings: list[Heading] = []
    for heading in outline:
        if heading.page > number:
            continue
        if heading.page < number:
            open_headings = [above for above in open_headings if above.level < heading.level]
        open_headings.append(heading)
    return list(dict.fromkeys(heading.title for heading in open_headings))
