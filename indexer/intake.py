"""Follows each document from its first look to its last page, and commits what is done in small steps."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from moca_rag.errors import DocumentError
from moca_rag.progress import Reporter
from moca_rag.records import DocumentInfo, Failure, PixelBudget
from moca_rag.writer import CollectionWriter, PageEntry

from .discover import NO_TIME, Candidate, Plan
from .pool import Answer, Request
from .report import IndexReport, IndexSettings, Stopwatch
from .stream import Embedded

MAX_LOST_PAGES = 3  # a document that killed its reader so often is given up: each time may cost the whole time limit
LOST_CODES = ("page_timeout", "page_crashed", "page_memory")


@dataclass(slots=True)
class Work:
    """One document under way; equal files are one document with several `files`."""

    files: list[Candidate]
    document_id: int = 0
    missing: list[int] = field(default_factory=list)
    num_pages: int = 0
    left: int = 0
    failures: list[Failure] = field(default_factory=list)
    lost: int = 0

    @property
    def name(self) -> str:
        """The path that its words are searched by."""
        first = self.files[0]
        return first.path.name if first.relative == "." else first.relative


class Pace:
    """Tells once, as soon as it is known, how long the pages that are left will take."""

    SURE_AFTER_S = 5.0
    LONG_S = 60.0

    def __init__(self, num_pages: int) -> None:
        self._left = num_pages
        self._done = 0
        self._first: float | None = None
        self._told = False

    def step(self) -> str | None:
        """Count a page; the line to tell, if this is the moment. The first page, which waits for the model, is left out."""
        now = time.monotonic()
        self._left -= 1
        if self._first is None:
            self._first = now
            return None
        self._done += 1
        elapsed = now - self._first
        if self._told or elapsed < self.SURE_AFTER_S:
            return None
        self._told = True
        seconds = self._left * elapsed / self._done
        if seconds < self.LONG_S:
            return None
        return f"{self._left:,} pages to go at {self._done / elapsed:.1f} pages/s: about {seconds / 60:.0f} minutes"


class Intake:
    """Takes answers of the render pool, and leaves a collection that is right after every commit."""

    def __init__(
        self,
        writer: CollectionWriter,
        plan: Plan,
        tags: Mapping[str, str],
        settings: IndexSettings,
        reporter: Reporter,
        watch: Stopwatch,
    ) -> None:
        self._writer = writer
        self._catalog = writer.catalog
        self._plan = plan
        self._tags = tags
        self._settings = settings
        self._reporter = reporter
        self._watch = watch
        self._works: dict[int, Work] = {}
        self._entries: list[PageEntry] = []
        self._done: list[Work] = []
        self._flushed = time.monotonic()
        self._before = self._shown()
        self._failed: dict[tuple[str, int], Failure] = {}
        self._changed: set[int] = set()
        self._roots: dict[object, int] = {}
        self._new_pages = 0
        self._pace = Pace(0)

    # -- before the first page ----------------------------------------------------------------------------------------

    def begin(self) -> list[Work]:
        """Write down what needs no reading, and return the documents that must be opened."""
        plan, writer = self._plan, self._writer
        groups: dict[str, Work] = {}
        for file in plan.candidates:
            groups.setdefault(file.sha256, Work([])).files.append(file)
        opened: list[Work] = []
        failed = {failure.path for _, failure, _ in self._catalog.failures()}
        with writer.transaction():
            roots = [*(file.root for file in plan.candidates), *(root for root, _, _ in plan.unreadable)]
            self._roots = {root: writer.add_root(root) for root in dict.fromkeys(roots)}
            for row, stat in plan.touched:
                writer.link_file(row.root_id, row.path, stat, row.document_id)
            for row in plan.unchanged:
                writer.tag_file(row.file_id, self._tags)
            for root, relative in plan.forgotten:
                writer.clear_failures(self._root(root), relative)
            for root, failure, stat in plan.unreadable:
                writer.add_failure(self._root(root), failure, stat)
            for sha256, work in groups.items():
                known = self._catalog.find_document(sha256)
                if known is not None and known[1] and not any(file.relative in failed for file in work.files):
                    work.document_id = known[0]
                    self._link(work)
                else:
                    opened.append(work)
        self._note([failure for _, failure in plan.remembered])
        self._note([failure for _, failure, _ in plan.unreadable])
        self._reporter.failed(len(self._failed))
        return opened

    def _note(self, failures: Sequence[Failure]) -> None:
        """Keep failures for the report, each once: a commit that was stopped is tried again."""
        self._failed |= {(failure.path, failure.page): failure for failure in failures}

    def open(self, looks: Sequence[tuple[Work, Answer]]) -> None:
        """Take documents' descriptions, or the reasons why they have none."""
        with self._writer.transaction():
            for work, answer in looks:
                if answer.info is None:
                    assert answer.error is not None
                    self._refuse(work, answer.error)
                else:
                    self._open_one(work, answer.info)

    def _open_one(self, work: Work, info: DocumentInfo) -> None:
        work.document_id = self._writer.add_document(work.files[0].sha256, info)
        for file in work.files:
            if file.known is None:  # a changed file shows its old pages until the new ones are complete
                self._link_one(work, file)
            self._writer.clear_failures(self._root(file.root), file.relative)
        committed = self._catalog.page_numbers(work.document_id)
        work.num_pages = info.num_pages
        work.missing = [number for number in range(1, info.num_pages + 1) if number not in committed]
        work.left = len(work.missing)
        self._works[work.document_id] = work
        if not work.missing:
            self._finish_work(work)

    # -- page by page -------------------------------------------------------------------------------------------------

    def requests(self, works: Sequence[Work], pixels: PixelBudget | None) -> Iterator[Request]:
        """The pages to read, document by document. A document that keeps killing its reader is given up."""
        self._pace = Pace(sum(len(work.missing) for work in works))
        for work in works:
            for number in work.missing:
                yield Request(work.document_id, work.files[0].path, number, pixels, skip=work.lost >= MAX_LOST_PAGES)

    def take(self, page: Embedded) -> None:
        """Take one page, or the reason why it cannot be read; commits when enough has come together."""
        answer = page.answer
        work = self._works[answer.request.key]
        if answer.content is not None:
            entry = PageEntry(
                work.document_id, work.name, answer.content, answer.image_key, page.passage_keys, page.vectors
            )
            self._entries.append(entry)
            self._new_pages += 1
        else:
            assert answer.error is not None
            work.lost += answer.error.code in LOST_CODES
            place = work.files[0].relative, answer.request.page
            work.failures.append(Failure(*place, answer.error.code, str(answer.error)))
            self._reporter.failed()
        self._reporter.advance("pages")
        if (message := self._pace.step()) is not None:
            self._reporter.say(message)
        work.left -= 1
        if work.left == 0:
            self._finish_work(work)
        late = time.monotonic() - self._flushed > self._settings.commit_seconds
        if len(self._entries) >= self._settings.commit_pages or (late and (self._entries or self._done)):
            self.flush()

    def _finish_work(self, work: Work) -> None:
        self._done.append(work)
        self._reporter.advance("documents")

    def flush(self) -> None:
        """Commit the pages and documents that are done."""
        if not self._entries and not self._done:
            return
        with self._writer.transaction():
            self._writer.add_pages(self._entries)
            for work in self._done:
                self._settle(work)
        for work in self._done:
            del self._works[work.document_id]
        self._entries, self._done = [], []
        self._flushed = time.monotonic()
        self._watch.lap("commit")

    def _settle(self, work: Work) -> None:
        """Close a document in the transaction under way: complete, or refused where no page could be read."""
        first = work.files[0]
        if _has_changed(first):
            self._refuse(work, DocumentError("changed while it was read: run the same command again", "changed"))
        elif work.failures and len(work.failures) == work.num_pages:
            self._refuse(work, DocumentError(work.failures[0].reason, work.failures[0].code))
        else:
            self._writer.complete_document(work.document_id)
            self._link(work)
            for failure in work.failures:
                for file in work.files:
                    self._writer.add_failure(self._root(file.root), replace(failure, path=file.relative), file.stat)
            self._note(work.failures)

    def _refuse(self, work: Work, error: DocumentError) -> None:
        """Record a document that cannot be read; what its path showed before is let go, for it is no longer there."""
        for file in work.files:
            failure = Failure(file.relative, 0, error.code, str(error))
            self._note([failure])
            stat = file.stat if error.code != "changed" else (0, NO_TIME)
            self._writer.drop_path(self._root(file.root), file.relative)
            self._writer.clear_failures(self._root(file.root), file.relative)
            self._writer.add_failure(self._root(file.root), failure, stat)
        if not work.failures:
            self._reporter.failed()
            self._reporter.advance("documents")

    def _link(self, work: Work) -> None:
        for file in work.files:
            self._link_one(work, file)

    def _link_one(self, work: Work, file: Candidate) -> None:
        if file.known is not None and file.known.document_id != work.document_id:
            self._changed.add(work.document_id)
        file_id = self._writer.link_file(self._root(file.root), file.relative, file.stat, work.document_id)
        self._writer.tag_file(file_id, self._tags)

    def _root(self, path: object) -> int:
        if path not in self._roots:
            self._roots.update({root: root_id for root_id, root in self._catalog.roots().items()})
        return self._roots[path]

    # -- after the last page ------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Commit the rest, let go of files that are gone, and of documents that nothing shows any more."""
        self.flush()
        with self._writer.transaction():
            self._writer.drop_files(self._plan.gone)
            self._writer.sweep()
        self._watch.lap("commit")

    def report(self, mode: str) -> IndexReport:
        """What the run did, by document."""
        counts, after = self._catalog.count(), self._shown()
        changed = self._changed & after - self._before
        scoped = {row.document_id for row in self._plan.unchanged}
        scoped |= {work_id for work_id in self._linked() if work_id in self._before}
        return IndexReport(
            documents=counts["documents"],
            pages=counts["pages"],
            pages_without_text=counts["pages"] - counts["pages_with_text"],
            added=len(after - self._before - changed),
            changed=len(changed),
            unchanged=len(scoped & after & self._before),
            removed=max(len(self._before - after) - len(changed), 0),
            failed=[failure for _, failure in sorted(self._failed.items())],
            kept=self._plan.kept,
            new_pages=self._new_pages,
            mode=mode,
            seconds=self._watch.total(),
        )

    def _linked(self) -> set[int]:
        paths = {(self._root(file.root), file.relative) for file in self._plan.candidates}
        return {row.document_id for row in self._catalog.files() if (row.root_id, row.path) in paths}

    def _shown(self) -> set[int]:
        return {row.document_id for row in self._catalog.files() if row.complete}


def _has_changed(file: Candidate) -> bool:
    try:
        stat = file.path.stat()
    except OSError:
        return True
    return stat.st_size != file.stat[0] or file.stat[1] not in (NO_TIME, stat.st_mtime_ns)
