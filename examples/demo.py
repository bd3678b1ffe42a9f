"""The demo: builds the corpus, indexes it, asks five questions aloud and all sixty in silence.

python -m examples.demo DIR
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

from moca_rag import Collection
from moca_rag.metrics import chance_at, hit_at

EXAMPLES = Path(__file__).parent
FLOORS = {"text": 0.40}  # what was measured in each mode, less 0.05
SHOWN_HITS = 3


def main(folder: Path) -> int:
    """Run the demo in a folder, which is made anew but for its collection. The exit code."""
    pdfs, collection, hits = folder / "pdfs", folder / "collection", folder / "hits"
    for old in (pdfs, hits):
        shutil.rmtree(old, ignore_errors=True)
    run([sys.executable, "-m", "examples.corpus", str(pdfs)], f"python -m examples.corpus {pdfs}")
    for name in ("queries.jsonl", "qrels.tsv"):  # so that `moca eval folder` can judge it
        shutil.copyfile(EXAMPLES / name, folder / name)
    run_moca("index", str(pdfs), "--collection", str(collection))
    questions = [json.loads(line) for line in (EXAMPLES / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    for question in questions:
        if question.get("demo"):
            place = ["--collection", str(collection), "-k", str(SHOWN_HITS), "--save", str(hits / question["_id"])]
            run_moca("search", question["text"], *place)
    return judge(questions, collection)


def run_moca(*arguments: str) -> None:
    """Run the installed `moca` and show the line that a person would have typed."""
    moca = Path(sys.executable).with_name("moca")
    typed = " ".join(f'"{word}"' if " " in word else word for word in arguments)
    run([str(moca), *arguments], f"moca {typed}")


def run(command: list[str], typed: str) -> None:
    """Run a command under its typed line; the demo ends where it fails."""
    sys.stdout.write(f"\n$ {typed}\n")
    sys.stdout.flush()
    subprocess.run(command, check=True)


def read_qrels() -> dict[str, set[str]]:
    """The pages that answer, by question."""
    qrels: dict[str, set[str]] = {}
    for line in (EXAMPLES / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        question, page, score = line.split("\t")
        if int(score) > 0:
            qrels.setdefault(question, set()).add(page)
    return qrels


def judge(questions: list[dict[str, str]], path: Path) -> int:
    """Ask every question and print hit@1 by kind, beside what a random order would reach; 1 below the floor."""
    qrels = read_qrels()
    rows: list[tuple[str, float, float, float]] = []
    with Collection.open(path) as collection:
        mode, num_pages = collection.fingerprint.mode, collection.catalog.count()["pages"]
        for question in questions:
            relevant = qrels[question["_id"]]
            ranked = [f"{hit.document}#{hit.page}" for hit in collection.search(question["text"])]
            scores = (hit_at(ranked, relevant, 1), hit_at(ranked, relevant, 3), chance_at(num_pages, len(relevant), 1))
            rows.append((question["kind"], *scores))
    sys.stdout.write(f"\n{'kind':<12}{'questions':>9}{'hit@1':>8}{'hit@3':>8}{'random@1':>10}\n")
    for kind in dict.fromkeys(row[0] for row in rows):
        write_row(kind, [row for row in rows if row[0] == kind])
    write_row("all", rows)
    reached = mean(row[1] for row in rows)
    sys.stdout.write(f"\ndemo: hit@1 {reached:.2f} over {len(rows)} questions (mode {mode})\n")
    if reached < FLOORS[mode]:
        sys.stderr.write(f"demo: below {FLOORS[mode]:.2f}, which it reached before: something has become worse\n")
        return 1
    return 0


def write_row(kind: str, rows: Iterable[tuple[str, float, float, float]]) -> None:
    """One line of the table."""
    columns = list(zip(*rows, strict=True))
    sys.stdout.write(
        f"{kind:<12}{len(columns[0]):>9}{mean(columns[1]):>8.2f}{mean(columns[2]):>8.2f}{mean(columns[3]):>10.2f}\n"
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
