"""Asks questions of a folder of PDFs and prints where the right pages rank, in text mode.

python benchmarks/questions.py FOLDER_OF_PDFS QUESTIONS.jsonl [--collection DIR]

A line of QUESTIONS is one object: `_id`, `text`, `kind`, `answer`, and `pages`, all that answer, as "report.pdf#12".
"""

import argparse
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from moca_rag import Collection, index_documents

DEPTH = 100  # hits asked for: a right page below them counts as not found
TEXT_WIDTH = 72


@dataclass(frozen=True, slots=True)
class Question:
    """One question and the pages that answer it."""

    key: str
    text: str
    kind: str
    pages: frozenset[str]


@dataclass(frozen=True, slots=True)
class Result:
    """What was found for a question: page ids, best first."""

    question: Question
    found: list[str]

    @property
    def rank(self) -> int | None:
        """The rank of the first right page, from 1; None where none was found."""
        return next((rank for rank, page in enumerate(self.found, 1) if page in self.question.pages), None)

    def ndcg(self, top_k: int) -> float:
        """Normalised DCG with one grade of relevance: gain 1, discount log2(rank + 1), as trec_eval's ndcg_cut."""
        gain = sum(1 / math.log2(rank + 1) for rank, page in _first(self.found, top_k) if page in self.question.pages)
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(top_k, len(self.question.pages)) + 1))
        return gain / ideal


def _first(found: list[str], top_k: int) -> list[tuple[int, str]]:
    return list(enumerate(found[:top_k], 1))


def read_questions(path: Path) -> list[Question]:
    """The questions of a JSON-lines file, in order. Raises ValueError on a question that no page answers."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for row in rows:
        if not row["pages"]:
            raise ValueError(f"{path}: question {row['_id']} names no page")
    return [Question(row["_id"], row["text"], row["kind"], frozenset(row["pages"])) for row in rows]


def ask(collection: Collection, questions: list[Question]) -> list[Result]:
    """Search each question, as it stands."""
    results = []
    for question in questions:
        hits = collection.search(question.text, top_k=DEPTH, mode="text")
        results.append(Result(question, [f"{hit.document}#{hit.page}" for hit in hits]))
    return results


def check_pages(collection: Collection, questions: list[Question]) -> None:
    """Raise ConfigError where a right page is not in the collection: its question could not be answered at all."""
    for question in questions:
        for page in question.pages:
            collection.page(page)


def table(results: list[Result]) -> str:
    """One line a question, misses included, and one line for all."""
    first_width = max(len("found first"), *(len(page) for result in results for page in result.found[:1]))
    lines = [f"{'id':<5}{'kind':<9}{'rank':>4}  {'found first':<{first_width}}  question"]
    for result in results:
        question, text = result.question, result.question.text
        shown = text if len(text) <= TEXT_WIDTH else text[: TEXT_WIDTH - 1] + "…"
        first = result.found[0] if result.found else "-"
        lines.append(f"{question.key:<5}{question.kind:<9}{result.rank or '-':>4}  {first:<{first_width}}  {shown}")
    lines.append(f"\n{summary(results)}")
    kinds = sorted({result.question.kind for result in results})
    return "\n".join(
        [*lines, *(f"  {kind}: {summary([r for r in results if r.question.kind == kind])}" for kind in kinds)]
    )


def summary(results: list[Result]) -> str:
    """The measures over these questions; hit@k is the share with a right page among the first k."""
    num = len(results)
    hits = {top_k: sum(1 for result in results if (result.rank or DEPTH + 1) <= top_k) for top_k in (1, 3)}
    ndcg = sum(result.ndcg(5) for result in results) / num
    return f"hit@1 {hits[1]}/{num}, hit@3 {hits[3]}/{num}, nDCG@5 {ndcg:.3f} (mode text)"


def measure(documents: Path, questions: list[Question], folder: Path) -> None:
    """Index what is not indexed yet, ask, and print."""
    report = index_documents([documents], folder, mode="text")
    speed = f", {report.new_pages / report.seconds['total']:.1f} pages/s" if report.new_pages else ""
    failed = f", {len(report.failed)} failed" if report.failed else ""
    print(f"{report.documents} documents, {report.pages} pages, {report.seconds['total']:.1f} s{speed}{failed}\n")
    with Collection.open(folder) as collection:
        check_pages(collection, questions)
        print(table(ask(collection, questions)))


def main() -> None:
    """Read the command line; without --collection, the collection is made for this run only."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", type=Path, metavar="FOLDER_OF_PDFS")
    parser.add_argument("questions", type=Path, metavar="QUESTIONS.jsonl")
    parser.add_argument("--collection", type=Path, metavar="DIR", help="keep the collection here")
    options = parser.parse_args()
    questions = read_questions(options.questions)
    if options.collection is not None:
        measure(options.documents, questions, options.collection)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(options.documents, questions, Path(folder) / "collection")


if __name__ == "__main__":
    main()
