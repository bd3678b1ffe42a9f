"""The command `moca search`: a question in, pages out."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from moca_rag.collection import Collection
from moca_rag.config import read_pairs
from moca_rag.errors import ConfigError, FingerprintError, MocaError, ModelError
from moca_rag.progress import Reporter
from moca_rag.records import Explanation, Hit, Mode, PixelBudget, Pixels

from .options import CollectionOption, JsonOption


@dataclass(frozen=True, slots=True)
class Answers:
    """The hits for a question, where their pictures were saved, and by page id why one was not explained or saved.

    `explanations` has one entry a hit, None where there is none; it is empty where they were not asked for.
    """

    query: str
    hits: list[Hit]
    mode: Mode
    explanations: list[Explanation | None]
    saved: list[Path]
    missed: dict[str, str]


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
    explain: Annotated[
        bool,
        typer.Option("--explain", help="With --save: as heat maps of what made the score. With --json: as numbers."),
    ] = False,
    as_json: JsonOption = False,
) -> Answers:
    """Ask a question, get the pages that answer it, best first.

    \b
    Examples:
      moca search "How much did energy cost in 2023?"
      moca search "invoice total" -k 3 --in "*.pdf" --json
      moca search "emissions by sector" --explain --save hits
    """
    ctx.obj.as_json = as_json
    if explain and save is None and not as_json:
        raise ConfigError("--explain draws heat maps: name a folder for them with --save DIR, or ask for --json")
    with Collection.open(collection) as opened:
        model, pixels = opened.fingerprint.model, None
        if image is not None:
            from moca_rag.render import read_image

            pixels = read_image(image, PixelBudget() if model is None else model.pixels)
        filters = read_pairs(where or [], "--where")
        shown = mode or opened.fingerprint.mode
        asked = partial(opened.search, query, top_k=top_k, where=filters, within=within)
        try:
            hits = asked(image=pixels, mode=shown)
        except (ModelError, FingerprintError) as error:
            if mode is not None or shown != "hybrid" or pixels is not None or explain:
                raise
            ctx.obj.say(f"moca: {error}; until then words alone answer, as with --mode text")
            hits, shown = asked(mode="text"), "text"
        explanations, missed = _explain_hits(opened, query, pixels, hits, ctx.obj) if explain else ([], {})
    saved: list[Path] = []
    if save is not None:
        from .pictures import save_hits

        saved, unsaved = save_hits(hits, explanations or [None] * len(hits), save)
        missed |= unsaved
    return Answers(query, hits, shown, explanations, saved, missed)


def _explain_hits(
    opened: Collection, query: str, image: Pixels | None, hits: list[Hit], reporter: Reporter
) -> tuple[list[Explanation | None], dict[str, str]]:
    """What made each hit's score, and by page id why that cannot be told. Raises ConfigError in a text collection."""
    opened.encoder  # noqa: B018 - without a model no page can be explained: that is one error, not one for each hit
    explanations: list[Explanation | None] = []
    missed: dict[str, str] = {}
    reporter.start("explaining", len(hits))
    for hit in hits:
        page_id = f"{hit.document}#{hit.page}"
        try:
            explanations.append(opened.explain(query, page_id, image=image))
        except MocaError as error:  # one file that is gone or has changed takes no answer away
            explanations.append(None)
            missed[page_id] = f"{page_id} was not explained: {error}"
        reporter.advance("explaining")
    return explanations, missed
