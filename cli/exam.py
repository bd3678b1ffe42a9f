"""The command `moca data exam`: composed pages with questions, for `moca eval folder`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from moca_rag.train.settings import ExamReport, ExamSettings

from .options import JsonOption
from .terminal import Terminal
from .views import count


def exam(
    ctx: typer.Context,
    documents: Annotated[Path, typer.Argument(metavar="DOCUMENTS", help="Texts of moca data corpus.")],
    fonts: Annotated[Path, typer.Argument(metavar="FONTS", help="The folder of fonts to set them in.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; it must be new or empty.")],
    pages: Annotated[int, typer.Option(metavar="N", help="How many pages.")] = ExamSettings().pages,
    min_words: Annotated[int, typer.Option(metavar="N", help="Pages with fewer words are left out.")] = (
        ExamSettings().min_words
    ),
    scans: Annotated[bool, typer.Option("--scans", help="Make every page look scanned.")] = False,
    searchable: Annotated[
        float,
        typer.Option(metavar="SHARE", help="So many of the pages are PDFs with a text layer; the others pictures."),
    ] = 0.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed draws and sets other pages.")] = 0,
    as_json: JsonOption = False,
) -> ExamReport:
    """Compose pages that nobody has seen, with a sentence, a heading and keywords of each as questions.

    What is asked stands on one page only. The folder is one that moca eval folder judges.

    \b
    Examples:
      moca data exam texts.jsonl.gz fonts exam --pages 5 --min-words 20
      moca data exam texts.jsonl.gz fonts scans --pages 5 --min-words 20 --scans --json
      moca data exam texts.jsonl.gz fonts mixed --pages 5 --min-words 20 --searchable 0.5
    """
    ctx.obj.as_json = as_json
    from moca_rag.train.exam import write_exam  # loads Pillow

    settings = ExamSettings(pages=pages, min_words=min_words, scans=scans, searchable=searchable, seed=seed)
    return write_exam(documents, fonts, out, settings, ctx.obj)


def show_exam(terminal: Terminal, report: ExamReport) -> int:
    """How many pages, and what is asked."""
    if terminal.as_json:
        terminal.print_json(asdict(report) | {"folder": str(report.folder)})
        return 0
    asked = ", ".join(f"{number:,} {kind}" for kind, number in report.questions.items())
    terminal.out.print(f"{report.folder}: {count(report.pages, 'page')}, asked for by {asked}", highlight=False)
    return 0
