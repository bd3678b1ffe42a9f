"""The command `moca index`: paths and options in, an IndexReport out."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from moca_rag import bundled
from moca_rag.bundled import NO_MODEL, TINY, has_tiny
from moca_rag.collection import default_path, is_collection, restore_collection
from moca_rag.config import load_settings, read_pairs
from moca_rag.errors import ConfigError
from moca_rag.records import CollectionMode, Encoder

from .pipeline import index_documents, preview_documents
from .rebuild import read_settings, rebuild_collection
from .report import IndexReport, IndexSettings


def index(
    ctx: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", help="Folders and files; none: all that was indexed before."),
    ] = None,
    collection: Annotated[
        Path | None,
        typer.Option("-c", "--collection", metavar="DIR", envvar="MOCA_COLLECTION", help="Where the collection lies."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER_OR_HUB_ID",
            envvar="MOCA_MODEL",
            help="Embed pages with this model; moca-tiny comes along, none is by words alone.",
        ),
    ] = None,
    mode: Annotated[
        CollectionMode | None,
        typer.Option(help="Rankings to prepare (default: the collection's own; new: hybrid, or text without a model)."),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Tag these documents; repeatable.")] = None,
    password: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Try this on encrypted PDFs; repeatable.")
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Drop what is gone, also where over half is gone.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Read again what failed before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make the collection anew, then put it in place.")] = False,
    jobs: Annotated[int, typer.Option(metavar="N", min=0, help="Processes that read pages (0: one a core).")] = 0,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings as YAML.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting, as page_timeout_s=60; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a summary.")] = False,
) -> IndexReport:
    """Add PDFs and images to a collection, or bring it up to date: only what changed is read again.

    \b
    Examples:
      moca index ./pdfs
      moca index ./pdfs --collection ./answers --mode text --tag team=finance --json
    """
    ctx.obj.as_json = as_json
    folder = collection or default_path()
    settings = load_settings(IndexSettings(jobs=jobs), config, setting or ())
    model, mode = choose_model(model, mode, folder, rebuild=rebuild)
    encoder = open_encoder(None if mode == "text" else model, settings)
    options: dict[str, Any] = {"mode": mode, "passwords": password or (), "settings": settings, "reporter": ctx.obj}
    options["tags"] = read_pairs(tag or [], "--tag")
    if dry_run:
        retry = {"retry_failed": retry_failed, "passwords": options["passwords"]}
        return preview_documents(paths or [], folder, prune=prune, rebuild=rebuild, **retry)
    if rebuild:
        return rebuild_collection(paths or [], folder, encoder, options)
    return index_documents(paths or [], folder, encoder, prune=prune, retry_failed=retry_failed, **options)


def choose_model(
    model: str | None, mode: CollectionMode | None, folder: Path, *, rebuild: bool
) -> tuple[str | None, CollectionMode | None]:
    """The model and mode of a run: those that are named, else the collection's own; a new collection has the default.

    `none` as a model makes text the mode where none is named.
    """
    if model == NO_MODEL:
        return None, mode or "text"
    restore_collection(folder)
    known = is_collection(folder) and not (rebuild and read_settings(folder) is None)
    return model if known else default_model(model), mode


def default_model(model: str | None) -> str | None:
    """The model that is named, else moca-tiny where it is the default and what runs it is installed; None for `none`."""
    if model == NO_MODEL:
        return None
    return model or (TINY if bundled.IS_DEFAULT and has_tiny() and find_spec("torch") else None)


def open_encoder(model: str | None, settings: IndexSettings) -> Encoder | None:
    """The model behind `--model`; its weights are read when the first page needs them."""
    if not model:
        if settings.dimension or settings.max_pixels:
            raise ConfigError("dimension and max_pixels belong to a model: name it with --model FOLDER_OR_HUB_ID")
        return None
    from moca_rag.deferred import DeferredEmbedder

    pixels = None
    if settings.max_pixels:
        own = DeferredEmbedder(model).card.pixels
        pixels = replace(own, max_pixels=settings.max_pixels, min_pixels=min(own.min_pixels, settings.max_pixels))
    return DeferredEmbedder(model, pixels=pixels, dimension=settings.dimension or None)
