"""Turns Debian's documentation packages into documents to learn from, split by family, and its fonts into small files.

The folder that is written holds `documents-train.jsonl.gz`, `-dev` and `-test`, `fonts/` with a folder for each split, and
`packages.tsv`: which package, in which version and by which hash, gave what.
"""

import csv
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, cast

from moca_rag.errors import ConfigError, DocumentError
from moca_rag.progress import Reporter, SilentReporter
from moca_rag.records import Failure

from .blocks import spread
from .corpus_settings import KINDS, SPLITS, CorpusReport, CorpusSettings, FontPackage, SplitCount, TextPackage
from .debian import Package, fetch_package, list_files, unpack_package
from .documents import Document, PageText, Split, write_documents
from .fontfiles import cut_fonts
from .reading import Readers, Reading, ReadKind
from .screening import Sieve, is_english

COLUMNS = ("package", "version", "sha256", "family", "split", "documents", "pages", "fonts")
MAX_CODE = 0.5  # of a page's words


class _Source(NamedTuple):
    """What becomes one document."""

    name: str
    reading: Reading


def write_corpus(
    out: Path, settings: CorpusSettings, packages: Path | None = None, reporter: Reporter | None = None
) -> CorpusReport:
    """Write the corpus as a new folder, which appears when it is whole.

    Packages are taken from the folder `packages`; what it lacks is downloaded into it, or into a scratch folder. The same
    packages give the same bytes. A document that cannot be read is reported and left out. Raises ConfigError where `out`
    is taken, where a package cannot be had, or where no page is left.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out} is there already: give a folder that is new or empty")
    if any(package.read == "man" for package in settings.packages) and not shutil.which("groff"):
        raise ConfigError("manual pages are set by groff, which is not here: apt-get install groff-base")
    fresh = Path(os.path.abspath(out))
    fresh = fresh.with_name(f".{fresh.name}.{os.getpid()}")
    fresh.mkdir(parents=True)
    try:
        with TemporaryDirectory() as scratch, Readers(settings.processes, settings.seconds) as readers:
            run = _Run(fresh, settings, Path(scratch), readers, reporter or SilentReporter())
            report = run.write((packages or Path(scratch)).resolve())  # dpkg-deb runs elsewhere
        report.folder = out
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return report


class _Run:
    """One run: the packages of each split in turn, so that what stands in two of them is kept in the first."""

    def __init__(
        self, folder: Path, settings: CorpusSettings, scratch: Path, readers: Readers, reporter: Reporter
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._scratch = scratch
        self._readers = readers
        self._reporter = reporter
        self._report = CorpusReport(folder, {split: SplitCount() for split in SPLITS})
        self._dropped: Counter[str] = Counter()
        self._sieve = Sieve(settings.near)
        self._seen_files: set[bytes] = set()
        self._rows: list[dict[str, str | int]] = []

    def write(self, folder: Path) -> CorpusReport:
        """Documents, fonts and the table of packages, which lie in `folder` or are downloaded into it."""
        settings = self._settings
        wanted: tuple[TextPackage | FontPackage, ...] = (*settings.packages, *settings.fonts)
        self._reporter.start("downloads", len(wanted))
        fetched = {package.name: self._fetch(package, folder) for package in wanted}
        self._reporter.start("packages", len(fetched))
        for split in SPLITS:
            count = self._report.splits[split]
            path = self._folder / f"documents-{split}.jsonl.gz"
            of_split = [package for package in settings.packages if settings.split_of(package) == split]
            write_documents(path, self._read_packages(of_split, split, fetched))
            count.size = path.stat().st_size
            for fonts in settings.fonts:
                if fonts.split == split:
                    count.fonts += self._write_fonts(fonts, fetched[fonts.name])
        with (self._folder / "packages.tsv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, COLUMNS, restval=0, dialect="excel-tab", lineterminator="\n")
            table.writeheader()
            table.writerows(self._rows)
        self._report.dropped = dict(self._dropped.most_common())
        if not any(count.pages for count in self._report.splits.values()):
            raise ConfigError(f"no page is left of {len(settings.packages)} packages: lower min_words, or name others")
        return self._report

    def _fetch(self, wanted: TextPackage | FontPackage, folder: Path) -> Package:
        package = fetch_package(wanted.name, folder)
        if wanted.version not in ("", package.version):
            self._report.other_versions[package.name] = package.version
            self._reporter.say(f"{package.name} is here in version {package.version}, not {wanted.version}")
        self._reporter.advance("downloads")
        return package

    def _read_packages(
        self, packages: Iterable[TextPackage], split: Split, fetched: dict[str, Package]
    ) -> Iterator[Document]:
        count = self._report.splits[split]
        for wanted in packages:
            package = fetched[wanted.name]
            family = wanted.family or wanted.name
            documents = pages = 0
            with self._unpacked(package) as folder:
                for name, kept in self._read_package(wanted, folder):
                    yield Document(name, package.name, package.version, family, split, kept)
                    documents += 1
                    pages += len(kept)
                    count.words += sum(page.num_words for page in kept)
            count.documents += documents
            count.pages += pages
            for table, key in ((count.kinds, wanted.read), (count.families, family)):
                table[key] = table.get(key, 0) + pages
            self._note(package, family, split, documents=documents, pages=pages)

    def _read_package(self, wanted: TextPackage, folder: Path) -> Iterator[tuple[str, tuple[PageText, ...]]]:
        """The documents of a package in an order of chance, up to its cap."""
        most = wanted.document_pages or self._settings.document_pages
        sources = self._list_sources(wanted, folder, most)
        left = wanted.pages or self._settings.package_pages
        for source, answer in zip(sources, self._readers.read(source.reading for source in sources), strict=True):
            if isinstance(answer, DocumentError):
                self._report.failed.append(Failure(source.name, 0, answer.code, str(answer)))
                self._reporter.failed()
                continue
            kept = tuple(self._screen(source.name, spread(answer, most)))[:left]
            if kept:
                left -= len(kept)
                yield source.name, kept
            if left <= 0:
                break

    def _screen(self, name: str, pages: Iterable[PageText]) -> Iterator[PageText]:
        """The pages worth learning from, under their document's name."""
        for page in pages:
            if reason := self._refuse(page):
                self._dropped[reason] += 1
            else:
                yield PageText(name, page.number, page.blocks)

    def _refuse(self, page: PageText) -> str:
        if page.num_words < self._settings.min_words:
            return "few words"
        num_code = sum(len(block.text.split()) for block in page.blocks if block.kind == "code")
        if num_code > MAX_CODE * page.num_words:
            return "mostly code"
        text = "\n".join(block.text for block in page.blocks)
        return self._sieve.refuse(text) if is_english(text) else "not English"

    def _list_sources(self, wanted: TextPackage, folder: Path, most: int) -> list[_Source]:
        """What becomes a document, in an order of chance; HTML by folder, as its files are chapters of one manual."""
        paths = [path for path in list_files(folder, KINDS[wanted.read]) if path.match(wanted.paths)]
        groups: dict[Path, list[Path]] = {}
        for path in paths:
            if wanted.read == "html":
                groups.setdefault(path.parent, []).append(path)
            elif self._is_new(path):
                groups[path] = [path]
        kind = cast(ReadKind, wanted.read)
        sources = [
            _Source(f"{wanted.name}/{path.relative_to(folder)}", Reading(kind, tuple(spread(files, most)), most))
            for path, files in groups.items()
        ]
        return sorted(sources, key=lambda source: _digest(source.name.encode()))

    def _is_new(self, path: Path) -> bool:
        digest = _digest(path.read_bytes())
        if digest in self._seen_files:
            self._dropped["same document"] += 1
            return False
        self._seen_files.add(digest)
        return True

    def _write_fonts(self, wanted: FontPackage, package: Package) -> int:
        with self._unpacked(package) as folder:
            fonts = cut_fonts(folder, wanted.files, self._folder / "fonts" / wanted.split)
        if not fonts:
            raise ConfigError(f"{package.name} has no text face of Latin letters: correct its `files`, or leave it out")
        families = ", ".join(sorted({font.family for font in fonts}))
        self._note(package, families, wanted.split, fonts=len(fonts))
        return len(fonts)

    @contextmanager
    def _unpacked(self, package: Package) -> Iterator[Path]:
        folder = self._scratch / "unpacked"
        folder.mkdir()
        try:
            unpack_package(package, folder)
            yield folder
        finally:
            shutil.rmtree(folder)

    def _note(self, package: Package, family: str, split: str, **counts: int) -> None:
        head = {"package": package.name, "version": package.version, "sha256": package.sha256}
        self._rows.append({**head, "family": family, "split": split, **counts})
        self._reporter.advance("packages")


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
