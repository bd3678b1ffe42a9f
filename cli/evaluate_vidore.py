"""The command `moca eval vidore`: a benchmark's version in, the table of its tasks out."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from moca_rag.bundled import NO_MODEL
from moca_rag.records import Mode
from moca_rag.vidore import VidoreReport, evaluate_vidore

from .main import EXIT_SOME_FAILED
from .options import JsonOption
from .terminal import Terminal

COLUMNS = {"ndcg_5": "nDCG@5", "ndcg_10": "nDCG@10"}
NUM_SETTINGS = 7


def vidore(
    ctx: typer.Context,
    version: Annotated[str, typer.Option(metavar="v1|v2|v3|v3.1", help="Which ViDoRe.")] = "v2",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER_OR_ID",
            envvar="MOCA_MODEL",
            help="A model of ours, a folder of sentence-transformers, or a name of mteb's registry.",
        ),
    ] = None,
    tasks: Annotated[str, typer.Option(metavar="A,B", help="Only these tasks, by mteb's names.")] = "",
    languages: Annotated[str, typer.Option(metavar="A,B", help="Only queries in these, as english or eng.")] = "",
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Local copies of data sets: DIR/<task or data set>.")
    ] = None,
    engine: Annotated[
        bool, typer.Option("--engine", help="Judge indexing and search as a whole; without --model by text alone.")
    ] = False,
    mode: Annotated[Mode | None, typer.Option(help="With --engine: which rankings answer (default: all).")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results and runs are kept, to go on from.")] = Path(
        "moca-eval"
    ),
    as_json: JsonOption = False,
) -> VidoreReport:
    """Score a model, or the whole engine, on ViDoRe through mteb: pages found for questions, by nDCG.

    What is finished is kept in --out and not run again; the runs lie there with their qrels. A data set comes from
    --data, the hub's cache, or the hub.

    \b
    Examples:
      moca eval vidore --version v2 --model ./model --data ./vidore --tasks Vidore2ESGReportsHLRetrieval
      moca eval vidore --version v3.1 --engine --data ./vidore --tasks Vidore3HrRetrieval.v2 --json
    """
    ctx.obj.as_json = as_json
    from moca_rag.indexer.pipeline import index_documents

    return evaluate_vidore(
        version,
        None if model == NO_MODEL else model,
        out,
        tasks=_split(tasks),
        languages=_split(languages),
        data=data,
        index=index_documents if engine else None,
        mode=mode,
        reporter=ctx.obj,
    )


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def show_vidore(terminal: Terminal, report: VidoreReport) -> int:
    """A row a task, its languages below it, and what the paper averages by itself; 3 where some tasks failed."""
    code = EXIT_SOME_FAILED if report.failed else 0
    means = {name: report.mean(name) for name in COLUMNS}
    if terminal.as_json:
        terminal.print_json(asdict(report) | {"out": str(report.out), "mean": means})
        return code
    terminal.out.print(Text(f"ViDoRe {report.version}, {report.model} ({report.revision[:12]})", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 2, 0, 0))
    table.add_column("task")
    for name in ("queries", "ties"):
        table.add_column(name, justify="right", style="dim")
    for name, title in COLUMNS.items():
        table.add_column(title + (" *" if name == report.official else ""), justify="right")
    for task in report.tasks:
        counts = [str(sum(getattr(subset, name) for subset in task.subsets)) for name in ("num_queries", "num_ties")]
        table.add_row(task.name, *counts, *(_percent(getattr(task, name)) for name in COLUMNS))
        for subset in task.subsets if len(task.subsets) > 1 else ():
            numbers = [_percent(getattr(subset, name)) for name in COLUMNS]
            row = (f"  {subset.name}", str(subset.num_queries), str(subset.num_ties), *numbers)
            table.add_row(*row, style="dim")
    label = f"mean of {len(report.tasks)}" + (" (not the whole benchmark)" if report.missing else "")
    table.add_row(label, "", "", *map(_percent, means.values()), style="bold")
    terminal.out.print(table)
    terminal.out.print("* what the leaderboard ranks by; ties are pages with another page's score", style="dim")
    if report.settings:
        _show_settings(terminal, report.settings)
    for name, reason in report.failed.items():
        terminal.out.print(Text(f"{name} was not run: {reason}", style="red"), soft_wrap=True)
    terminal.say(f"runs and results are kept in {report.out}")
    return code


def _show_settings(terminal: Terminal, settings: dict[str, float]) -> None:
    """The paper's seven settings: other averages than mteb's, so a table of their own."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 2, 0, 0))
    table.add_column("the paper's settings")
    table.add_column(COLUMNS["ndcg_5"], justify="right")
    for name, value in settings.items():
        table.add_row(name, _percent(value))
    whole = len(settings) == NUM_SETTINGS
    label = f"mean of {len(settings)}" + ("" if whole else f" (the paper has {NUM_SETTINGS})")
    table.add_row(label, _percent(sum(settings.values()) / len(settings)), style="bold")
    terminal.out.print()
    terminal.out.print(table)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
