"""Keeps a collection sound: does all it holds agree, what can be mended, and the room of what was deleted."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .catalog import ROOT_ITSELF, Catalog
from .collection import CATALOG_NAME, Collection
from .errors import CollectionError
from .locks import WriteLock
from .records import Ids
from .salvage import find_fault, salvage_catalog
from .terms import index_columns
from .textlayer import unpack_words
from .vectors import Shards, delete_generation, list_generations
from .writer import CollectionWriter, headings_above

CHECKED_ROWS = 4096


@dataclass(slots=True)
class Verdict:
    """What `verify_collection` found: problems in words, and the pages that are lost until they are indexed again."""

    pages: int = 0
    vectors: int = 0
    problems: list[str] = field(default_factory=list)
    lost_pages: list[str] = field(default_factory=list)
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Compaction:
    """Vectors that were dropped, and bytes on disk before and after."""

    dropped: int
    bytes_before: int
    bytes_after: int


def verify_collection(folder: Path, *, repair: bool = False) -> Verdict:
    """Hold catalog, shards and text index against each other; every vector is compared with its checksum.

    With `repair`, lost vectors and their pages are dropped and their documents reopened, so that the next
    `moca index` reads just these again; a damaged text index is made anew from the pages, and a damaged catalog from the
    rows that can be read. Raises CollectionError where none can: then only `--rebuild` helps.
    """
    if not repair:
        with Collection.open(folder) as collection:
            return _verify(collection)
    salvaged = _salvage(folder)
    with Collection.writing(folder) as (collection, writer):
        verdict = _verify(collection)
        with writer.transaction():
            _drop_lost(collection, writer)
            _mend_text(collection, writer)
        verdict.problems[:0] = salvaged
        if verdict.problems:
            shutil.rmtree(folder / "index", ignore_errors=True)
        verdict.repaired = bool(verdict.problems)
        return verdict


def _salvage(folder: Path) -> list[str]:
    """Replace the catalog if SQLite finds it damaged; what was done, in words."""
    path = folder / CATALOG_NAME
    lock = WriteLock(folder / "lock")
    try:
        fault = find_fault(path) if path.is_file() else None
        if fault is None:
            return []
        saved = salvage_catalog(path)
        return [f"catalog: {fault}; saved {saved['documents']} documents, {saved['pages']} pages"]
    finally:
        lock.release()


def _verify(collection: Collection) -> Verdict:
    catalog = collection.catalog
    verdict = Verdict()
    faults = [row[0] for row in catalog.db.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
    verdict.problems.extend(f"catalog: {fault}" for fault in faults)
    counts = catalog.count()
    verdict.pages, verdict.vectors = counts["pages"], counts["vectors"]
    missing = _pages_without_text(catalog) if collection.fingerprint.mode != "vision" else []
    if missing:
        verdict.problems.append(f"text index: {len(missing)} pages are missing from it")
    if collection.fingerprint.model is not None:
        lost = _lost_vectors(catalog, collection.shards())
        if len(lost):
            verdict.lost_pages = _page_names(catalog, lost)
            verdict.problems.append(f"vectors: {len(lost)} of {counts['vectors']} are lost or damaged")
        incomplete = catalog.incomplete_pages()
        if incomplete:
            verdict.problems.append(f"vectors: {len(incomplete)} pages lack some of theirs")
    return verdict


def _pages_without_text(catalog: Catalog) -> list[int]:
    try:
        query = "SELECT page_id FROM pages WHERE num_words > 0 AND page_id NOT IN (SELECT rowid FROM page_text)"
        return [row[0] for row in catalog.db.execute(query)]
    except sqlite3.DatabaseError:
        return [row[0] for row in catalog.db.execute("SELECT page_id FROM pages WHERE num_words > 0")]


def _lost_vectors(catalog: Catalog, shards: Shards) -> Ids:
    """Ids whose bytes are gone or differ from what was committed."""
    lost = []
    for ids, checksums in _checksums(catalog):
        try:
            lost.append(ids[shards.checksum(ids) != checksums])
        except CollectionError:
            lost.append(np.array([row for row in ids if not _is_sound(shards, row, checksums[ids == row])], np.int64))
    return np.concatenate(lost) if lost else np.zeros(0, np.int64)


def _is_sound(shards: Shards, row: int, checksum: np.ndarray) -> bool:
    try:
        return bool((shards.checksum(np.array([row])) == checksum).all())
    except CollectionError:
        return False


def _checksums(catalog: Catalog) -> Iterator[tuple[Ids, np.ndarray]]:
    cursor = catalog.db.execute("SELECT vector_id, crc FROM vectors WHERE live = 1 ORDER BY vector_id")
    while rows := cursor.fetchmany(CHECKED_ROWS):
        ids, checksums = zip(*rows, strict=True)
        yield np.array(ids, np.int64), np.array(checksums, np.uint32)


def _page_names(catalog: Catalog, vector_ids: Ids) -> list[str]:
    names = {file.document_id: file.name for file in catalog.files()}
    pages = catalog.pages([page_id for _, page_id, _ in catalog.pages_of_vectors(vector_ids.tolist())])
    found = {f"{names[page.document_id]}#{page.number}" for page in pages.values() if page.document_id in names}
    return sorted(found)


def _drop_lost(collection: Collection, writer: CollectionWriter) -> None:
    """Forget lost vectors, and pages that lack one: their documents are reopened and read again."""
    if collection.fingerprint.model is None:
        return
    catalog = collection.catalog
    shards = collection.shards()
    lost = _lost_vectors(catalog, shards)
    for run in np.split(lost, np.flatnonzero(np.diff(lost) != 1) + 1) if len(lost) else []:
        shards.write(int(run[0]), np.zeros((len(run), shards.dimension), np.float32))  # a cut file gets its length back
    for vector_id in lost.tolist():  # a row's number is never given again: what was built on it stays right
        catalog.db.execute("DELETE FROM page_vectors WHERE vector_id = ?", (vector_id,))
        catalog.db.execute("UPDATE vectors SET live = 0, image_key = randomblob(16) WHERE vector_id = ?", (vector_id,))
    incomplete = json.dumps(catalog.incomplete_pages())
    chosen = "IN (SELECT value FROM json_each(?))"
    query = f"SELECT DISTINCT document_id FROM pages WHERE page_id {chosen}"
    for (document_id,) in catalog.db.execute(query, (incomplete,)).fetchall():
        writer.reopen_document(document_id)
    catalog.db.execute(f"DELETE FROM page_text WHERE rowid {chosen}", (incomplete,))
    catalog.db.execute(f"DELETE FROM pages WHERE page_id {chosen}", (incomplete,))
    writer.bury_vectors()


def _mend_text(collection: Collection, writer: CollectionWriter) -> None:
    """Make the text index whole from the pages' own words."""
    if collection.fingerprint.mode == "vision":
        return
    catalog = collection.catalog
    try:
        catalog.db.execute("INSERT INTO page_text (page_text) VALUES ('integrity-check')")
    except sqlite3.DatabaseError:
        catalog.db.execute("DELETE FROM page_text")
    names = {file.document_id: file.name if file.path == ROOT_ITSELF else file.path for file in catalog.files()}
    for page_id in _pages_without_text(catalog):
        page = catalog.pages([page_id])[page_id]
        info = catalog.document_info(page.document_id)
        words = [word.text for word in unpack_words(page.words)]
        headings = headings_above(info.outline, page.number)
        columns = index_columns(words, info.title, names.get(page.document_id, ""), headings)
        catalog.db.execute(
            "INSERT INTO page_text (rowid, body, context, pairs) VALUES (?, ?, ?, ?)", (page_id, *columns)
        )


def compact_collection(folder: Path) -> Compaction:
    """Give back the room of deleted pages: live vectors move into new shards, the catalog is packed.

    A crash leaves either the old or the new state; what is left over of the other is removed by the next compaction.
    """
    before = folder_bytes(folder)
    with Collection.writing(folder) as (collection, writer):
        catalog = collection.catalog
        dropped = 0
        with writer.transaction():
            writer.sweep()
        if collection.fingerprint.model is not None:
            dropped = _move_vectors(collection, writer)
            for generation in list_generations(folder / "vectors"):
                if generation != catalog.generation:
                    delete_generation(folder / "vectors", generation)
        catalog.db.execute("INSERT INTO page_text (page_text) VALUES ('optimize')")
        catalog.db.execute("VACUUM")
        catalog.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if dropped:
            collection.store().refresh()
    return Compaction(dropped, before, folder_bytes(folder))


def _move_vectors(collection: Collection, writer: CollectionWriter) -> int:
    """Copy live vectors into a new generation, in their order, and point the catalog there. Vectors dropped."""
    catalog, old = collection.catalog, collection.shards()
    dead = len(catalog.dead_rows())
    if not dead:
        return 0
    old.check(catalog.num_rows())
    new = Shards(old.folder, old.dimension, old.generation + 1)
    moved: list[tuple[int, int]] = []
    for ids, _ in list(_checksums(catalog)):
        first_id = len(moved)
        new.write(first_id, old.read(ids))
        moved.extend(zip(range(first_id, first_id + len(ids)), ids.tolist(), strict=True))
    with writer.transaction():
        catalog.db.execute("PRAGMA defer_foreign_keys = ON")
        catalog.db.execute("DELETE FROM vectors WHERE live = 0")
        changed = [pair for pair in moved if pair[0] != pair[1]]  # ascending: no id is taken before it is free
        catalog.db.executemany("UPDATE vectors SET vector_id = ? WHERE vector_id = ?", changed)
        catalog.db.executemany("UPDATE page_vectors SET vector_id = ? WHERE vector_id = ?", changed)
        catalog.db.execute("INSERT OR REPLACE INTO settings VALUES ('generation', ?)", (str(new.generation),))
    return dead


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def count_stale(catalog: Catalog) -> list[str]:
    """Names of files that are gone or changed since they were indexed."""
    stale = []
    for file in catalog.files():
        try:
            stat = catalog.file_path(file).stat()
        except OSError:
            stale.append(f"{file.name} (gone)")
            continue
        if stat.st_size != file.size or file.mtime_ns not in (-1, stat.st_mtime_ns):
            stale.append(f"{file.name} (changed)")
        elif not file.complete:
            stale.append(f"{file.name} (unfinished)")
    return stale
