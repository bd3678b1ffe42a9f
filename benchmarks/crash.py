"""Measures what `kill -9` costs: index runs killed at times uniform over their duration, resumed, and compared.

    python benchmarks/crash.py FOLDER [--kills 30] [--model FOLDER] [--set KEY=VALUE ...] [--seed 0]

Without a model the collection is a text collection, with one it is hybrid. The median of three uninterrupted runs is the
measure. Each kill meets a fresh collection; its time is drawn from one of as many equal slices of that duration as there
are kills. What the catalog holds afterwards tells the stage; then the same command runs to its end, and its collection is
held against that of an uninterrupted run: the same pages, the same hits for 20 queries, vectors equal to cosine 0.9999,
all that was committed still in its place, `moca verify` content. The table says how many kills fell into which stage.
"""

import argparse
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moca_rag.collection import Collection, is_collection
from moca_rag.errors import CollectionError
from moca_rag.records import Encoder, Hit
from moca_rag.upkeep import verify_collection

NUM_MEASURED = 3
NUM_QUERIES = 20
QUERY_WORDS = 5
TOP_K = 10
LEAST_COSINE = 0.9999
STAGES = (
    "start (no collection yet)",
    "discover (no document)",
    "open (some documents)",
    "before the first commit of pages",
    "pages (first third)",
    "pages (second third)",
    "pages (last third)",
    "after the last page",
)


@dataclass(frozen=True)
class Progress:
    """What a killed run had committed: documents, pages and complete documents, and vectors by picture and passage."""

    exists: bool = False
    documents: int = 0
    pages: int = 0
    complete: int = 0
    vectors: frozenset[tuple[int, bytes, int]] = frozenset()
    torn: bool = False  # rows in a shard that were not committed

    def stage(self, whole: "Progress") -> str:
        """Which of STAGES it was killed in."""
        if not self.exists:
            return STAGES[0]
        if self.complete == whole.complete:
            return STAGES[7]
        if self.pages:
            return STAGES[4 + min(3 * self.pages // whole.pages, 2)]
        return STAGES[1 if not self.documents else 2 if self.documents < whole.documents else 3]


@dataclass(frozen=True)
class State:
    """All that can be seen of a collection once a run has ended."""

    pages: dict[tuple[str, int], int]
    hits: list[list[tuple[str, int, float]]]
    vectors: dict[tuple[str, int, str], NDArray[np.float32]]
    problems: list[str]


@dataclass
class Tally:
    """The kills of one stage, and what did not hold after them."""

    kills: int = 0
    torn: int = 0
    faults: list[str] = field(default_factory=list)


class Trial:
    """One folder of documents, indexed again and again below a folder for collections."""

    def __init__(self, documents: Path, model: str | None, settings: Sequence[str], work: Path) -> None:
        self.documents = documents
        self.model = model
        self.settings = settings
        self.work = work
        self.encoder: Encoder | None = None
        self.queries: list[str] = []

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        """`moca index` into the collection of this name."""
        words = [sys.executable, "-c", "from moca_rag.cli.main import main; main()", "index", str(self.documents)]
        words += ["--collection", str(self.work / name), "--model", self.model or "none"]
        words += [word for setting in self.settings for word in ("--set", setting)]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def finish(self, name: str) -> tuple[int, float, str]:
        """Run to the end: exit code, seconds and the last line of its complaints."""
        began = time.perf_counter()
        process = self.start(name)
        complaints = process.communicate()[1].decode(errors="replace").strip().splitlines()
        return process.returncode, time.perf_counter() - began, complaints[-1] if complaints else ""

    def kill(self, name: str, seconds: float) -> tuple[int | None, str]:
        """Start a run and kill it after so many seconds; its exit code where it had ended by then, and what it said."""
        process = self.start(name)
        time.sleep(seconds)
        code = process.poll()
        process.kill()
        return code, process.communicate()[1].decode(errors="replace").strip()

    def progress(self, name: str) -> Progress:
        """What is committed in the collection of this name."""
        folder = self.work / name
        if not is_collection(folder):
            return Progress()
        with Collection.open(folder) as opened:
            db = opened.catalog.db
            counts = [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("documents", "pages")]
            complete = db.execute("SELECT count(*) FROM documents WHERE complete").fetchone()[0]
            vectors = frozenset(db.execute("SELECT vector_id, image_key, crc FROM vectors").fetchall())
            torn = False
            if opened.fingerprint.model is not None:
                shards = opened.shards()
                on_disk = sum(path.stat().st_size for path in shards.folder.glob("*.f16"))
                torn = on_disk > opened.catalog.num_rows() * shards.dimension * 2
        return Progress(True, counts[0], counts[1], complete, vectors, torn)

    def look(self, name: str) -> State:
        """All that can be seen of the collection of this name."""
        folder = self.work / name
        problems = verify_collection(folder).problems
        with Collection.open(folder, encoder=self.encoder) as opened:
            names = {file.document_id: file.name for file in opened.catalog.files()}
            rows = opened.catalog.db.execute("SELECT page_id, document_id, number, num_words FROM pages").fetchall()
            place = {row[0]: (names[row[1]], row[2]) for row in rows if row[1] in names}
            pages = {place[row[0]]: row[3] for row in rows if row[0] in place}
            query = "SELECT page_id, vector_id, hex(image_key) FROM page_vectors JOIN vectors USING (vector_id)"
            links = opened.catalog.db.execute(query).fetchall()
            stored = list(opened.shards().read(np.array([row[1] for row in links]))) if links else []
            pairs = [(row, vector) for row, vector in zip(links, stored, strict=True) if row[0] in place]
            vectors = {(*place[page], key): vector for (page, _, key), vector in pairs}
            self.queries = self.queries or make_queries(opened, sorted(place, key=lambda page: place[page]))
            hits = [describe(opened.search(query, top_k=TOP_K)) for query in self.queries]
        return State(pages, hits, vectors, problems)


def make_queries(opened: Collection, page_ids: Sequence[int]) -> list[str]:
    """Words in a row from pages spread over the collection."""
    queries = []
    for number in range(NUM_QUERIES):
        page_id = page_ids[number * len(page_ids) // NUM_QUERIES]
        body = opened.catalog.db.execute("SELECT body FROM page_text WHERE rowid = ?", (page_id,)).fetchone()
        words = [word for word in (body[0] if body else "").split() if word.isalpha()]
        middle = len(words) // 2
        queries.append(" ".join(words[middle : middle + QUERY_WORDS]) or "report")
    return queries


def describe(hits: Sequence[Hit]) -> list[tuple[str, int, float]]:
    """Hits as document, page and score."""
    return [(hit.document, hit.page, hit.score) for hit in hits]


def same_hits(some: list[tuple[str, int, float]], others: list[tuple[str, int, float]]) -> bool:
    """Whether two rankings agree: equal scores, and equal pages down to where the last score is shared."""
    if len(some) != len(others) or not np.allclose([hit[2] for hit in some], [hit[2] for hit in others], atol=1e-3):
        return False
    if not some:
        return True
    last = max(some[-1][2], others[-1][2]) + 1e-3
    return all(
        {hit[:2] for hit in hits if hit[2] > last} <= {hit[:2] for hit in rest}
        for hits, rest in ((some, others), (others, some))
    )


def compare(state: State, whole: State) -> list[str]:
    """What differs from the uninterrupted run."""
    faults = [f"verify: {problem}" for problem in state.problems]
    if state.pages != whole.pages:
        faults.append(f"{len(state.pages.items() ^ whole.pages.items())} pages differ")
    differing = [
        number for number, (a, b) in enumerate(zip(state.hits, whole.hits, strict=True)) if not same_hits(a, b)
    ]
    if differing:
        faults.append(f"the hits of {len(differing)} queries differ")
    if state.vectors.keys() != whole.vectors.keys():
        faults.append("other pages have vectors")
    elif state.vectors:
        least = min(cosine(state.vectors[page], whole.vectors[page]) for page in whole.vectors)
        if least < LEAST_COSINE:
            faults.append(f"a vector differs: cosine {least:.6f}")
    return faults


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The cosine of two vectors."""
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def run_trials(trial: Trial, num_kills: int, seed: int) -> None:
    """Kill, resume, compare, and print the table."""
    code, _, complaint = trial.finish("warm-up")
    if code not in (0, 3):
        sys.exit(f"the uninterrupted run ended with {code}: {complaint}")
    durations = []
    for _ in range(NUM_MEASURED):
        shutil.rmtree(trial.work / "whole", ignore_errors=True)
        code, seconds, complaint = trial.finish("whole")
        durations.append(seconds)
    duration = statistics.median(durations)
    whole, goal = trial.look("whole"), trial.progress("whole")
    faults = compare(trial.look("warm-up"), whole)
    if faults:
        sys.exit(f"two uninterrupted runs differ already: {faults}")
    draw = random.Random(seed)
    tallies = {stage: Tally() for stage in STAGES}
    too_late = number = 0
    while number < num_kills:
        moment = (number + draw.random()) * duration / num_kills
        ended, said = trial.kill("killed", moment)
        if ended is not None:
            too_late += 1
            if ended != code:
                sys.exit(f"a run ended by itself with {ended}, the uninterrupted one with {code}: {said}")
        else:
            number += 1
            settle(trial, tallies, code, goal, whole)
            sys.stderr.write(f"\rkill {number} of {num_kills}")
        shutil.rmtree(trial.work / "killed", ignore_errors=True)
        if too_late > num_kills:
            sys.exit("the runs end before they are killed: this machine is too uneven for a measurement")
    sys.stderr.write("\n")
    print_table(trial, tallies, duration, goal, too_late)


def settle(trial: Trial, tallies: dict[str, Tally], code: int, goal: Progress, whole: State) -> None:
    """Look at a killed collection, resume it and note what does not hold."""
    try:
        before = trial.progress("killed")
    except CollectionError as error:
        tallies[STAGES[0]].faults.append(str(error))
        return
    tally = tallies[before.stage(goal)]
    tally.kills += 1
    tally.torn += before.torn
    resumed, _, complaint = trial.finish("killed")
    if resumed != code:
        tally.faults.append(f"the resumed run ended with {resumed}: {complaint}")
        return
    tally.faults += compare(trial.look("killed"), whole)
    if not before.vectors <= trial.progress("killed").vectors:
        tally.faults.append("vectors that were committed were written again")


def print_table(trial: Trial, tallies: dict[str, Tally], duration: float, goal: Progress, too_late: int) -> None:
    """One row a stage, and what did not hold below it."""
    mode = "text" if trial.model is None else "hybrid"
    print(
        f"{mode}: {goal.documents} documents, {goal.pages} pages, {duration:.2f} s uninterrupted (median of {NUM_MEASURED})"
    )
    print(f"{'killed in stage':<32}{'kills':>6}{'torn shard':>12}   held")
    for stage, tally in tallies.items():
        held = "-" if not tally.kills else "no" if tally.faults else "yes"
        print(f"{stage:<32}{tally.kills:>6}{tally.torn:>12}   {held}")
    kills, torn = sum(tally.kills for tally in tallies.values()), sum(tally.torn for tally in tallies.values())
    faults = [f"{stage}: {fault}" for stage, tally in tallies.items() for fault in tally.faults]
    print(f"{'all':<32}{kills:>6}{torn:>12}   {'no' if faults else 'yes'}")
    if too_late:
        print(f"{too_late} runs had ended before their time to be killed, and were replaced")
    print("\n".join(faults), end="\n" if faults else "")


def main() -> None:
    """Read the command line and run the trials below a temporary folder."""
    parser = argparse.ArgumentParser(description="Kill index runs, resume them, compare.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--model")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for `moca index`")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moca-crash-") as work:
        trial = Trial(options.folder.resolve(), options.model, options.set, Path(work))
        if options.model:
            from moca_rag.embedder import Embedder

            trial.encoder = Embedder.open(options.model)
        run_trials(trial, options.kills, options.seed)


if __name__ == "__main__":
    main()
