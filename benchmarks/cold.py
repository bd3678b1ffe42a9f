"""Measures what a person waits for at the prompt: whole `moca` processes, on a collection of invented pages.

python benchmarks/cold.py [--pages 10000] [--collection DIR]

The pages are written as the indexer writes them, without PDFs. Every process is new; files that the warm-up has read
may be in the system's cache. One round runs every command once, so that a busy moment falls on all of them.
"""

import argparse
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from moca_rag.indexer.pipeline import plan_fingerprint
from numpy.typing import NDArray

from moca_rag import Collection
from moca_rag.collection import is_collection
from moca_rag.records import Box, DocumentInfo, PageContent, Word
from moca_rag.terms import STOP_WORDS
from moca_rag.writer import CollectionWriter, PageEntry

SEED = 20260101
NUM_WORDS = 20_000
WORDS_A_PAGE = 400  # what a page of a report holds
WORDS_A_LINE = 10
PAGES_A_DOCUMENT = 50
PAGE_SIZE = (612.0, 792.0)
PAGES_A_COMMIT = 64  # as IndexSettings.commit_pages
THREE_RANKS = (30, 300, 3_000)  # one common, one middling, one rare word
TWELVE_RANKS = (5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, 10_240)
NUM_RUNS = 7
HELP_BAR_S, SEARCH_BAR_S = 0.3, 0.5


@dataclass(frozen=True, slots=True)
class Case:
    """One process to time, and the seconds it may take; None where nothing was promised."""

    label: str
    command: list[str]
    bar: float | None = None


def invent_words() -> list[str]:
    """Words of two to four syllables that no one uses, all different; the same on every run."""
    generator = np.random.default_rng(SEED)
    syllables = [head + vowel + tail for head in "bdfgklmnprstvz" for vowel in "aeiou" for tail in ("", "n", "r", "x")]
    words: dict[str, None] = {}
    while len(words) < NUM_WORDS:
        word = "".join(generator.choice(syllables, size=generator.integers(2, 5)))
        if word not in STOP_WORDS:
            words[word] = None
    return list(words)


def invent_page(
    number: int, vocabulary: NDArray[np.str_], shares: NDArray[np.float64], generator: np.random.Generator
) -> PageContent:
    """A page of words drawn by Zipf's law (the r-th word is r times rarer than the first), set line by line."""
    drawn = np.searchsorted(shares, generator.random(WORDS_A_PAGE))
    height = 1 / (WORDS_A_PAGE // WORDS_A_LINE)
    width = 1 / WORDS_A_LINE
    words = []
    for index, text in enumerate(vocabulary[drawn].tolist()):
        line, column = divmod(index, WORDS_A_LINE)
        words.append(Word(text, Box(column * width, line * height, (column + 0.9) * width, (line + 0.9) * height)))
    return PageContent(number, *PAGE_SIZE, tuple(words), None)


def write_collection(folder: Path, num_pages: int) -> None:
    """Make a text collection of `num_pages` invented pages, `PAGES_A_DOCUMENT` to a document."""
    generator, vocabulary = np.random.default_rng(SEED), np.array(invent_words())
    shares = np.cumsum(1 / np.arange(1, NUM_WORDS + 1))
    shares /= shares[-1]
    entries: list[tuple[int, str, int]] = []
    with Collection.writing(folder, plan_fingerprint(None, "text")) as (_, writer):
        with writer.transaction():
            root = writer.add_root(folder.resolve() / "invented")
            for first in range(0, num_pages, PAGES_A_DOCUMENT):
                size = min(PAGES_A_DOCUMENT, num_pages - first)
                name = f"document-{first // PAGES_A_DOCUMENT + 1:04}.pdf"
                document = add_document(writer, root, name, size)
                entries.extend((document, name, number) for number in range(1, size + 1))
        for start in range(0, len(entries), PAGES_A_COMMIT):
            batch = entries[start : start + PAGES_A_COMMIT]
            pages = [PageEntry(doc, name, invent_page(n, vocabulary, shares, generator)) for doc, name, n in batch]
            with writer.transaction():
                writer.add_pages(pages)


def add_document(writer: CollectionWriter, root: int, name: str, num_pages: int) -> int:
    """The id of a new, complete document that one file shows."""
    info = DocumentInfo("pdf", num_pages, name.removesuffix(".pdf"), {}, ())
    document = writer.add_document(f"invented {name}", info)
    writer.link_file(root, name, (0, 0), document)
    writer.complete_document(document)
    return document


def cases() -> list[Case]:
    """The processes to time; the two yardsticks first."""
    words = invent_words()
    three, twelve = (" ".join(words[rank] for rank in ranks) for ranks in (THREE_RANKS, TWELVE_RANKS))
    moca = str(Path(sysconfig.get_path("scripts")) / "moca")
    return [
        Case('python -c ""', [sys.executable, "-c", ""]),
        Case('python -c "import torch"', [sys.executable, "-c", "import torch"]),
        Case("moca --help", [moca, "--help"], HELP_BAR_S),
        Case("moca --version", [moca, "--version"]),
        Case("moca search, 3 words", [moca, "search", three], SEARCH_BAR_S),
        Case("moca search, 12 words", [moca, "search", twelve], SEARCH_BAR_S),
        Case("moca ls", [moca, "ls"]),
    ]


def time_once(case: Case, collection: Path) -> float:
    """Seconds from the start of the process to its end. Raises CalledProcessError where it fails."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MOCA_")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    environment["MOCA_COLLECTION"] = str(collection.resolve())
    begun = time.perf_counter()
    subprocess.run(case.command, env=environment, capture_output=True, check=True, cwd=collection)
    return time.perf_counter() - begun


def measure(collection: Path) -> list[tuple[Case, list[float]]]:
    """Each case's seconds over `NUM_RUNS` rounds, after one round that does not count."""
    chosen = cases()
    taken: list[list[float]] = [[] for _ in chosen]
    for number in range(NUM_RUNS + 1):
        for case, seconds in zip(chosen, taken, strict=True):
            spent = time_once(case, collection)
            if number:
                seconds.append(spent)
    return list(zip(chosen, taken, strict=True))


def table(rows: list[tuple[Case, list[float]]]) -> str:
    """Median, minimum and maximum a line; the ratio is to the first line's median."""
    base = statistics.median(rows[0][1])
    lines = [f"{'process':<26}{'median s':>9}{'min':>7}{'max':>7}{'ratio':>8}{'bar s':>7}"]
    for case, seconds in rows:
        median = statistics.median(seconds)
        bar = "" if case.bar is None else f"{case.bar:>7.1f}  {'under' if median <= case.bar else 'OVER'}"
        numbers = f"{median:>9.3f}{min(seconds):>7.3f}{max(seconds):>7.3f}{median / base:>7.1f}x"
        lines.append(f"{case.label:<26}{numbers}{bar}")
    return "\n".join(lines)


def run(folder: Path, num_pages: int) -> None:
    """Write the collection if it is not there yet, measure, and print."""
    begun = time.perf_counter()
    if not is_collection(folder):
        write_collection(folder, num_pages)
    spent = time.perf_counter() - begun
    with Collection.open(folder) as collection:
        counts = collection.catalog.count()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{counts['documents']:,} documents, {counts['pages']:,} pages, {size / 1e6:.0f} MB, ready in {spent:.1f} s")
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "?"
    print(f"{NUM_RUNS} runs after one, {os.cpu_count()} cores, load {load}\n\n{table(measure(folder))}")


def main() -> None:
    """Read the command line; without --collection, the collection is made for this run only."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=10_000, metavar="N", help="pages to invent (default: 10000)")
    parser.add_argument("--collection", type=Path, metavar="DIR", help="keep the collection here, or use the one there")
    options = parser.parse_args()
    if options.pages < 1:
        parser.error("--pages: invent at least one")
    if options.collection is not None:
        run(options.collection, options.pages)
        return
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder) / "collection", options.pages)


if __name__ == "__main__":
    main()
