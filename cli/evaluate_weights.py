"""The command `moca eval weights`: how much a model's look should count in hybrid search."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from moca_rag.errors import ConfigError
from moca_rag.weighing import Weighed, Weighing, weigh_folder

from .evaluate import ModelOption, default_cache, make_table, show_estimate
from .options import JsonOption
from .terminal import Terminal
from .views import count


def weights(
    ctx: typer.Context,
    place: Annotated[Path, typer.Argument(metavar="DIR", help="Holds pdfs/, queries.jsonl and qrels.tsv.")],
    model: ModelOption = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where collections and rankings are kept (your cache folder).")
    ] = None,
    as_json: JsonOption = False,
) -> Weighing:
    """Find the weights with which a model's look helps and costs pages with words nothing.

    The folder is one that moca eval folder judges, of pages with a text layer and pages without. Every pair of a few
    weights is tried. The best one over all questions is told, of those with which questions that pages with words answer
    lose at most 0.01 nDCG@5 against words alone (lower end of the 95% interval). Put it into the model's moca.json;
    collections made from then on keep it.

    \b
    Examples:
      moca eval weights ./judged --model ./model
      moca eval weights ./judged --model ./model --json
    """
    ctx.obj.as_json = as_json
    from moca_rag.indexer.command import default_model, open_encoder
    from moca_rag.indexer.pipeline import index_documents
    from moca_rag.indexer.report import IndexSettings

    from moca_rag.judged import read_judged

    judged, model = read_judged(place), default_model(model)
    encoder = open_encoder(model, IndexSettings()) if model else None
    if encoder is None:
        raise ConfigError("there is no look to weigh without a model: name one with --model FOLDER_OR_HUB_ID")
    return weigh_folder(judged, index_documents, encoder, cache or default_cache(), ctx.obj)


def show_weights(terminal: Terminal, weighing: Weighing) -> None:
    """For each weight of the look the best of the other; then the pair to take."""
    best = weighing.best
    if terminal.as_json:
        values = asdict(weighing) | {"folder": str(weighing.folder), "kept": str(weighing.kept)}
        terminal.print_json(values | {"best": None if best is None else asdict(best)})
        return
    asked = (
        f"{count(weighing.with_words, 'question')} for pages with words, {weighing.without_words:,} for pages without"
    )
    terminal.out.print(Text(f"{weighing.folder}: {asked}, {weighing.model}", style="bold"), soft_wrap=True)
    table = make_table("nDCG@5 of hybrid search, for each weight with its best other", "vision_weight")
    for name in ("wordless_weight", "all", "with words", "- words alone", "without words"):
        table.add_column(name, justify="right")
    rows: dict[float, list[Weighed]] = {}
    for one in weighing.tried:
        rows.setdefault(one.vision_weight, []).append(one)
    for vision, tried in rows.items():
        one = max(tried, key=lambda one: (one.is_cheap, one.every.mean if one.is_cheap else one.gain.low))
        gain = f"{one.gain.mean:+.3f} ({one.gain.low:+.3f} to {one.gain.high:+.3f})"
        cells = (show_estimate(one.every), show_estimate(one.with_words), gain, show_estimate(one.without_words))
        style = "green" if one is best else "" if one.is_cheap else "dim"
        table.add_row(f"{vision}", f"{one.wordless_weight}", *cells, style=style)
    terminal.out.print()
    terminal.out.print(table)
    terminal.out.print(f"words alone: {weighing.text.mean:.3f} over all", style="dim", highlight=False)
    terminal.out.print()
    if best is None:
        terminal.out.print(
            "each of them costs pages with words more than 0.01: this look does not help", style="yellow"
        )
        return
    pair = f'"vision_weight": {best.vision_weight}, "wordless_weight": {best.wordless_weight}'
    terminal.out.print(Text(f"moca.json: {pair}", style="green"))
