"""How each report looks to a person, and as JSON. A view returns the exit code where it is not 0."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from .main import EXIT_ERROR, EXIT_SOME_FAILED
from .terminal import Terminal

if TYPE_CHECKING:
    from moca_rag.indexer.report import IndexReport

    from moca_rag.records import Explanation, Failure
    from moca_rag.trial import Export
    from moca_rag.upkeep import Compaction, Verdict

    from .doctor import Finding
    from .health import Status
    from .pages import Listed, Shown
    from .search import Answers

MAX_FAILURES = 12


def show_index(terminal: Terminal, report: "IndexReport") -> int:
    """The summary of a run; 3 where some files failed."""
    failed = list_failures(report.failed)
    if terminal.as_json:
        names = ("documents", "pages", "added", "changed", "unchanged", "removed")
        values: dict[str, Any] = {name: getattr(report, name) for name in names}
        terminal.print_json(values | {"failed": failed, "kept": report.kept, "seconds": report.seconds})
        return EXIT_SOME_FAILED if failed else 0
    out = terminal.out
    verb = "would be " if report.dry_run else ""
    parts = [f"{getattr(report, name):,} {verb}{name}" for name in ("added", "changed", "removed")]
    parts.append(f"{report.unchanged:,} unchanged")
    out.print(f"[bold]{count(report.documents, 'document')}, {count(report.pages, 'page')}[/bold]: {', '.join(parts)}")
    seconds = report.seconds.get("total", 0.0)
    stages = ", ".join(f"{stage} {took:.1f}" for stage, took in report.seconds.items() if stage != "total")
    speed = f", {report.new_pages / seconds:,.1f} pages/s" if report.new_pages and seconds else ""
    out.print(f"{seconds:.1f} s{speed} ({stages})", style="dim")
    if report.pages_without_text and report.mode == "text":
        out.print(
            f"{count(report.pages_without_text, 'page')} without text (scans, pictures): found only in a collection made "
            "with a model",
            style="yellow",
        )
    for line in report.kept:
        out.print(Text(f"{line}: kept, because that looks like an accident. --prune drops them.", style="yellow"))
    show_failures(terminal, failed, "`moca status` lists them all")
    return EXIT_SOME_FAILED if failed else 0


def count(number: int, noun: str) -> str:
    """A number with its noun.

    >>> count(1, "page"), count(1200, "page")
    ('1 page', '1,200 pages')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def list_failures(failures: Iterable["Failure"]) -> list[dict[str, str]]:
    """What could not be read, and why, as `--json` has it."""
    return [
        {"path": f"{failure.path}#{failure.page}" if failure.page else failure.path}
        | {"reason": failure.reason, "code": failure.code}
        for failure in failures
    ]


def show_failures(terminal: Terminal, failed: Sequence[dict[str, str]], more: str = "--json lists them all") -> None:
    """How many failed, and the first of them; `more` says where the others are."""
    if not failed:
        return
    codes = ", ".join(f"{number} {code}" for code, number in Counter(row["code"] for row in failed).most_common())
    terminal.out.print(f"{len(failed)} failed: {codes}", style="red")
    for row in failed[:MAX_FAILURES]:
        terminal.out.print(Text(f"  {row['path']}: {row['reason']} ({row['code']})"), soft_wrap=True)
    if len(failed) > MAX_FAILURES:
        terminal.out.print(f"  ... and {len(failed) - MAX_FAILURES} more: {more}")


def show_hits(terminal: Terminal, answers: "Answers") -> None:
    """A table of hits; each document is a link that opens the file at the page."""
    for line in answers.missed.values():
        terminal.say(line)
    if terminal.as_json:
        rows: list[dict[str, Any]] = [
            {
                "rank": hit.rank,
                "score": round(hit.score, 6),
                "document": hit.document,
                "page": hit.page,
                "vision": None if hit.vision is None else round(hit.vision, 6),
                "passages": None if hit.passages is None else round(hit.passages, 6),
                "text": None if hit.text is None else round(hit.text, 6),
                "snippet": hit.snippet,
                "boxes": [[round(side, 5) for side in box] for box in hit.boxes],
            }
            for hit in answers.hits
        ]
        for row, explanation in zip(rows, answers.explanations, strict=False):  # none, or one a hit
            row["explanation"] = None if explanation is None else _list_shares(explanation)
        terminal.print_json({"query": answers.query, "hits": rows})
        return
    if not answers.hits:
        terminal.say("No page matches. Try other words, fewer filters, or `moca ls` to see what is indexed.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 2, 1, 0))
    table.add_column("", justify="right", style="dim")
    table.add_column("document", ratio=3, overflow="fold")
    table.add_column("page", justify="right")
    table.add_column("score", justify="right", style="dim")
    table.add_column("snippet", ratio=7, overflow="fold")
    for hit in answers.hits:
        link = f"link {hit.path.as_uri()}#page={hit.page}"
        snippet = Text(hit.snippet or "(no text on this page)", style="" if hit.snippet else "dim")
        snippet.highlight_words(sorted(hit.matches, key=len, reverse=True), "bold yellow")
        score = f"{hit.score:.3f}"
        table.add_row(str(hit.rank), Text(hit.document, style=link), Text(str(hit.page), style=link), score, snippet)
    terminal.out.print(table)
    for path in answers.saved[:1]:
        terminal.say(f"{count(len(answers.saved), 'page')} saved in {path.parent}")


def _list_shares(explanation: "Explanation") -> dict[str, Any]:
    rows, columns = explanation.shares.shape
    values = {"score": round(explanation.score, 6), "remainder": round(explanation.remainder, 8)}
    shares = [[round(share, 8) for share in row] for row in explanation.shares.tolist()]
    return values | {"rows": rows, "columns": columns, "shares": shares}


def show_page(terminal: Terminal, shown: "Shown") -> None:
    """Where the picture was written."""
    if terminal.as_json:
        page = shown.page
        place = {"page_id": page.page_id, "picture": str(shown.picture), "text": page.text}
        terminal.print_json(place | {"width": page.width, "height": page.height, "title": page.title})
        return
    terminal.out.print(Text(str(shown.picture)), soft_wrap=True)


def show_documents(terminal: Terminal, documents: "Sequence[Listed]") -> None:
    """A table of documents."""
    if terminal.as_json:
        terminal.print_json({"documents": [asdict(row) | {"path": str(row.path)} for row in documents]})
        return
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 2, 0, 0))
    table.add_column("document", overflow="fold")
    table.add_column("pages", justify="right")
    table.add_column("title", overflow="ellipsis", no_wrap=True, style="dim")
    table.add_column("tags", style="cyan")
    for row in documents:
        pages = f"{row.pages}" if row.pages == row.num_pages else f"{row.pages} of {row.num_pages}"
        tags = " ".join(f"{key}={value}" for key, values in row.tags.items() for value in values)
        table.add_row(Text(row.document, style=f"link {row.path.as_uri()}"), pages, Text(row.title), Text(tags))
    terminal.out.print(table)


def show_removed(terminal: Terminal, names: Sequence[str]) -> None:
    """What was taken out."""
    if terminal.as_json:
        terminal.print_json({"removed": list(names)})
        return
    for name in names:
        terminal.out.print(Text(f"removed {name}"), soft_wrap=True)


def show_status(terminal: Terminal, status: "Status") -> None:
    """A collection as it stands."""
    failed = [
        {"path": f.path if not f.page else f"{f.path}#{f.page}", "reason": f.reason, "code": f.code}
        for f in status.failures
    ]
    if terminal.as_json:
        fingerprint: dict[str, Any] = {"mode": status.fingerprint.mode, "renderer": status.fingerprint.renderer}
        fingerprint["renderer_version"] = status.fingerprint.renderer_version
        model = status.fingerprint.model
        values: dict[str, Any] = {
            "path": str(status.path),
            **fingerprint,
            "model": None if model is None else asdict(model),
        }
        values |= status.counts | {"bytes": status.size, "roots": [str(root) for root in status.roots]}
        terminal.print_json(values | {"stale": status.stale, "failed": failed})
        return
    counts, model = status.counts, status.fingerprint.model
    table = Table(box=None, show_header=False, pad_edge=False, show_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("collection", Text(f"{status.path} ({status.size / 1e6:,.1f} MB)"))
    made_by = "" if model is None else f", {model.name} ({model.dimension} numbers)"
    bare = ", without passages" if status.fingerprint.mode == "hybrid" and not status.fingerprint.passages else ""
    table.add_row("mode", Text(status.fingerprint.mode + bare + made_by))
    table.add_row(
        "indexed",
        f"{counts['documents']:,} documents, {counts['pages']:,} pages ({counts['pages_with_text']:,} with text)",
    )
    if model is not None:
        pictures = f"{counts['vectors'] - counts['passages']:,} of pages, {counts['passages']:,} of passages"
        table.add_row("vectors", f"{pictures}, and {counts['dead_vectors']:,} that `moca compact` would drop")
    table.add_row("from", Text("\n".join(str(root) for root in status.roots) or "nothing yet"))
    if status.stale:
        more = f"\n... and {len(status.stale) - MAX_FAILURES} more" if len(status.stale) > MAX_FAILURES else ""
        table.add_row("stale", Text("\n".join(status.stale[:MAX_FAILURES]) + more, style="yellow"))
    terminal.out.print(table)
    for row in failed:
        terminal.out.print(
            Text(f"failed     {row['path']}: {row['reason']} ({row['code']})", style="red"), soft_wrap=True
        )


def show_verified(terminal: Terminal, verdict: "Verdict") -> int:
    """What was found; 1 where something is wrong and was not mended."""
    code = EXIT_ERROR if verdict.problems and not verdict.repaired else 0
    if terminal.as_json:
        terminal.print_json(asdict(verdict))
        return code
    if not verdict.problems:
        terminal.out.print(f"sound: {verdict.pages:,} pages, {verdict.vectors:,} vectors")
        return code
    for problem in verdict.problems:
        terminal.out.print(Text(problem, style="red"), soft_wrap=True)
    for name in verdict.lost_pages[:MAX_FAILURES]:
        terminal.out.print(Text(f"  lost: {name}"), soft_wrap=True)
    if len(verdict.lost_pages) > MAX_FAILURES:
        terminal.out.print(f"  ... and {len(verdict.lost_pages) - MAX_FAILURES} more")
    advice = (
        "mended. `moca index` reads what was lost again." if verdict.repaired else "`moca verify --repair` mends it."
    )
    terminal.out.print(advice)
    return code


def show_compacted(terminal: Terminal, result: "Compaction") -> None:
    """Room before and after."""
    if terminal.as_json:
        terminal.print_json(asdict(result))
        return
    saved = (result.bytes_before - result.bytes_after) / 1e6
    terminal.out.print(
        f"{result.dropped:,} vectors dropped, {saved:,.1f} MB given back ({result.bytes_after / 1e6:,.1f} MB now)"
    )


def show_export(terminal: Terminal, export: "Export") -> None:
    """Where the folder lies, and how it was proven."""
    trial = export.trial
    if terminal.as_json:
        terminal.print_json(asdict(export) | {"folder": str(export.folder)})
        return
    size = f"{export.num_parameters:,} numbers as {export.dtype}, {export.size / 1e6:,.1f} MB"
    terminal.out.print(Text(f"{export.folder}: {size}"), soft_wrap=True)
    if trial.unchecked:
        terminal.out.print(Text(f"unchecked: {trial.unchecked}", style="yellow"), soft_wrap=True)
    else:
        terminal.out.print(f"checked with {trial.reader}, three texts in one batch and a page against our embeddings:")
        terminal.out.print(f"largest difference {trial.difference:.2g}, lowest cosine {trial.cosine:.6f}")


def show_findings(terminal: Terminal, findings: "Sequence[Finding]") -> int:
    """What `moca doctor` found; 1 where something must be mended."""
    code = EXIT_ERROR if any(finding.state == "wrong" for finding in findings) else 0
    if terminal.as_json:
        terminal.print_json({"findings": [asdict(finding) for finding in findings]})
        return code
    colours = {"fine": "green", "note": "yellow", "wrong": "red"}
    table = Table(box=None, show_header=False, pad_edge=False, show_edge=False)
    for finding in findings:
        text = finding.what + (f"\n→ {finding.advice}" if finding.advice else "")
        table.add_row(Text(finding.state, style=colours[finding.state]), finding.name, Text(text))
    terminal.out.print(table)
    return code
