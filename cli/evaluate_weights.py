"""The command `moca eval weights`: how far each ranking of a model is to be believed in hybrid search."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from moca_rag.errors import ConfigError
from moca_rag.weighing import Weighed, Weighing, weigh_folders

from .evaluate import ModelOption, default_cache, make_table, show_estimate
from .options import JsonOption
from .terminal import Terminal
from .views import count

SHOWN = 4  # of those that cost next to nothing, and of the others


def weights(
    ctx: typer.Context,
    places: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Each holds pdfs/, queries.jsonl, qrels.tsv.")],
    model: ModelOption = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where collections and rankings are kept (your cache folder).")
    ] = None,
    as_json: JsonOption = False,
) -> Weighing:
    """Find the weights with which hybrid search finds most and costs pages with words nothing.

    The folders are such as moca eval folder judges, of pages with a text layer and pages without; take one whose
    questions people asked among them. A few weights of each ranking are tried together. Told are the best by the mean
    over the folders, of those with which questions that pages with words answer lose at most 0.01 nDCG@5 against words
    alone in every folder (lower end of the 95% interval). Put them into the model's moca.json; moca index takes them
    over, and embeds nothing again for it.

    \b
    Examples:
      moca eval weights ./judged --model ./model
      moca eval weights ./judged ./asked --model ./model --json
    """
    ctx.obj.as_json = as_json
    from moca_rag.indexer.command import default_model, open_encoder
    from moca_rag.indexer.pipeline import index_documents
    from moca_rag.indexer.report import IndexSettings

    from moca_rag.judged import read_judged

    folders, model = [read_judged(place) for place in places], default_model(model)
    encoder = open_encoder(model, IndexSettings()) if model else None
    if encoder is None:
        raise ConfigError("there is no look to weigh without a model: name one with --model FOLDER_OR_HUB_ID")
    return weigh_folders(folders, index_documents, encoder, cache or default_cache(), ctx.obj)


def show_weights(terminal: Terminal, weighing: Weighing) -> None:
    """The best weights that cost next to nothing, the best of the others, and those to take."""
    best = weighing.best
    if terminal.as_json:
        folders = [asdict(folder) | {"path": str(folder.path)} for folder in weighing.folders]
        terminal.print_json(asdict(weighing) | {"folders": folders, "best": None if best is None else asdict(best)})
        return
    for folder in weighing.folders:
        asked = (
            f"{count(folder.with_words, 'question')} for pages with words, {folder.without_words:,} for pages without"
        )
        told = f"{folder.path}: {asked}, words alone {folder.text.mean:.3f}"
        terminal.out.print(Text(told, style="bold"), soft_wrap=True)
    table = make_table(f"nDCG@5 of hybrid search, {weighing.model}", "text")
    for name in ("passages", "vision", "wordless"):
        table.add_column(name, justify="right")
    table.add_column("folder")
    for name in ("all", "- words alone, with words", "without words"):
        table.add_column(name, justify="right")
    ranked = sorted(weighing.tried, key=lambda one: -one.mean)
    cheap, costly = ([one for one in ranked if one.is_cheap is which][:SHOWN] for which in (True, False))
    for one in (*cheap, *costly):
        _add_rows(table, one, weighing, "green" if one is best else "" if one.is_cheap else "dim")
    terminal.out.print()
    terminal.out.print(table)
    terminal.out.print()
    if best is None:
        terminal.out.print(
            "each of them costs pages with words more than 0.01: this model does not help", style="yellow"
        )
        return
    terminal.out.print(Text(f'moca.json: "weights": {json.dumps(asdict(best.weights))}', style="green"), soft_wrap=True)


def _add_rows(table: Table, one: Weighed, weighing: Weighing, style: str) -> None:
    """A line for each folder, the weights beside the first."""
    weights = [f"{value:g}" for value in asdict(one.weights).values()]
    for folder, found in zip(weighing.folders, one.found, strict=True):
        gain = f"{found.gain.mean:+.3f} ({found.gain.low:+.3f} to {found.gain.high:+.3f})"
        table.add_row(
            *weights,
            folder.path.name,
            show_estimate(found.every),
            gain,
            show_estimate(found.without_words),
            style=style,
        )
        weights = [""] * len(weights)
