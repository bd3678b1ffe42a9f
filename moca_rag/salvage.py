"""Turns a damaged catalog into a sound one with every row that can still be read."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from .catalog import Catalog, explain
from .errors import CollectionError
from .vectors import list_generations

# Parents before children; the full-text index is left out, for it is made anew from the pages.
TABLES = ("settings", "roots", "documents", "files", "tags", "pages", "vectors", "page_vectors", "failures")
# What hangs on a row that is lost is lost too; a document that lost pages is read again.
MENDING = (
    "DELETE FROM files WHERE document_id NOT IN (SELECT document_id FROM documents)",
    "DELETE FROM files WHERE root_id NOT IN (SELECT root_id FROM roots)",
    "DELETE FROM tags WHERE file_id NOT IN (SELECT file_id FROM files)",
    "DELETE FROM failures WHERE root_id NOT IN (SELECT root_id FROM roots)",
    "DELETE FROM pages WHERE document_id NOT IN (SELECT document_id FROM documents)",
    """DELETE FROM page_vectors WHERE page_id NOT IN (SELECT page_id FROM pages)
       OR vector_id NOT IN (SELECT vector_id FROM vectors)""",
    "UPDATE vectors SET live = vector_id IN (SELECT vector_id FROM page_vectors)",
    """UPDATE documents SET complete = 0
       WHERE num_pages > (SELECT count(*) FROM pages WHERE pages.document_id = documents.document_id)""",
)
# Locked, not to be opened, not to be written, a failing disk: none of these says that the catalog is damaged.
NO_DAMAGE = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_IOERR,
)
STEP = 64  # rows asked for at a time


def find_fault(path: Path) -> str | None:
    """What SQLite finds wrong with a catalog; None where it is sound. Raises CollectionError where it cannot look."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            fault = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
            db.execute("SELECT count(*) FROM page_text").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in NO_DAMAGE:
            raise explain(error, path) from error
        fault = str(error)
    return None if fault == "ok" else " ".join(fault.split())[:120]


def salvage_catalog(path: Path) -> dict[str, int]:
    """Replace a damaged catalog by one with the rows that can be read; rows saved, by table.

    Pages that lost their vectors keep their place; the caller drops them (see `verify_collection`). Raises
    CollectionError where nothing can be read: then the collection must be made anew.
    """
    draft = path.with_name(path.name + ".salvaged")
    draft.unlink(missing_ok=True)
    saved: dict[str, int] = {}
    _fold_log(path)
    old = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    fresh = Catalog.create(draft)
    try:
        fresh.db.execute("PRAGMA foreign_keys = OFF")
        fresh.db.execute("BEGIN")
        for table in TABLES:
            saved[table] = _copy_table(old, fresh.db, table)
        if not saved["documents"]:
            raise CollectionError(
                f"{path}: nothing can be read: make it anew with `moca index --rebuild FOLDER_OF_PDFS`"
            )
        for statement in MENDING:
            fresh.db.execute(statement)
        generation = max(list_generations(path.parent / "vectors"), default=0)
        fresh.db.execute("INSERT OR IGNORE INTO settings VALUES ('generation', ?)", (str(generation),))
        fresh.db.execute("COMMIT")
        fresh.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except BaseException:
        fresh.close()
        draft.unlink(missing_ok=True)
        raise
    finally:
        old.close()
    fresh.close()
    for log in ("-wal", "-shm"):
        path.with_name(path.name + log).unlink(missing_ok=True)
    os.replace(draft, path)
    return saved


def _fold_log(path: Path) -> None:
    """Bring committed pages from the write-ahead log into the file, as far as the damage lets them."""
    db = sqlite3.connect(path)
    try:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.DatabaseError:
        return  # they are read through the log below
    finally:
        db.close()


def _copy_table(old: sqlite3.Connection, fresh: sqlite3.Connection, table: str) -> int:
    columns = _shared_columns(old, fresh, table)
    insert = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    has_rowid = table not in ("settings", "tags", "page_vectors", "failures")
    rows = _readable_rows(old, table, columns) if has_rowid else _leading_rows(old, table, columns)
    saved = 0
    for row in rows:
        saved += fresh.execute(insert, row).rowcount
    return saved


def _shared_columns(old: sqlite3.Connection, fresh: sqlite3.Connection, table: str) -> list[str]:
    """The columns that both have: a catalog of an older version lacks some, which get their defaults."""
    query = f"SELECT name FROM pragma_table_info('{table}')"
    columns = [name for (name,) in fresh.execute(query)]
    try:
        known = {name for (name,) in old.execute(query)}
    except sqlite3.DatabaseError:
        return columns
    return [name for name in columns if name in known] or columns


def _leading_rows(old: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[tuple[object, ...]]:
    """Rows in the order of their key, up to the first that cannot be read."""
    try:
        yield from old.execute(f"SELECT {', '.join(columns)} FROM {table}")
    except sqlite3.DatabaseError:
        return


def _readable_rows(old: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[tuple[object, ...]]:
    """Rows in the order of their ids; where one cannot be read, ids are skipped, twice as many each time."""
    try:
        highest = old.execute(f"SELECT max(rowid) FROM {table}").fetchone()[0] or 0
    except sqlite3.DatabaseError:
        yield from _leading_rows(old, table, columns)
        return
    query = f"SELECT rowid, {', '.join(columns)} FROM {table} WHERE rowid > ? AND rowid <= ? ORDER BY rowid"
    last, skip = -1, 1
    while last < highest:
        stop = min(last + STEP, highest)
        try:
            for row in old.execute(query, (last, stop)):
                last, skip = row[0], 1
                yield row[1:]
            last = stop
        except sqlite3.DatabaseError:
            last, skip = last + skip, 2 * skip
