"""Ranks a catalog's pages by words (FTS5, BM25) and picks the documents that a filter lets through."""

import json
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from .catalog import SHOWN, Catalog, FileRow
from .errors import ConfigError
from .snippets import MARK_CLOSE, MARK_OPEN, marked_words


def allowed_files(catalog: Catalog, where: Mapping[str, str], within: str | None) -> dict[int, FileRow] | None:
    """For each document that the filters let through, the first of its files that passes; None where all do.

    `where` compares tags of the file and metadata of the document, without case; `within` is a glob over the name, or
    a folder. A document with several paths passes with any of them. Raises ConfigError on a key that nothing has.
    """
    files = catalog.files()
    hidden = catalog.db.execute(f"SELECT 1 FROM documents WHERE NOT {SHOWN} LIMIT 1").fetchone()
    if not where and within is None and hidden is None:
        return None
    tags = catalog.tags() if where else {}
    metadata = {file.document_id: _metadata(catalog, file.document_id) for file in files} if where else {}
    _check_keys(where, [*(key for found in tags.values() for key in found), *(k for m in metadata.values() for k in m)])
    allowed: dict[int, FileRow] = {}
    for file in files:
        values = {**metadata.get(file.document_id, {}), **tags.get(file.file_id, {})}
        if within is not None and not is_within(file.name, within):
            continue
        if all(value.casefold() in (found.casefold() for found in values.get(key, ())) for key, value in where.items()):
            allowed.setdefault(file.document_id, file)
    return allowed


def _metadata(catalog: Catalog, document_id: int) -> dict[str, list[str]]:
    info = catalog.document_info(document_id)
    return {key: [value] for key, value in {**info.metadata, "title": info.title, "kind": info.kind}.items() if value}


def _check_keys(where: Mapping[str, str], known: Iterable[str]) -> None:
    keys = sorted(set(known))
    for key in where:
        if key not in keys:
            raise ConfigError(f"--where {key}=...: no document has {key!r}; known here: {', '.join(keys) or 'none'}")


def is_within(name: str, pattern: str) -> bool:
    """Whether a document's name matches a glob (`*` passes `/` too), or lies below a folder of that name."""
    folder = pattern.rstrip("/")
    return fnmatchcase(name, pattern) or name.startswith(folder + "/") or name == folder


def rank_text(catalog: Catalog, expression: str, top_k: int, documents: Iterable[int] | None) -> dict[int, float]:
    """Pages by BM25 (larger is better), best first, ties by page; at most `top_k`, of these documents or of all."""
    query = "SELECT rowid, -bm25(page_text) AS score FROM page_text WHERE page_text MATCH ?"
    values: list[str | int] = [expression]
    if documents is not None:
        query += """ AND rowid IN (SELECT page_id FROM pages
                     WHERE document_id IN (SELECT value FROM json_each(?)))"""
        values.append(json.dumps(list(documents)))
    rows = catalog.db.execute(query + " ORDER BY score DESC, rowid LIMIT ?", (*values, top_k))
    return dict(rows.fetchall())


def find_marks(catalog: Catalog, expression: str, page_ids: Sequence[int]) -> dict[int, set[int]]:
    """For each of these pages that the expression matches, which of its words match (from 0)."""
    query = f"""SELECT rowid, highlight(page_text, 0, '{MARK_OPEN}', '{MARK_CLOSE}') FROM page_text
                WHERE page_text MATCH ? AND rowid IN (SELECT value FROM json_each(?))"""
    rows = catalog.db.execute(query, (expression, json.dumps(list(page_ids))))
    return {page_id: marked_words(body) for page_id, body in rows}


def text_pages(catalog: Catalog, page_ids: Iterable[int]) -> set[int]:
    """Those of these pages that have words, so that a ranking by words can find them."""
    query = "SELECT page_id FROM pages WHERE num_words > 0 AND page_id IN (SELECT value FROM json_each(?))"
    return {page_id for (page_id,) in catalog.db.execute(query, (json.dumps(list(page_ids)),))}
