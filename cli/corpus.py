"""The command `moca data corpus`: packages of documentation become documents and fonts to train a small model on."""

from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Annotated

import typer
from moca_rag.train.corpus import write_corpus
from moca_rag.train.corpus_settings import CorpusReport, load_corpus_settings
from rich.text import Text

from .main import EXIT_SOME_FAILED
from .options import JsonOption
from .terminal import Terminal
from .views import count, list_failures, show_failures


def corpus(
    ctx: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; it must be new or empty.")],
    config: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="A preset's name, or a .yaml file: packages, splits, caps.")
    ] = "tiny",
    packages: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Take .deb files from here, and keep here what has to be downloaded."),
    ] = None,
    as_json: JsonOption = False,
) -> CorpusReport:
    """Gather text and fonts from Debian packages, split into train, dev and test by families that share nothing.

    PDFs, HTML and manual pages become documents (documents-train.jsonl.gz, -dev, -test) of pages and blocks. What is not
    English, says little, or returns elsewhere is left out. Fonts are cut to Latin letters. Packages that --packages does
    not hold are downloaded by `apt-get download`, in the version that this system's apt sources have: 3.4 GB for `tiny`.

    \b
    Examples:
      moca data corpus corpus --config small.yaml --packages debs
      moca data corpus small --config small.yaml --packages debs --json
    """
    ctx.obj.as_json = as_json
    if packages is not None:
        packages.mkdir(parents=True, exist_ok=True)
    return write_corpus(out, load_corpus_settings(config), packages, ctx.obj)


def show_corpus(terminal: Terminal, report: CorpusReport) -> int:
    """What each split holds; 3 where some documents could not be read."""
    code = EXIT_SOME_FAILED if report.failed else 0
    if terminal.as_json:
        terminal.print_json(asdict(report) | {"folder": str(report.folder)})
        return code
    terminal.out.print(Text(str(report.folder), style="bold"), soft_wrap=True)
    for name, split in report.splits.items():
        text = f"{count(split.documents, 'document')}, {count(split.pages, 'page')}, {count(split.words, 'word')}"
        terminal.out.print(
            f"{name:<6} {text}, {split.size / 1e6:,.1f} MB, {count(split.fonts, 'font')}", soft_wrap=True
        )
        families = ", ".join(
            f"{family} {pages:,}" for family, pages in sorted(split.families.items(), key=itemgetter(1), reverse=True)
        )
        terminal.out.print(Text(f"       {families}"), soft_wrap=True)
    if report.dropped:
        left_out = ", ".join(f"{number:,} {reason}" for reason, number in report.dropped.items())
        terminal.out.print(f"left out: {left_out}", style="yellow")
    show_failures(terminal, list_failures(report.failed))
    return code
