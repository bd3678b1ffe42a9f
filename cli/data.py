"""The commands of `moca data`: PDFs or published data sets become rows to train on, and rows get hard negatives."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from moca_rag.indexer.discover import list_documents
from moca_rag.train.mixes import PrepareReport, load_mix, tell_size
from moca_rag.train.pdf_rows import PdfReport, PdfSettings, write_pdf_rows
from moca_rag.train.prepare import prepare_rows
from moca_rag.train.settings import MiningReport, MiningSettings, Source
from rich.table import Table
from rich.text import Text

from moca_rag.collection import Collection
from moca_rag.errors import ConfigError

from .main import EXIT_SOME_FAILED
from .options import JsonOption, PasswordOption
from .terminal import Terminal
from .views import MAX_FAILURES, count, list_failures, show_failures


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
    password: PasswordOption = None,
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
    settings = PdfSettings(stage=stage, seed=seed, held_out=held_out, passwords=tuple(password or ()))
    return write_pdf_rows(list_documents(folder), out, settings, ctx.obj)


def show_pdf_rows(terminal: Terminal, report: PdfReport) -> int:
    """What was written; 3 where some documents or pages could not be read."""
    code = EXIT_SOME_FAILED if report.failed else 0
    failed = list_failures(report.failed)
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
    show_failures(terminal, failed)
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


def prepare(
    ctx: typer.Context,
    stage: Annotated[Literal["cpt", "cl"], typer.Argument(metavar="cpt|cl", help="The stage to make rows for.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write, new or begun by this command.")],
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="Another mix of data sets than the paper's.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Local copies of data sets, as DIR/<owner>/<name>/...")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(metavar="N", help="At most so many rows of each set (cpt 500,000, cl 50,000).")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Another seed draws other rows.")] = None,
    only: Annotated[str | None, typer.Option(metavar="NAME,...", help="Only these sets of the mix.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be read and written.")] = False,
    as_json: JsonOption = False,
) -> PrepareReport:
    """Build the paper's mix of published data sets as local rows.

    Of each set only the drawn parts are fetched, and nothing but the rows stays on disk, images inside. What that takes
    is told first, and refused where the disk has no room. The same command goes on where it was stopped. A local copy goes
    before the hub. Training reads the folder: data=OUT, or data=OUT/<set> for one set.

    \b
    Examples:
      moca data prepare cpt mix --data ./datasets --rows 1000 --dry-run
      moca data prepare cl pairs --data ./datasets --only CIRR,nq --json
    """
    ctx.obj.as_json = as_json
    mix = load_mix(stage, config, rows=rows, seed=seed)
    names = only.split(",") if only else ()
    return prepare_rows(stage, out, mix, data=data, only=names, dry_run=dry_run, reporter=ctx.obj)


def show_prepared(terminal: Terminal, report: PrepareReport) -> int:
    """The sets and their rows; 3 where some rows could not be read."""
    code = EXIT_SOME_FAILED if any(one.skipped for one in report.sets) else 0
    if terminal.as_json:
        terminal.print_json(asdict(report) | {"folder": str(report.folder)})
        return code
    planned_names, written_names = (
        ("files", "rows there", "rows wanted", "to read", "to write"),
        ("rows", "left out", "size"),
    )
    table = Table("set", "from", box=None, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 2, 0, 0))
    for name in planned_names if report.dry_run else written_names:
        table.add_column(name, justify="right")
    for one in report.sets:
        there = "?" if one.rows_there is None else f"{one.rows_there:,}"
        planned = (f"{one.files:,}", there, f"{one.rows_wanted:,}", tell_size(one.read), tell_size(one.write))
        written = (f"{one.rows:,}", f"{one.skipped:,}", tell_size(one.size))
        table.add_row(one.name, one.place, *(planned if report.dry_run else written))
    terminal.out.print(table)
    total, size = sum(one.rows for one in report.sets), sum(one.size for one in report.sets)
    told = f"about {tell_size(report.need)} to write, {tell_size(report.free)} free"
    told = told if report.dry_run else f"{count(total, 'row')}, {tell_size(size)}"
    terminal.out.print(Text(f"{report.folder}: {told}", style="bold"), soft_wrap=True)
    for reason in [reason for one in report.sets for reason in one.reasons][:MAX_FAILURES]:
        terminal.out.print(Text(f"left out: {reason}", style="red"), soft_wrap=True)
    return code
