"""The commands `moca eval mmeb` and `moca eval compare`: figures on MMEB, and figures beside the paper's."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from moca_rag.deferred import DeferredEmbedder
from moca_rag.mmeb import TASKS, MmebReport, evaluate_mmeb
from moca_rag.papers import BESIDE, Comparison, compare_results

from .main import EXIT_SOME_FAILED
from .options import JsonOption
from .terminal import Terminal

PUBLISHED = "moca-embed/MoCa-Qwen25VL-3B"


def evaluate(
    ctx: typer.Context,
    model: Annotated[
        str, typer.Option(metavar="MODEL", envvar="MOCA_MODEL", help="A model folder, or a hub id such as owner/name.")
    ] = PUBLISHED,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A copy of TIGER-Lab/MMEB-eval (default: the hub's own).")
    ] = None,
    tasks: Annotated[str, typer.Option(metavar="A,B", help="Only these tasks (default: all that there are).")] = "",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where figures and runs are kept, to go on from.")] = Path(
        "moca-eval"
    ),
    seed: Annotated[int, typer.Option(metavar="N", help="Decides the order in which candidates are encoded.")] = 0,
    as_json: JsonOption = False,
) -> MmebReport:
    """Judge a model on MMEB: precision@1 on 36 tasks, by category, in and out of distribution.

    \b
    A task that is done is not judged again. What DIR holds is what the hub holds:
      <task>/test-*.parquet   rows of qry_text, qry_img_path, tgt_text, tgt_img_path
      images.zip              the pictures; or a folder, images

    \b
    Examples:
      moca eval mmeb --model ./model --data ./MMEB-eval
      moca eval mmeb --model ./model --data ./MMEB-eval --tasks CIRR,OK-VQA --json
    """
    ctx.obj.as_json = as_json
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    return evaluate_mmeb(DeferredEmbedder(model), out, data=data, tasks=names, seed=seed, reporter=ctx.obj)


def compare(
    ctx: typer.Context,
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="Result files, or folders of them.")],
    beside: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A row of the paper's tables, such as GME (default: MoCa-3B and MoCa-7B)."),
    ] = None,
    as_json: JsonOption = False,
) -> list[Comparison]:
    """Show our figures beside the MoCa paper's, with the difference, in percent.

    \b
    Examples:
      moca eval compare ./moca-eval
      moca eval compare ./moca-eval --beside mmE5 --beside "w/o MLM" --json
    """
    ctx.obj.as_json = as_json
    return compare_results(results, tuple(beside or BESIDE))


def show_mmeb(terminal: Terminal, report: MmebReport) -> int:
    """A line for each task, then the averages; 3 where a task could not be read."""
    code = EXIT_SOME_FAILED if report.failed else 0
    if terminal.as_json:
        values: dict[str, Any] = {"model": asdict(report.model), "folder": str(report.folder)}
        values["tasks"] = [asdict(score) for score in report.scores.values()]
        values |= {"averages": report.averages, "missing": report.missing, "failed": report.failed}
        terminal.print_json(values)
        return code
    table = _make_table("task", "precision@1", "95% interval", "queries", "candidates", "ties")
    for score in report.scores.values():
        low, high = score.interval
        counts = (f"{count:,}" for count in (score.num_queries, score.num_candidates, score.num_ties))
        table.add_row(score.task, f"{100 * score.precision_at_1:.1f}", f"{100 * low:.1f} to {100 * high:.1f}", *counts)
    if report.averages:
        table.add_section()
    for name, average in report.averages.items():
        table.add_row(name, f"{100 * average:.1f}", style="bold")
    terminal.out.print(table)
    for task, reason in report.failed.items():
        terminal.out.print(Text(f"{task} failed: {reason}", style="red"), soft_wrap=True)
    if "Overall" not in report.averages:
        done = f"{len(report.scores)} of {len(TASKS)} tasks"
        names = [*report.failed, *report.missing]
        terminal.out.print(
            Text(f"{done}: no average over all without {', '.join(names)}", style="yellow"), soft_wrap=True
        )
    terminal.out.print(Text(f"figures, runs and qrels: {report.folder}", style="dim"), soft_wrap=True)
    return code


def show_comparison(terminal: Terminal, comparisons: list[Comparison]) -> None:
    """A table for each model and benchmark: ours, then each published figure and how much ours is above it."""
    if terminal.as_json:
        terminal.print_json({"comparisons": [_list_rows(comparison) for comparison in comparisons]})
        return
    for comparison in comparisons:
        results = comparison.results
        if comparison.rows:
            terminal.out.print(
                Text(f"{results.benchmark}: {results.model} ({results.folder})", style="bold"), soft_wrap=True
            )
            terminal.out.print(_tabulate(comparison))
        if results.others:
            names = ", ".join(results.others)
            terminal.out.print(Text(f"the paper has no figures for {names}", style="dim"), soft_wrap=True)


def _tabulate(comparison: Comparison) -> Table:
    models = list(comparison.rows[0].theirs)
    table = _make_table("", "ours", *(name for model in models for name in (model, "±")))
    for row in comparison.rows:
        cells = [f"{row.ours:.1f}"]
        for model in models:
            difference = row.difference(model)
            colour = "" if difference is None else "green" if difference >= 0 else "red"
            signed = "" if difference is None else f"[{colour}]{difference:+.1f}[/{colour}]"
            cells += ["–" if row.theirs[model] is None else f"{row.theirs[model]:.1f}", signed]
        table.add_row(row.name, *cells, style="bold" if row.is_average else "")
    return table


def _list_rows(comparison: Comparison) -> dict[str, Any]:
    results = comparison.results
    rows = [
        {"name": row.name, "ours": row.ours, "theirs": row.theirs}
        | {"difference": {model: row.difference(model) for model in row.theirs}, "is_average": row.is_average}
        for row in comparison.rows
    ]
    place = {"benchmark": results.benchmark, "model": results.model, "folder": str(results.folder)}
    return place | {"rows": rows, "others": list(results.others)}


def _make_table(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table
