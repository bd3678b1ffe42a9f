"""A judgement as one HTML file that needs nothing else: figures, and the misses as pictures."""

import base64
import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from html import escape
from pathlib import Path

from .collection import Collection
from .errors import MocaError
from .judged import JudgedQuery, read_key
from .metrics import MEASURES, count_ties
from .progress import Reporter
from .records import Mode, PixelBudget
from .scopes import Difference, Estimate, Judgement, Scope
from .webstyle import STYLE

MEASURE_NAMES = dict(zip(MEASURES, ("nDCG@5", "nDCG@10", "recall@5", "recall@10", "MRR@10"), strict=True))
SCOPE_NAMES = {"corpus": "In the whole corpus", "document": "Within the right document"}
LEADING = "ndcg_cut_5"
MAX_MISSES = 40  # about 0.1 MB each
PICTURE = PixelBudget(250_000, 350_000)  # a heading can be read, and forty pairs stay below 5 MB
QUALITY = 60


@dataclass(frozen=True, slots=True)
class Miss:
    """A question whose first page does not answer: the page wanted, the page got, and where the right one came."""

    key: str
    query: JudgedQuery
    wanted: list[str]
    got: str | None


def choose_mode(judgement: Judgement) -> Mode:
    """The mode whose misses are worth a look: the best over the whole corpus."""
    return max(judgement.modes, key=lambda mode: judgement.corpus.estimate(mode, LEADING).mean)


def list_misses(scope: Scope, mode: Mode) -> list[Miss]:
    """The questions that a mode does not answer with its first page, in their order."""
    misses = []
    for key, query in scope.queries.items():
        if scope.rank(mode, key) != 1:
            right = {page: grade for page, grade in scope.qrels[key].items() if grade > 0}
            wanted = sorted(right, key=lambda page: -right[page])
            misses.append(Miss(key, query, wanted, next(iter(scope.runs[mode][key]), None)))
    return misses


def write_page(judgement: Judgement, path: Path, reporter: Reporter) -> None:
    """Write the page. Raises OSError where it cannot be written; a page that cannot be drawn is told in its place."""
    parts = [_head(judgement), *(_scope(scope) for scope in judgement.scopes)]
    if judgement.corpus.kinds:
        parts.append(_kinds(judgement.corpus))
    parts.extend(_misses(judgement, reporter))
    parts.append(_foot(judgement))
    title = f"{escape(judgement.folder.resolve().name)}: evaluation"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    body = "\n".join(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<!doctype html>\n<html lang="en"><head>{head}\n<style>{STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n',
        encoding="utf-8",
    )


# -- figures ----------------------------------------------------------------------------------------------------------


def _head(judgement: Judgement) -> str:
    counts = (
        f"{len(judgement.corpus.queries):,} questions · {judgement.num_documents:,} documents · "
        f"{judgement.num_pages:,} pages · " + (f"model {escape(judgement.model)}" if judgement.model else "no model")
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in judgement.notes)
    return (
        f"<header><h1>{escape(judgement.folder.resolve().name)}</h1><p>{counts}</p>"
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
        + "</header>"
    )


def _scope(scope: Scope) -> str:
    names = "".join(f"<th>{name}</th>" for name in MEASURE_NAMES.values())
    rows = [_mode_row(scope, mode) for mode in scope.runs]
    chance = "".join(f"<td>{scope.expect(measure):.3f}</td>" for measure in MEASURES)
    rows.append(f'<tr class="chance"><th>random</th><td></td>{chance}<td></td></tr>')
    head = f"<tr><th></th><th class=wide>nDCG@5, 95% interval</th>{names}<th>ties</th></tr>"
    return (
        f"<section><h2>{SCOPE_NAMES[scope.name]} <small>{len(scope.queries):,} {scope.counted}</small></h2>"
        f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
        f"{''.join(map(_difference, scope.compare(LEADING)))}</section>"
    )


def _mode_row(scope: Scope, mode: Mode) -> str:
    cells = []
    for measure in MEASURES:
        found = scope.estimate(mode, measure)
        cells.append(f"<td>{found.mean:.3f}<small>{found.low:.2f}–{found.high:.2f}</small></td>")
    bar = _whisker(scope.estimate(mode, LEADING), scope.expect(LEADING))
    return f"<tr><th>{mode}</th><td>{bar}</td>{''.join(cells)}<td>{count_ties(scope.runs[mode]):,}</td></tr>"


def _whisker(found: Estimate, chance: float) -> str:
    """A scale from 0 to 1: a bar to the mean, a line over the interval, a tick at what chance reaches."""
    mean, low, high, tick = (f"{100 * value:.2f}" for value in (*found, chance))
    return (
        '<svg viewBox="0 0 100 12" preserveAspectRatio="none" role="img">'
        f"<title>{found.mean:.3f}, chance {chance:.3f}</title>"
        '<rect class="track" width="100" height="12"/>'
        f'<rect class="bar" width="{mean}" height="12"/>'
        f'<line class="interval" x1="{low}" x2="{high}" y1="6" y2="6"/>'
        f'<line class="tick" x1="{tick}" x2="{tick}" y1="0" y2="12"/></svg>'
    )


def _difference(found: Difference) -> str:
    role = "better" if found.low > 0 else "worse" if found.high < 0 else "alike"
    verdict = "not told apart by these questions" if role == "alike" else f"{found.first} is {role}"
    mean, low, high = (f"{value:+.3f}".replace("-", "−") for value in (found.mean, found.low, found.high))
    return (
        f'<p class="{role}">{found.first} − {found.second}: <b>{mean}</b> nDCG@5 '
        f"<small>{low} to {high}: {verdict}</small></p>"
    )


def _kinds(scope: Scope) -> str:
    head = "".join(f"<th>{mode}</th>" for mode in scope.runs)
    rows = []
    for kind in scope.kinds:
        values = [scope.estimate(mode, LEADING, kind) for mode in scope.runs]
        cells = "".join(
            f'<td style="--share:{100 * found.mean:.0f}%" class="heat">{found.mean:.3f}'
            f"<small>{found.low:.2f}–{found.high:.2f}</small></td>"
            for found in values
        )
        chance = scope.expect(LEADING, kind)
        rows.append(
            f"<tr><th>{escape(kind)}</th><td>{len(scope.keys(kind))}</td>{cells}<td class=dim>{chance:.3f}</td></tr>"
        )
    return (
        "<section><h2>By kind of question <small>nDCG@5, whole corpus</small></h2><table>"
        f"<thead><tr><th></th><th>questions</th>{head}<th>random</th></tr></thead><tbody>{''.join(rows)}</tbody></table></section>"
    )


# -- misses -----------------------------------------------------------------------------------------------------------


def _misses(judgement: Judgement, reporter: Reporter) -> Iterator[str]:
    mode = choose_mode(judgement)
    misses = list_misses(judgement.corpus, mode)
    shown = misses[:MAX_MISSES]
    more = f", the first {MAX_MISSES} shown" if len(misses) > MAX_MISSES else ""
    num = len(judgement.corpus.queries)
    yield (
        f"<section><h2>Misses of {mode} <small>{len(misses)} of {num} questions whose first page does not answer"
        f"{more}</small></h2>"
    )
    reporter.start("drawing", len(shown))
    with Collection.open(judgement.kept / "collection") as collection:
        for miss in shown:
            yield _card(collection, judgement.corpus, miss)
            reporter.advance("drawing")
    yield "</section>"


def _card(collection: Collection, scope: Scope, miss: Miss) -> str:
    ranks = "".join(f"<dt>{mode}</dt><dd>{scope.rank(mode, miss.key) or 'not among 100'}</dd>" for mode in scope.runs)
    others = f", or another of {len(miss.wanted)}" if len(miss.wanted) > 1 else ""
    kind = f"<span class=kind>{escape(miss.query.kind)}</span>" if miss.query.kind else ""
    wanted = _figure(collection, "wanted", miss.wanted[0], others)
    got = _figure(collection, "got", miss.got, "") if miss.got else "<figure class=got><p>no page</p></figure>"
    return (
        f"<article><div><h3>{escape(miss.query.text)}</h3>{kind}<small>{escape(miss.query.query_id)}</small>"
        f"<dl><dt>right page</dt><dd>at rank</dd>{ranks}</dl></div>{wanted}{got}</article>"
    )


def _figure(collection: Collection, role: str, key: str, others: str) -> str:
    page_id = read_key(key)
    try:
        source = base64.b64encode(_draw(collection, page_id)).decode()
        picture = f'<img alt="{escape(page_id)}" src="data:image/jpeg;base64,{source}">'
    except MocaError as error:  # a page that is not there is a miss of its own kind
        picture = f"<p>{escape(str(error))}</p>"
    document, _, number = page_id.rpartition("#")
    caption = f"<b>{role}</b> page {number}{others} <small>{escape(document)}</small>"
    return f"<figure class={role}><figcaption>{caption}</figcaption>{picture}</figure>"


def _draw(collection: Collection, page_id: str) -> bytes:
    """The page as a JPEG file. Raises MocaError where it is not in the collection or cannot be drawn."""
    from PIL import Image

    from .render import open_document

    page = collection.page(page_id)
    with closing(open_document(page.path)) as document:
        pixels = document.read_page(page.number, PICTURE).image
    assert pixels is not None
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def _foot(judgement: Judgement) -> str:
    return (
        "<footer><p>nDCG has a linear gain and a log2 discount, as in trec_eval; ties go by descending page id. Intervals: "
        "2,000 bootstrap samples of the questions, 95%. Random (the red tick): the exact mean over all orders.</p>"
        f"<p>Rankings and judgements, as TREC files: <code>{escape(str(judgement.kept))}</code></p></footer>"
    )
