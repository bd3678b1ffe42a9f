"""The command `moca search`: a question in, pages out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from moca_rag.collection import Collection
from moca_rag.config import read_pairs
from moca_rag.records import Hit, Mode, PixelBudget

from .options import CollectionOption, JsonOption


@dataclass(frozen=True, slots=True)
class Answers:
    """The hits for a question, where their pictures were saved, and why some could not be."""

    query: str
    hits: list[Hit]
    mode: Mode
    saved: list[Path]
    unsaved: list[str]


def search(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What you want to know.")] = "",
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Search by this picture (or a PDF's first page).")
    ] = None,
    collection: CollectionOption = None,
    mode: Annotated[Mode | None, typer.Option(help="Which rankings answer (default: all that there are).")] = None,
    top_k: Annotated[int, typer.Option("-k", "--top-k", metavar="N", help="How many pages.")] = 10,
    where: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only with this tag or metadata.")
    ] = None,
    within: Annotated[
        str | None, typer.Option("--in", metavar="GLOB", help="Only documents whose path matches.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the pages as PNG, the matches marked.")
    ] = None,
    as_json: JsonOption = False,
) -> Answers:
    """Ask a question, get the pages that answer it, best first.

    \b
    Examples:
      moca search "How much did energy cost in 2023?"
      moca search "invoice total" -k 3 --in "*.pdf" --json
    """
    ctx.obj.as_json = as_json
    with Collection.open(collection) as opened:
        model, pixels = opened.fingerprint.model, None
        if image is not None:
            from moca_rag.render import read_image

            pixels = read_image(image, PixelBudget() if model is None else model.pixels)
        filters = read_pairs(where or [], "--where")
        hits = opened.search(query, image=pixels, top_k=top_k, mode=mode, where=filters, within=within)
        shown = mode or opened.fingerprint.mode
    saved: list[Path] = []
    unsaved: list[str] = []
    if save is not None:
        from .pictures import save_hits

        saved, unsaved = save_hits(hits, save)
    return Answers(query, hits, shown, saved, unsaved)
