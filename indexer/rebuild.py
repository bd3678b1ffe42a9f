"""Makes a collection anew beside the old one, which answers until the new one is complete and takes its place."""

import os
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moca_rag.catalog import Catalog
from moca_rag.collection import CATALOG_NAME, Collection, holds_documents, is_collection, restore_collection
from moca_rag.deferred import DeferredEmbedder
from moca_rag.errors import CollectionError, ConfigError
from moca_rag.fingerprint import Fingerprint, read_fingerprint
from moca_rag.locks import WriteLock
from moca_rag.records import Encoder

from .pipeline import index_documents, plan_fingerprint
from .report import IndexReport, IndexSettings

SWAP_ATTEMPTS = 5


def rebuild_collection(
    paths: Sequence[Path], folder: Path, encoder: Encoder | None, options: dict[str, Any]
) -> IndexReport:
    """Index into a fresh collection and swap it in; interrupted, the same command goes on with the fresh one.

    Without paths the roots of the old collection are indexed again, with its tags; without a model or mode, its own.
    Raises ConfigError where neither paths nor a readable collection say what to index.
    """
    restore_collection(folder)
    if not is_collection(folder) and not holds_documents(folder):
        return index_documents(paths, folder, encoder, **options)
    fresh = folder.with_name(folder.name + ".rebuild")
    lock = WriteLock(folder / "lock")
    try:
        old = _read_old(folder)
        paths = paths or old.roots
        if not paths:
            raise ConfigError(
                "the old collection does not say what it was made of: `moca index --rebuild FOLDER_OF_PDFS`"
            )
        before = read_settings(folder)
        if encoder is None and before is not None and options["mode"] != "text":
            encoder = None if before.model is None else DeferredEmbedder.of(before.model)
            options = options | {"mode": options["mode"] or before.mode}
        options = options | {"settings": _keep_passages(options.get("settings"), before, encoder, options["mode"])}
        _drop_other(fresh, encoder, options)
        report = index_documents(paths, fresh, encoder, **options)
        _carry_tags(old.tags, fresh)
        _swap(folder, fresh)
        return report
    finally:
        lock.release()


def _keep_passages(
    settings: IndexSettings | None, before: Fingerprint | None, encoder: Encoder | None, mode: str | None
) -> IndexSettings:
    """The settings; where they do not name passages, a hybrid collection made anew as one has them as it had before."""
    settings = settings or IndexSettings()
    both_hybrid = before is not None and before.mode == "hybrid" and encoder is not None and mode in (None, "hybrid")
    if before is None or not both_hybrid or settings.passages is not None:
        return settings
    return replace(settings, passages=before.passages)


@dataclass(frozen=True, slots=True)
class _Old:
    """What the old collection says of itself: its roots, and tags by file."""

    roots: list[Path]
    tags: dict[Path, dict[str, list[str]]]


def _read_old(folder: Path) -> _Old:
    """What can be read of the old collection; a damaged catalog says nothing."""
    path = folder / CATALOG_NAME
    try:
        catalog = Catalog.open(path)
    except CollectionError:
        return _Old([], {})
    try:
        tags = catalog.tags()
        tagged = {catalog.file_path(row): tags[row.file_id] for row in catalog.files() if row.file_id in tags}
        return _Old(sorted(catalog.roots().values()), tagged)
    except sqlite3.DatabaseError:
        return _Old([], {})
    finally:
        catalog.close()


def read_settings(folder: Path) -> Fingerprint | None:
    """What a collection was made with; None where that is lost."""
    try:
        return read_fingerprint(folder)
    except CollectionError:
        return None


def _drop_other(fresh: Path, encoder: Encoder | None, options: dict[str, Any]) -> None:
    """Remove what an interrupted rebuild left, if it was made with other settings than this one."""
    if not is_collection(fresh):
        shutil.rmtree(fresh, ignore_errors=True)
        return
    made_with = read_settings(fresh)
    wanted = plan_fingerprint(encoder, options["mode"], options["settings"].passages)
    same = made_with is not None and not made_with.differences(wanted)
    if not same:
        shutil.rmtree(fresh)


def _carry_tags(tags: Mapping[Path, Mapping[str, Sequence[str]]], fresh: Path) -> None:
    """Give files their old tags, where this run did not set the same key."""
    if not tags:
        return
    with Collection.writing(fresh) as (opened, writer), writer.transaction():
        present = opened.catalog.tags()
        for file in opened.catalog.files():
            for key, values in tags.get(opened.catalog.file_path(file), {}).items():
                if key not in present.get(file.file_id, {}):
                    writer.tag_file(file.file_id, {key: values[-1]})


def _swap(folder: Path, fresh: Path) -> None:
    """Put the fresh collection in place. A crash between the two renames is mended by `restore_collection`.

    A reader that comes between the two may do the same: then both are done again.
    """
    aside = folder.with_name(folder.name + ".old")
    for attempt in range(SWAP_ATTEMPTS):
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(folder, aside)
        try:
            os.rename(fresh, folder)
            break
        except OSError:
            if attempt == SWAP_ATTEMPTS - 1 or not folder.exists():
                raise
    shutil.rmtree(aside, ignore_errors=True)
