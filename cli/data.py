"""The commands `moca data from-pdfs` and `moca data mine`: PDFs become rows to train on, rows get hard negatives."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from moca_rag.indexer.discover import walk_files
from moca_rag.train.pdf_rows import PdfReport, PdfSettings, write_pdf_rows
from moca_rag.train.settings import MiningReport, MiningSettings
from moca_rag.train.sources import Source
from rich.text import Text

from moca_rag.collection import Collection
from moca_rag.errors import ConfigError

from .main import EXIT_SOME_FAILED
from .options import JsonOption
from .terminal import Terminal
from .views import MAX_FAILURES, count


def from_pdfs(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of PDFs and pictures, or one of them.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; it must be new or empty.")],
    stage: Annotated[
        Literal["cpt", "cl", "both"], typer.Option(help="Rows for `moca train cpt`, for `moca train cl`, or for both.")
    ] = "both",
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed draws other rows.")] = 0,
    held_out: Annotated[
        float, typer.Option(metavar="SHARE", help="The share of documents kept aside to measure on.")
    ] = 0.1,
    as_json: JsonOption = False,
) -> PdfReport:
    """Make training rows of your own PDFs: no labels needed.

    Each page becomes a row of picture and text (cpt.parquet). Its title, headings, captions and sentences become
    queries that it answers, other pages of its document the hard negatives (cl.parquet). What a query asks for stands
    on one page only.

    \b
    Examples:
      moca data from-pdfs ./pdfs ./rows
      moca data from-pdfs ./pdfs ./rows-cl --stage cl --held-out 0.2 --json
    """
    ctx.obj.as_json = as_json
    if not folder.exists():
        raise ConfigError(f"{folder} does not exist: name a folder or file that does")
    paths = list(walk_files(folder, [])) if folder.is_dir() else [folder]
    return write_pdf_rows(paths, out, PdfSettings(stage=stage, seed=seed, held_out=held_out), ctx.obj)


def show_pdf_rows(terminal: Terminal, report: PdfReport) -> int:
    """What was written; 3 where some documents or pages could not be read."""
    code = EXIT_SOME_FAILED if report.failed else 0
    failed = [
        {"path": f"{failure.path}#{failure.page}" if failure.page else failure.path}
        | {"reason": failure.reason, "code": failure.code}
        for failure in report.failed
    ]
    if terminal.as_json:
        terminal.print_json(asdict(report) | {"folder": str(report.folder), "failed": failed})
        return code
    size = f"{report.size / 1e6:,.1f} MB"
    pages = f"{count(report.documents, 'document')}, {count(report.pages, 'page')}"
    terminal.out.print(Text(f"{report.folder}: {pages}, {size}", style="bold"), soft_wrap=True)
    for name, num_rows in report.rows.items():
        terminal.out.print(f"{name:<21} {count(num_rows, 'row')}")
    if report.tasks:
        terminal.out.print(f"queries: {', '.join(f'{number:,} {kind}' for kind, number in report.tasks.items())}")
    if report.dropped:
        left_out = ", ".join(f"{number:,} {reason}" for reason, number in report.dropped.items())
        terminal.out.print(f"left out: {left_out}", style="yellow")
    for row in failed[:MAX_FAILURES]:
        terminal.out.print(Text(f"{row['path']}: {row['reason']} ({row['code']})", style="red"), soft_wrap=True)
    if len(failed) > MAX_FAILURES:
        terminal.out.print(f"... and {len(failed) - MAX_FAILURES} more: --json lists them all", style="red")
    return code


def mine(
    ctx: typer.Context,
    rows: Annotated[str, typer.Argument(metavar="ROWS", help="Pairs as `moca train cl` reads them: a file or folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; it must be new or empty.")],
    model: Annotated[
        str | None, typer.Option(metavar="FOLDER|ID", help="The model that ranks the answers of all rows.")
    ] = None,
    collection: Annotated[
        Path | None,
        typer.Option(
            "-c", "--collection", metavar="DIR", help="Rank its pages instead, by the model it was made with."
        ),
    ] = None,
    negatives: Annotated[int, typer.Option(metavar="N", help="At most so many negatives a pair.")] = 4,
    margin: Annotated[
        float, typer.Option(metavar="COSINE", help="How far below the answer's cosine a negative's lies at least.")
    ] = 0.05,
    depth: Annotated[int, typer.Option(metavar="N", help="How many ranks are looked at.")] = 50,
    as_json: JsonOption = False,
) -> MiningReport:
    """Give pairs hard negatives: what the model ranks high for a query although it is not the answer.

    Each query ranks the answers of all rows, or the pages of a collection. From the top, those that score clearly below
    its own answer become its negatives (OUT/cl.parquet); what scores higher may be an answer, too. Negatives that the
    rows had are left out.

    \b
    Examples:
      moca data mine rows/cl.parquet mined --model ./model
      moca data mine rows/cl.parquet harder --model ./model --negatives 2 --margin 0.1 --json
    """
    ctx.obj.as_json = as_json
    from moca_rag.train.mining import ModelEncoder, check_mining, mine_negatives  # loads torch

    settings = MiningSettings(negatives=negatives, margin=margin, depth=depth)
    check_mining(out, settings)  # before the model, which takes long to load
    if (model is None) == (collection is None):
        raise ConfigError("give either --model, to rank the rows' own answers, or --collection, which has its model")
    if collection is None:
        return mine_negatives(Source(rows), out, ModelEncoder(str(model)), settings, ctx.obj)
    with Collection.open(collection) as opened:
        return mine_negatives(Source(rows), out, ModelEncoder.of(opened), settings, ctx.obj, opened)


def show_mined(terminal: Terminal, report: MiningReport) -> int:
    """What was written; 3 where some rows could not be read."""
    code = EXIT_SOME_FAILED if report.skipped else 0
    if terminal.as_json:
        terminal.print_json(asdict(report) | {"folder": str(report.folder)})
        return code
    told = (
        f"{count(report.rows, 'pair')}, {count(report.negatives, 'negative')} of {count(report.documents, 'document')}"
    )
    terminal.out.print(Text(f"{report.folder}: {told}, {report.size / 1e6:,.1f} MB", style="bold"), soft_wrap=True)
    if report.short:
        terminal.out.print(f"{count(report.short, 'pair')} with fewer negatives than asked for", style="yellow")
    if report.skipped:
        terminal.out.print(f"{count(report.skipped, 'row')} left out: not readable", style="red")
    return code
