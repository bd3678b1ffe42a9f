"""The catalog: which documents, pages, words and vectors a collection holds. One SQLite file, the source of truth."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import CollectionError
from .records import DocumentInfo, Failure, Heading, Ids
from .terms import TOKENIZER

SCHEMA_VERSION = 2
FIRST_VERSION = 1  # without passages; it is read as it is, and brought up to date when it is opened for writing
PICTURE, PASSAGE = 0, 1  # kinds of vectors: of a page's picture, of a passage of its text
BUSY_SECONDS = 10
ROOT_ITSELF = "."  # the relative path of a file that is its own root
# A vector's image_key is the hash of the page's picture; of a passage, which came later, that of its text.
SCHEMA = f"""
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE roots (root_id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);
CREATE TABLE documents (
    document_id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, title TEXT NOT NULL,
    metadata TEXT NOT NULL, outline TEXT NOT NULL, num_pages INTEGER NOT NULL, complete INTEGER NOT NULL DEFAULT 0);
CREATE TABLE files (
    file_id INTEGER PRIMARY KEY, root_id INTEGER NOT NULL REFERENCES roots, path TEXT NOT NULL,
    name TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    document_id INTEGER NOT NULL REFERENCES documents, UNIQUE (root_id, path));
CREATE INDEX files_by_document ON files (document_id);
CREATE TABLE tags (
    file_id INTEGER NOT NULL REFERENCES files ON DELETE CASCADE, key TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (file_id, key, value)) WITHOUT ROWID;
CREATE TABLE pages (
    page_id INTEGER PRIMARY KEY, document_id INTEGER NOT NULL REFERENCES documents, number INTEGER NOT NULL,
    width REAL NOT NULL, height REAL NOT NULL, num_words INTEGER NOT NULL, words BLOB NOT NULL,
    num_passages INTEGER NOT NULL DEFAULT 0, UNIQUE (document_id, number));
CREATE TABLE vectors (
    vector_id INTEGER PRIMARY KEY, image_key BLOB NOT NULL, part INTEGER NOT NULL, crc INTEGER NOT NULL,
    live INTEGER NOT NULL DEFAULT 1, kind INTEGER NOT NULL DEFAULT {PICTURE}, UNIQUE (image_key, part));
CREATE INDEX dead_vectors ON vectors (vector_id) WHERE live = 0;
CREATE INDEX pictures ON vectors (vector_id) WHERE kind = {PICTURE};
CREATE TABLE page_vectors (
    page_id INTEGER NOT NULL REFERENCES pages ON DELETE CASCADE, vector_id INTEGER NOT NULL REFERENCES vectors,
    PRIMARY KEY (page_id, vector_id)) WITHOUT ROWID;
CREATE INDEX pages_by_vector ON page_vectors (vector_id, page_id);
CREATE TABLE failures (
    root_id INTEGER NOT NULL REFERENCES roots, path TEXT NOT NULL, page INTEGER NOT NULL, code TEXT NOT NULL,
    reason TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, PRIMARY KEY (root_id, path, page)
    ) WITHOUT ROWID;
CREATE VIRTUAL TABLE page_text USING fts5 (body, context, pairs, tokenize="{TOKENIZER}");
"""
# Adding columns with a default touches no row; older rows are pictures, of pages without passages.
UPGRADE = f"""
ALTER TABLE vectors ADD COLUMN kind INTEGER NOT NULL DEFAULT {PICTURE};
ALTER TABLE pages ADD COLUMN num_passages INTEGER NOT NULL DEFAULT 0;
CREATE INDEX pictures ON vectors (vector_id) WHERE kind = {PICTURE};
"""
# What a person can see: a document that some file shows. A changed file shows its old document until the new one is
# complete; pages that nothing shows yet, or any more, stay out of every answer.
SHOWN = "document_id IN (SELECT document_id FROM files)"
SAMPLED_PAGES = 1000


@dataclass(frozen=True, slots=True)
class FileRow:
    """One file as the catalog knows it; `path` is relative to its root, `name` is what people call it."""

    file_id: int
    root_id: int
    path: str
    name: str
    size: int
    mtime_ns: int
    document_id: int
    sha256: str
    complete: bool


@dataclass(frozen=True, slots=True)
class PageRow:
    """One page as the catalog knows it, with the document it came from."""

    page_id: int
    document_id: int
    number: int
    width: float
    height: float
    num_words: int
    words: bytes
    title: str


class Catalog:
    """An open catalog. Reading needs no lock: SQLite shows every reader a committed state (WAL)."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.db = connection

    @classmethod
    def create(cls, path: Path) -> "Catalog":
        """Make an empty catalog; the caller holds the write lock."""
        with reported(path):
            connection = _connect(path, "rwc")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        return cls(path, connection)

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> "Catalog":
        """Open an existing catalog; for writing, an older one is brought up to date, and the caller holds the write lock.

        Raises CollectionError if it is missing, damaged or of a version that this program does not read.
        """
        if not path.is_file():
            raise CollectionError(f"{path} is missing: run `moca verify`, or `moca index --rebuild`")
        with reported(path):
            connection = _connect(path, "rw") if write else _connect_reader(path)
            if write:
                connection.execute("PRAGMA synchronous = FULL")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if write and version == FIRST_VERSION:
                connection.executescript(f"BEGIN; {UPGRADE} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
                version = SCHEMA_VERSION
        if version not in (FIRST_VERSION, SCHEMA_VERSION):
            found = f"version {version}" if version else "no catalog of moca_rag"
            raise CollectionError(f"{path} is {found}, this program reads version {SCHEMA_VERSION}: use --rebuild")
        return cls(path, connection)

    def version(self) -> tuple[int, int]:
        """Changes whenever any process commits: a number for other connections, one for this one."""
        return self.db.execute("PRAGMA data_version").fetchone()[0], self.db.total_changes

    @property
    def knows_passages(self) -> bool:
        """Whether its schema has room for passages; one that an older program made has not until it is written."""
        return bool(self.db.execute("PRAGMA user_version").fetchone()[0] != FIRST_VERSION)

    def close(self) -> None:
        """Close the connection; what was not committed is dropped."""
        self.db.close()

    # -- files and documents ------------------------------------------------------------------------------------------

    def roots(self) -> dict[int, Path]:
        """The folders and files that were indexed."""
        return {root_id: Path(path) for root_id, path in self.db.execute("SELECT root_id, path FROM roots")}

    def files(self, *, root_id: int | None = None, document_ids: Sequence[int] | None = None) -> list[FileRow]:
        """Files in the order of their names: all, those of one root, or those that show these documents."""
        query = """SELECT file_id, root_id, path, name, size, mtime_ns, document_id, sha256, complete
                   FROM files JOIN documents USING (document_id)"""
        values: tuple[int | str, ...] = ()
        if root_id is not None:
            query, values = f"{query} WHERE root_id = ?", (root_id,)
        elif document_ids is not None:
            query += " WHERE document_id IN (SELECT value FROM json_each(?))"
            values = (json.dumps(list(document_ids)),)
        return [FileRow(*row) for row in self.db.execute(query + " ORDER BY name", values)]

    def file_path(self, file: FileRow) -> Path:
        """Where the file lies on disk."""
        (root,) = self.db.execute("SELECT path FROM roots WHERE root_id = ?", (file.root_id,)).fetchone()
        return Path(root) if file.path == ROOT_ITSELF else Path(root) / file.path

    def document_info(self, document_id: int) -> DocumentInfo:
        """What the document said of itself."""
        row = self.db.execute(
            "SELECT kind, num_pages, title, metadata, outline FROM documents WHERE document_id = ?", (document_id,)
        ).fetchone()
        outline = tuple(Heading(*entry) for entry in json.loads(row[4]))
        return DocumentInfo(row[0], row[1], row[2], json.loads(row[3]), outline)

    def tags(self) -> dict[int, dict[str, list[str]]]:
        """Tags by file: key and values."""
        found: dict[int, dict[str, list[str]]] = {}
        for file_id, key, value in self.db.execute("SELECT file_id, key, value FROM tags ORDER BY key, value"):
            found.setdefault(file_id, {}).setdefault(key, []).append(value)
        return found

    def failures(self, root_id: int | None = None) -> list[tuple[int, Failure, tuple[int, int]]]:
        """What could not be read: (root, failure with its path relative to the root, (size, mtime_ns) at that time)."""
        query = """SELECT root_id, path, page, code, reason, size, mtime_ns FROM failures
                   WHERE ? IS NULL OR root_id = ? ORDER BY path, page"""
        return [(row[0], Failure(*row[1:5]), (row[5], row[6])) for row in self.db.execute(query, (root_id, root_id))]

    def find_document(self, sha256: str) -> tuple[int, bool] | None:
        """The document with these bytes, and whether all its pages are here; None where it is new."""
        query = "SELECT document_id, complete FROM documents WHERE sha256 = ?"
        row = self.db.execute(query, (sha256,)).fetchone()
        return None if row is None else (row[0], bool(row[1]))

    # -- pages --------------------------------------------------------------------------------------------------------

    def page_numbers(self, document_id: int) -> set[int]:
        """The pages of a document that are committed."""
        query = "SELECT number FROM pages WHERE document_id = ?"
        return {number for (number,) in self.db.execute(query, (document_id,))}

    def pages(self, page_ids: Sequence[int]) -> dict[int, PageRow]:
        """Pages by id; an id that is not there (any more) is left out."""
        query = """SELECT page_id, document_id, number, width, height, num_words, words, title FROM pages
                   JOIN documents USING (document_id) WHERE page_id IN (SELECT value FROM json_each(?))"""
        rows = self.db.execute(query, (json.dumps(list(page_ids)),))
        return {row[0]: PageRow(*row) for row in rows}

    def pages_by_document(self) -> dict[int, int]:
        """How many pages of each document are here."""
        return dict(self.db.execute("SELECT document_id, count(*) FROM pages GROUP BY document_id").fetchall())

    def find_page(self, document_id: int, number: int) -> int | None:
        """The id of a document's page, or None."""
        query = "SELECT page_id FROM pages WHERE document_id = ? AND number = ?"
        row = self.db.execute(query, (document_id, number)).fetchone()
        return None if row is None else row[0]

    def count(self) -> dict[str, int]:
        """Shown documents and pages, pages with text, files, failures, live and dead vectors, and those of passages."""
        one = {
            "documents": "SELECT count(DISTINCT document_id) FROM files",
            "files": "SELECT count(*) FROM files",
            "pages": f"SELECT count(*) FROM pages WHERE {SHOWN}",
            "pages_with_text": f"SELECT count(*) FROM pages WHERE num_words > 0 AND {SHOWN}",
            "failures": "SELECT count(*) FROM failures",
            "vectors": "SELECT count(*) FROM vectors WHERE live = 1",
            "dead_vectors": "SELECT count(*) FROM vectors WHERE live = 0",
            "passages": f"SELECT count(*) FROM vectors WHERE live = 1 AND kind = {PASSAGE}",
        }
        if not self.knows_passages:
            one["passages"] = "SELECT 0"
        return {name: self.db.execute(query).fetchone()[0] for name, query in one.items()}

    def share_without_words(self) -> float:
        """Which part of the pages has no words; of many pages it is told from a thousand or two at even distances."""
        (last,) = self.db.execute("SELECT coalesce(max(page_id), 0) FROM pages").fetchone()
        asked = json.dumps(list(range(1, last + 1, max(1, last // SAMPLED_PAGES))))
        query = "SELECT avg(num_words = 0) FROM pages WHERE page_id IN (SELECT value FROM json_each(?))"
        return float(self.db.execute(query, (asked,)).fetchone()[0] or 0.0)

    # -- vectors ------------------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """Which set of shards the vector ids point into; compaction makes a new one."""
        row = self.db.execute("SELECT value FROM settings WHERE key = 'generation'").fetchone()
        return 0 if row is None else int(row[0])

    def num_rows(self) -> int:
        """Rows of the shards that are committed: one more than the highest vector id."""
        return int(self.db.execute("SELECT coalesce(max(vector_id) + 1, 0) FROM vectors").fetchone()[0])

    def dead_rows(self) -> Ids:
        """Rows of the shards that must not be found: what was deleted, and what repair has given up."""
        rows = self.db.execute("SELECT vector_id FROM vectors WHERE live = 0 ORDER BY vector_id")
        return np.array([row[0] for row in rows], dtype=np.int64)

    def picture_rows(self, first_id: int = 0) -> Ids:
        """Rows of the shards, from this one on, that hold page pictures; all others hold passages."""
        query = f"SELECT vector_id FROM vectors WHERE kind = {PICTURE} AND vector_id >= ? ORDER BY vector_id"
        return np.array([row[0] for row in self.db.execute(query, (first_id,))], dtype=np.int64)

    def incomplete_pages(self) -> list[int]:
        """Pages that lack the vector of their picture or of a passage."""
        query = "SELECT page_id FROM pages WHERE page_id NOT IN (SELECT page_id FROM page_vectors)"
        if self.knows_passages:
            query = f"""SELECT page_id FROM pages
                        LEFT JOIN page_vectors USING (page_id) LEFT JOIN vectors USING (vector_id) GROUP BY page_id
                        HAVING total(kind = {PICTURE}) = 0 OR total(kind = {PASSAGE}) < num_passages"""
        return [row[0] for row in self.db.execute(query)]

    def vector_ids(self, document_ids: Sequence[int]) -> Ids:
        """Live vectors of these documents' pages."""
        query = """SELECT DISTINCT vector_id FROM page_vectors JOIN pages USING (page_id)
                   WHERE document_id IN (SELECT value FROM json_each(?)) ORDER BY vector_id"""
        return np.array([row[0] for row in self.db.execute(query, (json.dumps(list(document_ids)),))], dtype=np.int64)

    def pages_of_vectors(self, vector_ids: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """(vector, page, document) for each of these vectors; one vector may stand for several equal pages."""
        query = """SELECT vector_id, page_id, document_id FROM page_vectors JOIN pages USING (page_id)
                   WHERE vector_id IN (SELECT value FROM json_each(?)) ORDER BY page_id"""
        yield from self.db.execute(query, (json.dumps([int(vector_id) for vector_id in vector_ids]),))

    def has_vectors(self, key: bytes) -> bool:
        """Whether the page picture or passage with this key was embedded before."""
        return bool(self.find_vectors(key))

    def find_vectors(self, key: bytes) -> list[int]:
        """The vectors of a page picture or passage that was embedded before, live or not."""
        query = "SELECT vector_id FROM vectors WHERE image_key = ? ORDER BY part"
        return [row[0] for row in self.db.execute(query, (key,))]


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=BUSY_SECONDS, isolation_level=None
    )
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _connect_reader(path: Path) -> sqlite3.Connection:
    """A reader; in a folder without write permission the file is read as it lies, if no writer left a log beside it."""
    connection = _connect(path, "rw")
    try:
        connection.execute("SELECT count(*) FROM roots").fetchone()
        connection.execute("PRAGMA query_only = ON")
        return connection
    except sqlite3.OperationalError:
        connection.close()
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size > 0:
            raise
        return _connect(path, "ro&immutable=1")


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into one clear line about this catalog."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise explain(error, path) from error


def explain(error: sqlite3.DatabaseError, path: Path) -> CollectionError:
    """What is wrong with a catalog and what to do next, from what SQLite said."""
    reason = str(error)
    if "full" in reason:
        advice = "the disk is full: free some room and run the same command again, nothing committed is lost"
    elif "locked" in reason or "busy" in reason:
        advice = "another program holds it: try again"
    elif "readonly" in reason or "unable to open" in reason:
        advice = "the folder cannot be written: check its permissions"
    else:
        advice = (
            "run `moca verify --repair` to save what can be read, or make it anew with `moca index --rebuild FOLDER`"
        )
    return CollectionError(f"{path}: {reason}: {advice}")
