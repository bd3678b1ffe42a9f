"""Makes a collection anew beside the old one, which answers until the new one is complete and takes its place."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moca_rag.catalog import Catalog
from moca_rag.collection import CATALOG_NAME, Collection, is_collection, restore_collection
from moca_rag.errors import CollectionError, ConfigError
from moca_rag.fingerprint import read_fingerprint
from moca_rag.locks import WriteLock
from moca_rag.records import Encoder

from .pipeline import index_documents
from .report import IndexReport


def rebuild_collection(
    paths: Sequence[Path], folder: Path, encoder: Encoder | None, options: dict[str, Any]
) -> IndexReport:
    """Index into a fresh collection and swap it in; interrupted, the same command goes on with the fresh one.

    Without paths the roots of the old collection are indexed again, with its tags; without a model or mode, its own.
    Raises ConfigError where neither paths nor a readable collection say what to index.
    """
    restore_collection(folder)
    if not is_collection(folder):
        return index_documents(paths, folder, encoder, **options)
    fresh = folder.with_name(folder.name + ".rebuild")
    lock = WriteLock(folder / "lock")
    try:
        old = _open_old(folder)
        paths = paths or ([] if old is None else sorted(old.roots().values()))
        if not paths:
            raise ConfigError(
                "the old collection does not say what it was made of: `moca index --rebuild FOLDER_OF_PDFS`"
            )
        if encoder is None and options["mode"] is None:
            encoder = _own_encoder(folder)
        _drop_other(fresh, encoder, options)
        report = index_documents(paths, fresh, encoder, **options)
        if old is not None:
            _carry_tags(old, fresh)
            old.close()
        _swap(folder, fresh)
        return report
    finally:
        lock.release()


def _open_old(folder: Path) -> Catalog | None:
    try:
        return Catalog.open(folder / CATALOG_NAME)
    except CollectionError:
        return None


def _own_encoder(folder: Path) -> Encoder | None:
    try:
        card = read_fingerprint(folder).model
    except CollectionError:
        return None
    if card is None:
        return None
    from moca_rag.deferred import DeferredEmbedder

    return DeferredEmbedder(card.name)


def _drop_other(fresh: Path, encoder: Encoder | None, options: dict[str, Any]) -> None:
    """Remove what an interrupted rebuild left, if it was made with other settings than this one."""
    if not is_collection(fresh):
        shutil.rmtree(fresh, ignore_errors=True)
        return
    from .pipeline import plan_fingerprint

    try:
        same = not read_fingerprint(fresh).differences(plan_fingerprint(encoder, options["mode"]))
    except CollectionError:
        same = False
    if not same:
        shutil.rmtree(fresh)


def _carry_tags(old: Catalog, fresh: Path) -> None:
    tags = old.tags()
    paths = {old.file_path(file): tags[file.file_id] for file in old.files() if file.file_id in tags}
    with Collection.writing(fresh) as (opened, writer), writer.transaction():
        present = opened.catalog.tags()
        for file in opened.catalog.files():
            for key, values in paths.get(opened.catalog.file_path(file), {}).items():
                if key not in present.get(file.file_id, {}):
                    writer.tag_file(file.file_id, {key: values[-1]})


def _swap(folder: Path, fresh: Path) -> None:
    """Put the fresh collection in place. A crash between the two renames is mended by `restore_collection`."""
    aside = folder.with_name(folder.name + ".old")
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(folder, aside)
    os.rename(fresh, folder)
    shutil.rmtree(aside, ignore_errors=True)
