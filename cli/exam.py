"""The commands `moca data exam` and `exam-pdfs`: pages with questions, composed or your own, for `moca eval folder`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from moca_rag.indexer.discover import list_documents
from moca_rag.train.settings import ExamReport, ExamSettings

from .main import EXIT_SOME_FAILED
from .options import JsonOption, PasswordOption
from .terminal import Terminal
from .views import count, list_failures, show_failures

USUAL = ExamSettings()
OutArgument = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; it must be new or empty.")]
MinWordsOption = Annotated[int, typer.Option(metavar="N", help="Pages with fewer words are left out.")]


def exam(
    ctx: typer.Context,
    documents: Annotated[Path, typer.Argument(metavar="DOCUMENTS", help="Texts of moca data corpus.")],
    fonts: Annotated[Path, typer.Argument(metavar="FONTS", help="The folder of fonts to set them in.")],
    out: OutArgument,
    pages: Annotated[int, typer.Option(metavar="N", help="How many pages.")] = USUAL.pages,
    min_words: MinWordsOption = USUAL.min_words,
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


def exam_pdfs(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of PDFs, or one of them.")],
    out: OutArgument,
    pages: Annotated[int, typer.Option(metavar="N", help="At most so many pages, drawn from all.")] = 200,
    min_words: MinWordsOption = USUAL.min_words,
    searchable: Annotated[
        float,
        typer.Option(metavar="SHARE", help="So many of the pages keep their text layer; the others become pictures."),
    ] = 0.5,
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed draws other pages.")] = 0,
    password: PasswordOption = None,
    as_json: JsonOption = False,
) -> ExamReport:
    """Make an exam of your own PDFs, so that you see what each mode of search finds in them: no labels needed.

    Pages are written one by one, some as pictures without a text layer, as scans are. A sentence, a heading, a caption
    and keywords of each are the questions; what is asked stands on one page only. The folder is one that moca eval
    folder judges.

    \b
    Examples:
      moca data exam-pdfs ./pdfs exam --pages 5 --min-words 3
      moca data exam-pdfs ./pdfs scans --pages 5 --min-words 3 --searchable 0 --json
    """
    ctx.obj.as_json = as_json
    from moca_rag.train.pdf_exam import write_pdf_exam  # loads Pillow

    settings = ExamSettings(
        pages=pages, min_words=min_words, searchable=searchable, seed=seed, passwords=tuple(password or ())
    )
    return write_pdf_exam(list_documents(folder), out, settings, ctx.obj)


def show_exam(terminal: Terminal, report: ExamReport) -> int:
    """How many pages, and what is asked; 3 where some could not be read."""
    failed = list_failures(report.failed)
    code = EXIT_SOME_FAILED if failed else 0
    if terminal.as_json:
        terminal.print_json(asdict(report) | {"folder": str(report.folder), "failed": failed})
        return code
    asked = ", ".join(f"{number:,} {kind}" for kind, number in report.questions.items())
    terminal.out.print(f"{report.folder}: {count(report.pages, 'page')}, asked for by {asked}", highlight=False)
    show_failures(terminal, failed)
    return code
