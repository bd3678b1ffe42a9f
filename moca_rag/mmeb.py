"""Turns an encoder into its figures on MMEB: precision@1 on 36 tasks, their averages, and the runs behind them."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path, PurePath

import numpy as np

from .errors import ConfigError, DocumentError
from .metrics import bootstrap_interval, check_embeddings
from .mmeb_data import Item, Pictures, TaskRows, find_data, list_tables, read_rows
from .progress import Reporter, SilentReporter
from .records import Encoder, Floats, ModelCard, Query

CATEGORIES = {
    "Classification": "ImageNet-1K N24News HatefulMemes VOC2007 SUN397 Place365 ImageNet-A ImageNet-R ObjectNet Country211",
    "VQA": "OK-VQA A-OKVQA DocVQA InfographicsVQA ChartQA Visual7W ScienceQA VizWiz GQA TextVQA",
    "Retrieval": "VisDial CIRR VisualNews_t2i VisualNews_i2t MSCOCO_t2i MSCOCO_i2t NIGHTS WebQA FashionIQ Wiki-SS-NQ OVEN EDIS",
    "Grounding": "MSCOCO RefCOCO RefCOCO-Matching Visual7W-Pointing",
}
"""The tasks by category, under their names on the hub, in the order of the paper's table 4."""
TRAINED_ON = (
    "ImageNet-1K N24News HatefulMemes SUN397 VOC2007 InfographicsVQA ChartQA A-OKVQA DocVQA OK-VQA Visual7W VisDial CIRR "
    "NIGHTS WebQA VisualNews_i2t VisualNews_t2i MSCOCO_i2t MSCOCO_t2i MSCOCO"
).split()
TASKS = " ".join(CATEGORIES.values()).split()
GROUPS = {name: tasks.split() for name, tasks in CATEGORIES.items()} | {
    "IND": TRAINED_ON,
    "OOD": [task for task in TASKS if task not in TRAINED_ON],
    "Overall": TASKS,
}
"""What is averaged: the categories, the tasks in and out of the training distribution, all."""
KEPT_RANKS = 10
PICTURES_AT_ONCE, TEXTS_AT_ONCE = 64, 1024  # held in memory; a few packs of a GPU


@dataclass(frozen=True, slots=True)
class TaskScore:
    """One task's figures: the share of queries whose right candidate alone is first, and its 95% interval.

    A query whose right candidate shares the first place is among the `num_ties`, and counts as wrong.
    """

    task: str
    num_queries: int
    num_candidates: int
    precision_at_1: float
    interval: tuple[float, float]
    num_ties: int


@dataclass(frozen=True, slots=True)
class MmebReport:
    """What was found: scores and averages (0..1), tasks that are not in the data, and by task why it failed."""

    model: ModelCard
    folder: Path
    scores: dict[str, TaskScore]
    averages: dict[str, float]
    missing: list[str]
    failed: dict[str, str]


def average_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """The mean over the tasks of each group that is whole, every task with the same weight.

    >>> average_scores({"MSCOCO": 1.0, "RefCOCO": 0.5, "RefCOCO-Matching": 0.5, "Visual7W-Pointing": 0.0, "CIRR": 1.0})
    {'Grounding': 0.5}
    """
    whole = {name: tasks for name, tasks in GROUPS.items() if all(task in scores for task in tasks)}
    return {name: sum(scores[task] for task in tasks) / len(tasks) for name, tasks in whole.items()}


def evaluate_mmeb(
    encoder: Encoder,
    out: Path,
    *,
    data: Path | None = None,
    tasks: Sequence[str] = (),
    seed: int = 0,
    reporter: Reporter | None = None,
) -> MmebReport:
    """Judge an encoder on MMEB's tasks; all of them, or those of `data`, unless some are named.

    Each task leaves its figures, its run and its qrels in a folder of the model's own under `out`, and is not judged
    again while model and data are the same. `seed` decides in which order candidates are encoded. A task whose file
    or picture cannot be read is left out, with its reason. Raises ConfigError on an unknown task and on missing data,
    ModelError on embeddings that tell nothing.
    """
    folder, present = _find_tasks(data, tasks)
    place = out / "mmeb" / name_model(encoder.card)
    place.mkdir(parents=True, exist_ok=True)
    scores: dict[str, TaskScore] = {}
    failed: dict[str, str] = {}
    reporter = reporter or SilentReporter()
    reporter.start("tasks", len(present))
    with closing(Pictures(folder, encoder.card.pixels)) as pictures:
        judge = _Judge(encoder, pictures, seed, reporter)
        for task in present:
            try:
                rows = read_rows(folder, task)
                known = _read_score(place / f"{task}.json", rows.digest)
                scores[task] = known or _judge_task(judge, rows, place)
            except DocumentError as error:
                failed[task] = str(error)
                reporter.failed()
            reporter.advance("tasks")
    averages = average_scores({task: score.precision_at_1 for task, score in scores.items()})
    return MmebReport(encoder.card, place, scores, averages, [task for task in TASKS if task not in present], failed)


def name_model(card: ModelCard) -> str:
    """A folder name for all that decides a model's embeddings, wherever the model lies: other settings, other folder."""
    values = {name: value for name, value in asdict(card).items() if name != "name"}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return f"{re.sub(r'[^0-9A-Za-z.-]+', '_', PurePath(card.name).name)}-{digest[:8]}"


def _find_tasks(data: Path | None, tasks: Sequence[str]) -> tuple[Path, list[str]]:
    """The folder of the data, and the tasks to judge, in the paper's order."""
    for task in tasks:
        if task not in TASKS:
            near = get_close_matches(task, TASKS, 1, cutoff=0)[0]
            raise ConfigError(f"MMEB has no task {task!r}: did you mean {near!r}? Its tasks are {', '.join(TASKS)}")
    asked = [task for task in TASKS if task in (tasks or TASKS)]
    folder = find_data(data, asked)
    present = [task for task in asked if list_tables(folder, task)]
    absent = [task for task in asked if task not in present]
    if absent and (tasks or not present):
        raise ConfigError(
            f"{folder} has no {absent[0]}/test-*.parquet: name a folder that holds it, laid out as on the hub"
        )
    return folder, present


class _Judge:
    """One encoder at work: every distinct candidate is encoded once.

    Answers without a picture ("yes", "2") come back from task to task, and are kept; pictures are a task's own.
    """

    def __init__(self, encoder: Encoder, pictures: Pictures, seed: int, reporter: Reporter) -> None:
        self.card = encoder.card
        self.reporter = reporter
        self._encoder = encoder
        self._pictures = pictures
        self._seed = seed
        self._texts: dict[str, Floats] = {}

    def encode_queries(self, rows: TaskRows) -> Floats:
        """Unit embeddings [Q, D] of a task's queries."""
        embeddings = self._encode(rows, rows.queries)
        check_embeddings(embeddings, unit=True, name=f"the queries of {rows.name}")
        return embeddings

    def encode_candidates(self, rows: TaskRows) -> Floats:
        """Unit embeddings [C, D] of a task's distinct candidates, encoded in an order that the seed draws.

        Published rows have the right one first: a model that favours what it sees first wins nothing here.
        """
        embeddings = np.empty((len(rows.candidates), self.card.dimension), np.float32)
        fresh: list[int] = []
        for position, item in enumerate(rows.candidates):
            if not item.picture and item.text in self._texts:
                embeddings[position] = self._texts[item.text]
            else:
                fresh.append(position)
        shuffled = np.random.default_rng(self._seed).permutation(fresh).astype(np.int64)
        embeddings[shuffled] = self._encode(rows, [rows.candidates[position] for position in shuffled])
        check_embeddings(embeddings, unit=True, name=f"the candidates of {rows.name}")
        texts = [position for position in fresh if not rows.candidates[position].picture]
        self._texts |= {rows.candidates[position].text: embeddings[position].copy() for position in texts}
        return embeddings

    def _encode(self, rows: TaskRows, items: Sequence[Item]) -> Floats:
        embeddings = np.empty((len(items), self.card.dimension), np.float32)
        step = PICTURES_AT_ONCE if any(item.picture for item in items) else TEXTS_AT_ONCE
        self.reporter.start("items", None)
        for start in range(0, len(items), step):
            part = items[start : start + step]
            embeddings[start : start + len(part)] = self._encoder.encode_queries(
                [self._make_query(rows, item) for item in part]
            )
            self.reporter.advance("items", len(part))
        return embeddings

    def _make_query(self, rows: TaskRows, item: Item) -> Query:
        try:
            return self._pictures.make_query(item)
        except DocumentError as error:
            raise DocumentError(f"row {rows.find_row(item)}: {error}", error.code) from error


def _judge_task(judge: _Judge, rows: TaskRows, place: Path) -> TaskScore:
    """Rank each query's candidates; write the run, the qrels, and last the figures that vouch for both."""
    queries, candidates = judge.encode_queries(rows), judge.encode_candidates(rows)
    correct: list[float] = []
    num_ties = 0
    run, qrels = place / f"{rows.name}.run", place / f"{rows.name}.qrels"
    with run.open("w", encoding="utf-8") as ranks, qrels.open("w", encoding="utf-8") as grades:
        for number, (query, choice) in enumerate(zip(queries, rows.choices, strict=True), 1):
            scores = score_candidates(query, candidates[choice])
            best = scores[1:].max(initial=-np.inf)
            correct.append(float(scores[0] > best))
            num_ties += int(scores[0] == best)
            grades.write(f"{number} 0 {rows.candidates[choice[0]].item_id} 1\n")
            for rank, position in rank_candidates(scores):
                item = rows.candidates[choice[position]]
                ranks.write(f"{number} Q0 {item.item_id} {rank} {scores[position]:.9g} {judge.card.revision[:8]}\n")
    precision = sum(correct) / len(correct)
    score = TaskScore(
        rows.name, len(rows.queries), len(rows.candidates), precision, bootstrap_interval(correct), num_ties
    )
    _write_score(place / f"{rows.name}.json", score, judge.card, rows.digest)
    judge.reporter.say(f"{rows.name}: {100 * precision:.1f}")
    return score


def score_candidates(query: Floats, candidates: Floats) -> Floats:
    """The cosines [N] of a unit query [D] with unit candidates [N, D], as 32-bit floats of 64-bit sums.

    Equal candidates get equal scores: 32-bit sums depend on the place in the matrix.
    """
    return (candidates.astype(np.float64) @ query.astype(np.float64)).astype(np.float32)


def rank_candidates(scores: Floats) -> list[tuple[int, int]]:
    """(rank, position) of the best ten, and of the right one, at position 0, wherever it stands; it loses every tie.

    >>> rank_candidates(np.array([0.5, 0.5, 0.9], np.float32))
    [(1, 2), (2, 1), (3, 0)]
    """
    order = np.lexsort((-np.arange(len(scores)), -scores)).tolist()
    return [(rank, position) for rank, position in enumerate(order, 1) if rank <= KEPT_RANKS or position == 0]


def _write_score(path: Path, score: TaskScore, card: ModelCard, digest: str) -> None:
    """Whole or not at all."""
    draft = path.with_suffix(".new")
    values = {"benchmark": "mmeb", **asdict(score), "model": asdict(card), "data": digest}
    draft.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(draft, path)


def _read_score(path: Path, digest: str) -> TaskScore | None:
    """What an earlier run found on the same rows."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["data"] != digest:
            return None
        return TaskScore(
            **{name: values[name] for name in TaskScore.__slots__} | {"interval": tuple(values["interval"])}
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
