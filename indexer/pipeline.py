"""Turns paths into a searchable collection: discover, render, embed, commit. Interrupted anywhere, it goes on there."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from moca_rag.bundled import LARGE, TINY, has_tiny
from moca_rag.collection import Collection, is_collection, restore_collection
from moca_rag.errors import ConfigError
from moca_rag.fingerprint import Fingerprint, check_fingerprint, read_fingerprint
from moca_rag.progress import Reporter, SilentReporter
from moca_rag.records import CollectionMode, Encoder, Failure
from moca_rag.render import RENDERER, renderer_version

from .discover import find_scopes, make_plan
from .intake import Intake
from .pool import Limits, RenderPool, Request
from .report import IndexReport, IndexSettings, Stopwatch
from .stream import embed_answers, make_batches, put_in_order

BY = {"text": "their words", "vision": "their look", "hybrid": "their words and their look"}


def index_documents(
    paths: Iterable[str | Path],
    collection: str | Path,
    encoder: Encoder | None = None,
    *,
    mode: CollectionMode | None = None,
    tags: Mapping[str, str] | None = None,
    passwords: Sequence[str] = (),
    prune: bool = False,
    retry_failed: bool = False,
    settings: IndexSettings | None = None,
    reporter: Reporter | None = None,
) -> IndexReport:
    """Add every page of the documents under `paths` to a collection, made where there is none; no path: all known roots.

    Unchanged files cost a stat, changed ones are replaced, missing ones leave (see `make_plan`). A document that cannot
    be read is recorded with its reason and skipped: one broken file never ends a night's work. Without an encoder a new
    collection is a text collection (a default model is the command's choice, not the library's),
    and an existing one keeps its own model. Raises FingerprintError where the collection was made with other settings,
    LockedError while another process writes it.
    """
    folder, named = Path(collection), [Path(path) for path in paths]
    restore_collection(folder)
    new = not is_collection(folder)
    if new:
        find_scopes(named, None)  # a mistyped path must not leave an empty collection behind
    settings, reporter, watch = settings or IndexSettings(), reporter or SilentReporter(), Stopwatch()
    wanted = plan_fingerprint(encoder, mode, settings.passages, None if new else read_fingerprint(folder))
    with Collection.writing(folder, wanted) as (opened, writer):
        if new and (said := describe_new(opened.fingerprint)):
            reporter.say(said)
        check_fingerprint(opened.fingerprint, wanted, folder)
        if wanted.model is not None:
            opened.weigh(wanted.model.weights)
        reporter.start("looking", None)
        scopes = find_scopes(named, opened.catalog)
        plan = make_plan(scopes, opened.catalog, prune=prune, retry=choose_retries(retry_failed, passwords))
        watch.lap("discover")
        intake = Intake(writer, plan, tags or {}, settings, reporter, watch)
        try:
            _run(opened, intake, encoder, passwords, settings, reporter, watch)
        except BaseException:
            with suppress(Exception):  # what stopped the run is told, not what it led to
                intake.flush()
            raise
        intake.finish()
        if opened.fingerprint.model is not None:
            reporter.start("ranking", None)
            opened.store().refresh()
            watch.lap("index")
        return intake.report(opened.fingerprint.mode)


def describe_new(made: Fingerprint) -> str:
    """The line to say of a collection when it is made; empty where the model is one that was asked for by its place."""
    kind = f"This is a {made.mode} collection: pages are found by {BY[made.mode]}"
    if made.model is None:
        here, more = (TINY, f"; {LARGE} is the large model") if has_tiny() else (LARGE, "")
        return f"{kind}. `moca index --rebuild --model {here}` adds search by look and by meaning{more}."
    others = f"--model {LARGE} is the large model, --mode text is by words alone and many times as fast"
    return f"{kind}, read by {TINY}. With --rebuild, {others}." if made.model.name == TINY else ""


def preview_documents(
    paths: Iterable[str | Path],
    collection: str | Path,
    *,
    prune: bool = False,
    retry_failed: bool = False,
    passwords: Sequence[str] = (),
    rebuild: bool = False,
) -> IndexReport:
    """What `index_documents` would do now, by document; nothing is written and no document is opened."""
    folder, watch = Path(collection), Stopwatch()
    named = [Path(path) for path in paths]
    with Collection.open(folder) if is_collection(folder) and not rebuild else nullcontext() as opened:
        catalog = None if opened is None else opened.catalog
        retry = choose_retries(retry_failed, passwords)
        plan = make_plan(find_scopes(named, catalog), catalog, prune=prune, retry=retry)
        counts = {"documents": 0, "pages": 0} if catalog is None else catalog.count()
        known = set() if catalog is None else {row.sha256 for row in catalog.files() if row.complete}
    watch.lap("discover")
    new = {file.sha256 for file in plan.candidates} - known
    changed = {file.sha256 for file in plan.candidates if file.known is not None and file.known.complete} & new
    unchanged = {row.document_id for row in plan.unchanged}
    return IndexReport(
        documents=counts["documents"],
        pages=counts["pages"],
        added=len(new - changed),
        changed=len(changed),
        unchanged=len(unchanged),
        removed=len({row.document_id for row in plan.gone} - unchanged),
        failed=[failure for _, failure in plan.remembered] + [failure for _, failure, _ in plan.unreadable],
        kept=plan.kept,
        seconds=watch.total(),
        dry_run=True,
    )


def _run(
    opened: Collection,
    intake: Intake,
    encoder: Encoder | None,
    passwords: Sequence[str],
    settings: IndexSettings,
    reporter: Reporter,
    watch: Stopwatch,
) -> None:
    """Open what must be read, then read, embed and commit it."""
    works = intake.begin()
    if not works:
        return
    limits = Limits(settings.page_timeout_s, settings.page_memory_mb)
    with RenderPool(min(settings.num_workers, len(works) * 4), limits, passwords) as pool:
        reporter.start("documents", len(works))
        first_looks = pool.read(Request(index, work.files[0].path, 0) for index, work in enumerate(works))
        for answers in make_batches(put_in_order(first_looks), settings.commit_pages):
            intake.open([(works[answer.request.key], answer) for answer in answers])
        watch.lap("open")
        num_pages = sum(len(work.missing) for work in works)
        reporter.start("pages", num_pages)
        if not num_pages:
            return
        encoder = None if opened.fingerprint.model is None else encoder or opened.encoder
        pixels = None if encoder is None else encoder.card.pixels
        watch.lap("model")
        pages = watch.timed(pool.read(intake.requests(works, pixels)), "render", "embed" if encoder else "commit")
        embedded = embed_answers(pages, encoder, opened.catalog.has_vectors, opened.fingerprint.passages)
        for answer in watch.timed(embedded, "embed", "commit"):
            intake.take(answer)


def choose_retries(retry_failed: bool, passwords: Sequence[str]) -> Callable[[Failure], bool]:
    """Which remembered failures are worth another try: all if asked for, locked documents if there is a password."""
    return lambda failure: retry_failed or (bool(passwords) and failure.code.startswith("password"))


def plan_fingerprint(
    encoder: Encoder | None,
    mode: CollectionMode | None,
    passages: bool | None = None,
    existing: Fingerprint | None = None,
) -> Fingerprint:
    """What a collection would be made with now; what is not named stays as it is.

    A new one is hybrid with a model and text without, and a hybrid one has passages. Raises ConfigError on a mode that
    needs a model where none is known, and on passages in another mode than hybrid.
    """
    before = existing.mode if existing is not None and (encoder is None or existing.model is not None) else None
    chosen: CollectionMode = mode or before or ("text" if encoder is None else "hybrid")
    known = None if existing is None else existing.model
    model = None if chosen == "text" else known if encoder is None else encoder.card
    if chosen != "text" and model is None:
        raise ConfigError(f"--mode {chosen} needs a model: name one with --model FOLDER_OR_HUB_ID")
    if passages and chosen != "hybrid":
        lacks, advice = ("a model", "--model FOLDER_OR_HUB_ID") if chosen == "text" else ("its text", "--mode hybrid")
        raise ConfigError(f"passages=true: a {chosen} collection lacks {lacks}; make one that has it with {advice}")
    if passages is None:
        passages = existing.passages if existing is not None and existing.mode == chosen else chosen == "hybrid"
    return Fingerprint(chosen, RENDERER, renderer_version(), model=model, passages=passages)
