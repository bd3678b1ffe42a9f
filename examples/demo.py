"""The demo: builds the corpus, indexes it, asks five questions aloud, and all sixty in silence in every mode.

python -m examples.demo DIR
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from moca_rag import Collection
from moca_rag.metrics import chance_at, hit_at
from moca_rag.records import Mode

EXAMPLES = Path(__file__).parent
MODES: dict[Mode, tuple[Mode, ...]] = {"text": ("text",), "vision": ("vision",), "hybrid": ("text", "vision", "hybrid")}
FLOORS = {"text": 0.40, "hybrid": 0.40}  # of hit@1: what was measured in each mode, less 0.05
SHOWN_HITS = 3


def main(folder: Path) -> int:
    """Run the demo in a folder, which is made anew but for its collection. The exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as moca itself does: this process embeds the questions
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
    return judge(questions, read_qrels(EXAMPLES / "qrels.tsv"), collection)


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


def read_qrels(path: Path) -> dict[str, set[str]]:
    """The pages that answer, by question."""
    qrels: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        question, page, score = line.split("\t")
        if int(score) > 0:
            qrels.setdefault(question, set()).add(page)
    return qrels


@dataclass(frozen=True)
class Answered:
    """One question: whether its first page, and one of its first three, is right, by mode; and a random order's chance."""

    kind: str
    first: dict[Mode, float]
    first_three: dict[Mode, float]
    chance: float


def judge(questions: Sequence[dict[str, str]], qrels: Mapping[str, set[str]], path: Path) -> int:
    """Ask every question in every mode that the collection has, and print the modes side by side; 1 below a floor."""
    with Collection.open(path) as collection:
        modes, num_pages = MODES[collection.fingerprint.mode], collection.catalog.count()["pages"]
        rows = [ask(collection, question, qrels[question["_id"]], modes, num_pages) for question in questions]
    sys.stdout.write(f"\n{'hit@1':<12}{'questions':>9}{''.join(f'{mode:>8}' for mode in modes)}{'random':>8}\n")
    for kind in dict.fromkeys(row.kind for row in rows):
        write_row(kind, [row for row in rows if row.kind == kind], modes)
    write_row("all", rows, modes)
    found = "".join(f"{mean(row.first_three[mode] for row in rows):>8.2f}" for mode in modes)
    sys.stdout.write(f"{'all, hit@3':<12}{len(rows):>9}{found}\n")
    reached = {mode: mean(row.first[mode] for row in rows) for mode in modes}
    told = ", ".join(f"{mode} {share:.2f}" for mode, share in reached.items())
    sys.stdout.write(f"\ndemo: hit@1 over {len(rows)} questions: {told}\n")
    fallen = [mode for mode in modes if reached[mode] < FLOORS.get(mode, 0.0)]
    for mode in fallen:
        sys.stderr.write(
            f"demo: {mode} is below {FLOORS[mode]:.2f}, which it reached before: something has become worse\n"
        )
    return int(bool(fallen))


def ask(
    collection: Collection, question: dict[str, str], relevant: set[str], modes: Sequence[Mode], num_pages: int
) -> Answered:
    """One question in every mode."""
    ranked = {
        mode: [f"{hit.document}#{hit.page}" for hit in collection.search(question["text"], mode=mode)] for mode in modes
    }
    first, first_three = ({mode: hit_at(ranked[mode], relevant, top_k) for mode in modes} for top_k in (1, SHOWN_HITS))
    return Answered(question["kind"], first, first_three, chance_at(num_pages, len(relevant), 1))


def write_row(kind: str, rows: Sequence[Answered], modes: Sequence[Mode]) -> None:
    """One line of the table."""
    found = "".join(f"{mean(row.first[mode] for row in rows):>8.2f}" for mode in modes)
    sys.stdout.write(f"{kind:<12}{len(rows):>9}{found}{mean(row.chance for row in rows):>8.2f}\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
