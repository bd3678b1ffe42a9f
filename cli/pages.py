"""The commands `moca show`, `moca ls` and `moca rm`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from moca_rag.catalog import FileRow
from moca_rag.collection import Collection, default_path
from moca_rag.ranking import is_within
from moca_rag.records import Page

from .options import CollectionOption, JsonOption


@dataclass(frozen=True, slots=True)
class Shown:
    """A page and where its picture was written."""

    page: Page
    picture: Path


@dataclass(frozen=True, slots=True)
class Listed:
    """One document of a collection as `moca ls` tells of it."""

    document: str
    title: str
    pages: int
    num_pages: int
    path: Path
    tags: dict[str, list[str]]


def show(
    ctx: typer.Context,
    page: Annotated[str, typer.Argument(metavar="DOC#PAGE", help="A page, as search and ls name it.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write the PNG.")
    ] = None,
    collection: CollectionOption = None,
    password: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="For an encrypted PDF.")] = None,
    as_json: JsonOption = False,
) -> Shown:
    """Draw one page as a PNG.

    \b
    Examples:
      moca show "report.pdf#3"
      moca show "report.pdf#3" -o page.png
    """
    from .pictures import draw_page

    ctx.obj.as_json = as_json
    with Collection.open(collection) as opened:
        found = opened.page(page)
    picture = output or Path(f"{Path(found.document).name}_p{found.number}.png")
    draw_page(found.path, found.number, passwords=password or ()).save(picture, format="PNG")
    return Shown(found, picture)


def ls(
    ctx: typer.Context,
    pattern: Annotated[str | None, typer.Argument(metavar="GLOB", help="Only documents whose path matches.")] = None,
    collection: CollectionOption = None,
    as_json: JsonOption = False,
) -> list[Listed]:
    """List the documents of a collection.

    \b
    Examples:
      moca ls
      moca ls "*.pdf" --json
    """
    ctx.obj.as_json = as_json
    with Collection.open(collection) as opened:
        catalog, tags = opened.catalog, opened.catalog.tags()
        pages = catalog.pages_by_document()
        listed = []
        for file in catalog.files():
            if pattern is None or is_within(file.name, pattern):
                info = catalog.document_info(file.document_id)
                counted = pages.get(file.document_id, 0)
                path = catalog.file_path(file)
                listed.append(Listed(file.name, info.title, counted, info.num_pages, path, tags.get(file.file_id, {})))
    return listed


def rm(
    ctx: typer.Context,
    documents: Annotated[list[str], typer.Argument(metavar="DOC", help="Names or globs, as `moca ls` shows them.")],
    collection: CollectionOption = None,
    as_json: JsonOption = False,
) -> list[str]:
    """Take documents out of a collection; the files on disk stay, and come back at the next `moca index` of them.

    \b
    Examples:
      moca rm report.pdf
      moca rm "drafts/*"
    """
    ctx.obj.as_json = as_json
    with Collection.writing(collection or default_path()) as (opened, writer):
        files = _matching(opened, documents)
        with writer.transaction():
            writer.drop_files(files)
            writer.sweep()
        return [file.name for file in files]


def _matching(opened: Collection, patterns: Sequence[str]) -> list[FileRow]:
    found: dict[int, FileRow] = {}
    for pattern in patterns:
        matching = [file for file in opened.catalog.files() if is_within(file.name, pattern)]
        for file in matching or [opened.find_file(pattern)]:
            found[file.file_id] = file
    return list(found.values())
