"""Scores models, or the whole engine, on ViDoRe through mteb, and keeps every run beside its qrels.

OUT/results/MODEL/REVISION/TASK.json is mteb's own file; OUT/runs/MODEL/REVISION/TASK/SUBSET.json holds the qrels and
the best pages of each query, from which the scores can be worked out again. What is there already is not run again.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, DocumentError, ModelError
from .metrics import Qrels, Run, count_ties, first_pages, load_trec, mean_scores, score_run
from .papers import VIDORE_SETTINGS
from .progress import Reporter, SilentReporter
from .records import Mode
from .task_data import TaskData, quiet

if TYPE_CHECKING:
    from .mteb_engine import Indexing

BENCHMARKS = {"v1": "ViDoRe(v1)", "v2": "ViDoRe(v2)", "v3": "ViDoRe(v3)", "v3.1": "ViDoRe(v3.1)"}
MEASURES = ("ndcg_cut_5", "ndcg_cut_10")
KEPT_PAGES = 100  # of each query; what is measured ends at 10
ROUNDING = 1e-5  # mteb writes five digits


@dataclass(frozen=True, slots=True)
class SubsetScore:
    """The queries of one language on one corpus; `num_ties` counts kept pages that share their score with another."""

    name: str
    num_queries: int
    num_ties: int
    ndcg_5: float
    ndcg_10: float


@dataclass(frozen=True, slots=True)
class TaskScore:
    """One task of mteb: the mean over its languages."""

    name: str
    ndcg_5: float
    ndcg_10: float
    subsets: tuple[SubsetScore, ...]


@dataclass(frozen=True, slots=True)
class VidoreReport:
    """What a run found. `official` names the measure that the leaderboard ranks by.

    `settings` are the paper's seven on v2, by nDCG@5 over all queries of each, as far as they were run; they are no
    part of `tasks`. `failed` says by task why it was not run; `missing` counts tasks and languages of the benchmark
    that are not in the means.
    """

    version: str
    model: str
    revision: str
    official: str
    tasks: tuple[TaskScore, ...]
    settings: dict[str, float]
    failed: dict[str, str]
    missing: int
    out: Path

    def mean(self, measure: str) -> float:
        """The mean of `ndcg_5` or `ndcg_10` over the tasks."""
        return float(sum(getattr(task, measure) for task in self.tasks) / len(self.tasks))


def evaluate_vidore(
    version: str,
    model: str | None,
    out: Path,
    *,
    tasks: Sequence[str] = (),
    languages: Sequence[str] = (),
    data: Path | None = None,
    index: "Indexing | None" = None,
    mode: Mode | None = None,
    reporter: Reporter | None = None,
) -> VidoreReport:
    """Run a version's tasks, all of them or those named, and report what they score.

    `model` is a model of ours, a sentence-transformers folder or a name of mteb's registry. With `index` (that is
    `index_documents`) the whole engine is judged, by the rankings of `mode`; without a model by text alone. `data`
    holds local copies of data sets. Raises ConfigError on what cannot be asked for, ModelError where a model cannot be
    loaded or its embeddings cannot be judged, DocumentError where the data of no task is to be had.
    """
    reporter = reporter or SilentReporter()
    chosen, num_subsets = _choose_tasks(version, tasks, languages)
    scores: list[TaskScore] = []
    failed: dict[str, str] = {}
    with TemporaryDirectory(prefix="moca-vidore-") as place, quiet():
        searcher, settings = _open_searcher(model, index, mode, Path(place) / "corpus", reporter)
        meta, task_data = searcher.mteb_model_meta, TaskData(data, Path(place) / "data")
        for task in chosen:
            _check_modalities(meta, task)
        reporter.start("tasks", len(chosen))
        for task in chosen:
            try:
                scores.append(_Trial(task, task_data, searcher, settings, out).score())
            except DocumentError as error:
                failed[task.metadata.name] = str(error)
                reporter.failed()
                if len(failed) == len(chosen):
                    raise
            reporter.advance("tasks")
    return VidoreReport(
        version=version,
        model=meta.name,
        revision=meta.revision,
        official=chosen[0].metadata.main_score.replace("_at_", "_"),
        tasks=tuple(scores),
        settings=_score_settings(scores) if version == "v2" else {},
        failed=failed,
        missing=num_subsets - sum(len(task.subsets) for task in scores),
        out=out,
    )


def _choose_tasks(version: str, names: Sequence[str], languages: Sequence[str]) -> tuple[list[Any], int]:
    """Fresh tasks as asked for, and how many languages of tasks the whole benchmark has."""
    _check_known(version, BENCHMARKS, "--version")
    load_trec()
    try:
        import mteb
    except ImportError as error:
        raise ConfigError("ViDoRe needs mteb: pip install 'moca_rag[eval]'") from error
    tasks = [mteb.get_task(task.metadata.name) for task in mteb.get_benchmark(BENCHMARKS[version]).tasks]
    known = [task.metadata.name for task in tasks]
    for name in names:
        _check_known(name, known, "--tasks")
    codes = sorted({code for task in tasks for code in task.languages})
    spoken = {
        subset: langs[0].split("-")[0]
        for task in tasks
        for subset, langs in task.metadata.hf_subsets_to_langscripts.items()
    }
    for language in languages:
        _check_known(language, [*codes, *sorted(spoken.keys() - {"default"})], "--languages")
    num_subsets = sum(len(task.hf_subsets) for task in tasks)
    chosen = [task for task in tasks if not names or task.metadata.name in names]
    if languages:
        wanted = {spoken.get(language, language) for language in languages}
        chosen = [task.filter_languages(sorted(wanted)) for task in chosen if wanted & set(task.languages)]
    if not chosen:
        raise ConfigError(f"none of these tasks has queries in {', '.join(languages)}: name other --languages")
    return chosen, num_subsets


def _check_known(name: str, known: Sequence[str] | dict[str, str], option: str) -> None:
    if name not in known:
        near = get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise ConfigError(f"{option} {name}: there is none of this name: {hint}")


def _open_searcher(
    model: str | None, index: "Indexing | None", mode: Mode | None, place: Path, reporter: Reporter
) -> tuple[Any, dict[str, Any]]:
    """What mteb searches with, and what decides its answers beyond name and revision."""
    if index is None:
        from .mteb_models import open_model

        if mode is not None:
            raise ConfigError(f"--mode {mode} names rankings of the engine: add --engine, or leave it out")
        if model is None:
            raise ConfigError("there is nothing to judge: name a model with --model, or --engine for search by text")
        return open_model(model, reporter)
    from .deferred import DeferredEmbedder
    from .mteb_engine import EngineModel

    wanted = mode or ("text" if model is None else "hybrid")
    if model is None and wanted != "text":
        raise ConfigError(f"--mode {wanted} needs a model: name one with --model FOLDER_OR_ID")
    encoder = None if model is None or wanted == "text" else DeferredEmbedder(model)
    card = {} if encoder is None else asdict(encoder.card)
    return EngineModel(index, encoder, wanted, place, reporter), card | {"mode": wanted}


def _check_modalities(meta: Any, task: Any) -> None:
    """Refuse a model that can read nothing of a task's pages."""
    from mteb.types import PromptType

    reads, shown = set(meta.modalities or ()), set(task.metadata.get_modalities(PromptType.document))
    if reads and not reads & shown:
        raise ConfigError(
            f"{meta.name} reads {' and '.join(sorted(reads))}, and the pages of {task.metadata.name} are "
            f"{' and '.join(sorted(shown))} alone: take --version v3.1, whose pages come with their text"
        )


class _Trial:
    """One task and the searcher that is judged on it; what mteb has it search for is written down."""

    def __init__(self, task: Any, data: TaskData, searcher: Any, settings: dict[str, Any], out: Path) -> None:
        from mteb.cache import ResultCache

        self.mteb_model_meta = meta = searcher.mteb_model_meta
        self._task = task
        self._data = data
        self._searcher = searcher
        self._cache = ResultCache(out)
        self._folder = out / "runs" / meta.model_name_as_path() / meta.revision / task.metadata.name
        self._origin = {"model": meta.name, "revision": meta.revision, "settings": settings, "data": data.point(task)}
        self._qrels: dict[str, Qrels] = {}

    def score(self) -> TaskScore:
        """The task's scores, from what is kept or from a run."""
        if any(self._read(subset) is None for subset in self._task.hf_subsets) or self._list_missing():
            self._run()
        subsets = tuple(map(self._score_subset, self._task.hf_subsets))
        return TaskScore(
            name=self._task.metadata.name,
            ndcg_5=sum(subset.ndcg_5 for subset in subsets) / len(subsets),
            ndcg_10=sum(subset.ndcg_10 for subset in subsets) / len(subsets),
            subsets=subsets,
        )

    # -- what mteb calls ----------------------------------------------------------------------------------------------

    def index(self, corpus: Any, **options: Any) -> None:
        """Hand the corpus on."""
        self._searcher.index(corpus=corpus, **options)

    def search(self, queries: Any, *, hf_subset: str, **options: Any) -> Run:
        """Hand the queries on, and keep the best pages of each. Raises ModelError on scores that are not finite."""
        found: Run = self._searcher.search(queries=queries, hf_subset=hf_subset, **options)
        # A query that was given up is left out by pytrec_eval, and its zero with it.
        run = {query: found.get(query, {}) for query in queries["id"]}
        score_run(self._qrels[hf_subset], run, MEASURES[:1])
        kept = {query: first_pages(scores, KEPT_PAGES) for query, scores in run.items()}
        self._write(hf_subset, {"origin": self._origin, "qrels": self._qrels[hf_subset], "run": kept})
        return run

    # -- running ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        import mteb

        self._data.load(self._task)
        [split] = self._task.eval_splits
        for subset in self._task.hf_subsets:
            tables = self._task.dataset[subset][split]
            asked = set(tables["queries"]["id"])  # v2's qrels hold the queries of every language
            self._qrels[subset] = {query: pages for query, pages in tables["relevant_docs"].items() if query in asked}
        known = self._load_result()
        done = [] if known is None else [scores["hf_subset"] for scores in known.scores[split]]
        current = known is not None and known.dataset_revision == self._origin["data"]
        mteb.evaluate(
            self,
            self._task,
            cache=self._cache,
            overwrite_strategy="only-missing" if current and all(map(self._read, done)) else "always",
            encode_kwargs={"batch_size": 32, "show_progress_bar": False},
            show_progress_bar=False,
            co2_tracker=False,
        )
        self._task.unload_data()

    def _load_result(self) -> Any:
        """The result that mteb keeps, or None; a kill can leave half of its file, and half is none."""
        with suppress(ValueError):
            return self._cache.load_task_result(self._task.metadata.name, self.mteb_model_meta)
        return None

    def _list_missing(self) -> bool:
        known = self._load_result()
        return known is None or bool(known.get_missing_evaluations(self._task))

    # -- what is kept -------------------------------------------------------------------------------------------------

    def _write(self, subset: str, values: dict[str, Any]) -> None:
        path = self._folder / f"{subset}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(values), encoding="utf-8")
        os.replace(draft, path)

    def _read(self, subset: str) -> dict[str, Any] | None:
        """What is kept of a subset, if it is of this model and this data."""
        path = self._folder / f"{subset}.json"
        if not path.is_file():
            return None
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return kept if kept["origin"] == json.loads(json.dumps(self._origin)) else None

    def _score_subset(self, subset: str) -> SubsetScore:
        """A subset's scores, worked out from what is kept; mteb's own must be the same."""
        kept = self._read(subset)
        assert kept is not None
        means = mean_scores(score_run(kept["qrels"], kept["run"], MEASURES))
        [split] = self._task.eval_splits
        [official] = [row for row in self._load_result().scores[split] if row["hf_subset"] == subset]
        for measure, value in means.items():
            theirs = official[measure.replace("cut", "at")]
            if abs(theirs - value) > ROUNDING:
                raise ModelError(
                    f"{self._task.metadata.name}, {subset}: mteb says {measure} {theirs:.5f}, and its run gives "
                    f"{value:.5f}: delete {self._folder} and run again"
                )
        num_ties = count_ties(kept["run"])
        return SubsetScore(subset, len(kept["qrels"]), num_ties, means["ndcg_cut_5"], means["ndcg_cut_10"])


def _score_settings(tasks: Sequence[TaskScore]) -> dict[str, float]:
    """nDCG@5 of the paper's settings, each over all of its queries."""
    known = {(task.name, subset.name): subset for task in tasks for subset in task.subsets}
    settings = {}
    for title, (name, subsets) in VIDORE_SETTINGS.items():  # mteb takes fewer tasks, and the mean over languages
        if all((name, subset) in known for subset in subsets):
            parts = [known[name, subset] for subset in subsets]
            total = sum(part.num_queries for part in parts)
            settings[title] = sum(part.ndcg_5 * part.num_queries for part in parts) / total
    return settings
