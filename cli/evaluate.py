"""The command `moca eval folder`: which mode is best on your own documents and questions, and how it is shown."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from moca_rag.errors import ConfigError
from moca_rag.records import Mode

from .options import JsonOption
from .terminal import Terminal
from .views import count

if TYPE_CHECKING:
    from moca_rag.scopes import Estimate, Judgement, Scope

ModelOption = Annotated[
    str | None,
    typer.Option(metavar="FOLDER_OR_HUB_ID", envvar="MOCA_MODEL", help="The model that is judged, or none."),
]

TITLES = {"corpus": "whole corpus", "document": "within the right document"}


@dataclass(frozen=True, slots=True)
class Judged:
    """What `moca eval folder` found, and the page that was written of it."""

    judgement: "Judgement"
    report: Path | None


def folder(
    ctx: typer.Context,
    place: Annotated[Path, typer.Argument(metavar="DIR", help="Holds pdfs/, queries.jsonl and qrels.tsv.")],
    modes: Annotated[
        str,
        typer.Option(metavar="MODES", help="Of text,vision,passages,hybrid (default: all with a model, text without)."),
    ] = "",
    model: ModelOption = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write figures and misses as one HTML page.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where collections and rankings are kept (your cache folder).")
    ] = None,
    as_json: JsonOption = False,
) -> Judged:
    """Judge each mode of search on your own questions, beside chance.

    A line of queries.jsonl is {"_id": "q1", "text": "...", "kind": "..."}, the kind if you like. A line of qrels.tsv
    is a query id, a page as report.pdf#3 and a grade (0: no answer), between tabs.

    \b
    Examples:
      moca eval folder ./judged
      moca eval folder ./judged --modes text --report judged.html --json
    """
    ctx.obj.as_json = as_json
    from moca_rag.indexer.command import default_model, open_encoder
    from moca_rag.indexer.pipeline import index_documents
    from moca_rag.indexer.report import IndexSettings

    from moca_rag.judged import read_judged
    from moca_rag.judging import judge_folder

    judged, model = read_judged(place), default_model(model)
    chosen = read_modes(modes, has_model=bool(model))
    encoder = open_encoder(model, IndexSettings()) if chosen != ["text"] else None
    judgement = judge_folder(judged, index_documents, encoder, chosen, cache or default_cache(), ctx.obj)
    if report is not None:
        from moca_rag.webpage import write_page

        write_page(judgement, report, ctx.obj)
    return Judged(judgement, report)


def default_cache() -> Path:
    """Where evaluations keep collections and rankings if no place is named."""
    from platformdirs import user_cache_path

    return user_cache_path("moca_rag") / "eval"


def read_modes(words: str, *, has_model: bool) -> list[Mode]:
    """The modes in the order text, vision, passages, hybrid. Raises ConfigError on an unknown one.

    >>> read_modes("hybrid,text", has_model=True), read_modes("", has_model=False)
    (['text', 'hybrid'], ['text'])
    """
    from moca_rag.judging import MODES

    named = [word.strip() for word in words.split(",") if word.strip()]
    unknown = [word for word in named if word not in MODES]
    if unknown:
        raise ConfigError(f"--modes {words}: there is no mode {unknown[0]!r}, only {', '.join(MODES)}")
    wanted = named or (MODES if has_model else ["text"])
    return [mode for mode in MODES if mode in wanted]


# -- how it is shown --------------------------------------------------------------------------------------------------


def show_folder(terminal: Terminal, judged: Judged) -> None:
    """The tables: each mode in both scopes, pairs of modes, kinds."""
    judgement = judged.judgement
    if terminal.as_json:
        terminal.print_json(list_values(judged))
        return
    for note in judgement.notes:
        terminal.say(note)
    sizes = (
        count(len(judgement.corpus.queries), "question"),
        count(judgement.num_documents, "document"),
        count(judgement.num_pages, "page"),
    )
    made_by = f", {judgement.model}" if judgement.model else ""
    terminal.out.print(Text(f"{judgement.folder}: {', '.join(sizes)}{made_by}", style="bold"), soft_wrap=True)
    if "hybrid" in judgement.modes:
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in judgement.weights.items() if name != "wordless")
        terminal.say(f"hybrid believes {weights}; a page without words {judgement.weights['wordless']:.2f}")
    for scope in judgement.scopes:
        _print_scope(terminal, scope)
    if judgement.corpus.kinds:
        _print_kinds(terminal, judgement.corpus)
    terminal.out.print()
    terminal.say(f"rankings and qrels: {judgement.kept}")
    if judged.report is not None:
        terminal.say(f"page: {judged.report}")


def _print_scope(terminal: Terminal, scope: "Scope") -> None:
    from moca_rag.metrics import count_ties
    from moca_rag.webpage import LEADING, MEASURE_NAMES

    table = make_table(f"{TITLES[scope.name]}, {len(scope.queries):,} {scope.counted}")
    for name in (*MEASURE_NAMES.values(), "ties"):
        table.add_column(name, justify="right")
    for mode, run in scope.runs.items():
        cells = [show_estimate(scope.estimate(mode, measure)) for measure in MEASURE_NAMES]
        table.add_row(mode, *cells, str(count_ties(run)))
    chance = [f"{scope.expect(measure):.3f}" for measure in MEASURE_NAMES]
    table.add_row("random", *chance, style="dim")
    terminal.out.print()
    terminal.out.print(table)
    for found in scope.compare(LEADING):
        clear = found.low > 0 or found.high < 0
        line = f"{found.first} - {found.second}: {found.mean:+.3f} nDCG@5 ({found.low:+.3f} to {found.high:+.3f})"
        terminal.out.print(line + ("" if clear else ", not told apart"), style="green" if clear else "dim")


def _print_kinds(terminal: Terminal, scope: "Scope") -> None:
    from moca_rag.webpage import LEADING

    table = make_table("by kind, whole corpus, nDCG@5")
    for name in ("questions", *scope.runs, "random"):
        table.add_column(name, justify="right")
    for kind in scope.kinds:
        cells = [show_estimate(scope.estimate(mode, LEADING, kind)) for mode in scope.runs]
        chance = Text(f"{scope.expect(LEADING, kind):.3f}", style="dim")
        table.add_row(Text(kind), str(len(scope.keys(kind))), *cells, chance)
    terminal.out.print()
    terminal.out.print(table)


def make_table(title: str, first: str = "") -> Table:
    """A table of figures, with a column of names."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="",
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 2, 0, 0),
    )
    table.add_column(first)
    return table


def show_estimate(found: "Estimate") -> Text:
    """A mean and its interval, as a cell."""
    return Text.assemble(f"{found.mean:.3f}", (f" {found.low:.2f}-{found.high:.2f}", "dim"))


def list_values(judged: Judged) -> dict[str, Any]:
    """All figures, by scope, mode, measure and kind, to six digits."""
    judgement = judged.judgement
    return {
        "folder": str(judgement.folder),
        "kept": str(judgement.kept),
        "model": judgement.model,
        "documents": judgement.num_documents,
        "pages": judgement.num_pages,
        "corpus": _list_scope(judgement.corpus),
        "document": _list_scope(judgement.document),
        "notes": judgement.notes,
        "weights": {name: round(weight, 6) for name, weight in judgement.weights.items()},
        "report": None if judged.report is None else str(judged.report),
    }


def _list_scope(scope: "Scope") -> dict[str, Any]:
    from moca_rag.metrics import MEASURES, count_ties

    differences = [
        {"measure": measure, "first": found.first, "second": found.second} | _round_all(found._asdict())
        for measure in MEASURES
        for found in scope.compare(measure)
    ]
    return (
        _list_part(scope, None)
        | {"ties": {mode: count_ties(run) for mode, run in scope.runs.items()}, "differences": differences}
        | {"kinds": {kind: _list_part(scope, kind) for kind in scope.kinds}}
    )


def _list_part(scope: "Scope", kind: str | None) -> dict[str, Any]:
    from moca_rag.metrics import MEASURES

    modes = {
        mode: {measure: _round_all(scope.estimate(mode, measure, kind)._asdict()) for measure in MEASURES}
        for mode in scope.runs
    }
    chance = _round_all({measure: scope.expect(measure, kind) for measure in MEASURES})
    return {"questions": len(scope.keys(kind)), "modes": modes, "random": chance}


def _round_all(values: dict[str, Any]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items() if isinstance(value, float)}
