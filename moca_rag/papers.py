"""Puts our figures beside the published ones: the MoCa paper's tables 1 to 4, and results read from their files."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from .errors import ConfigError, one_line
from .mmeb import CATEGORIES, GROUPS, TASKS, average_scores

BESIDE = ("MoCa-3B", "MoCa-7B")
MULTILINGUAL = ("english", "french", "german", "spanish")
VIDORE_SETTINGS = {
    "ESG_Human": ("Vidore2ESGReportsHLRetrieval", ("default",)),
    "Eco_Mul": ("Vidore2EconomicsReportsRetrieval", MULTILINGUAL),
    "Bio": ("Vidore2BioMedicalLecturesRetrieval", ("english",)),
    "ESG_Syn": ("Vidore2ESGReportsRetrieval", ("english",)),
    "ESG_Syn_Mul": ("Vidore2ESGReportsRetrieval", MULTILINGUAL),
    "Bio_Mul": ("Vidore2BioMedicalLecturesRetrieval", MULTILINGUAL),
    "Eco": ("Vidore2EconomicsReportsRetrieval", ("english",)),
}
"""The paper's seven settings of ViDoRe-v2: mteb's task, and the language subsets whose mean it is."""
VIDORE_AVERAGES = {
    "Avg., the paper's 7": tuple(VIDORE_SETTINGS),
    "Avg., mteb's 4": ("ESG_Human", "Eco_Mul", "ESG_Syn_Mul", "Bio_Mul"),
}
Scores = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the paper as printed, in percent; None where it prints nothing."""

    title: str
    columns: list[str]
    rows: dict[str, list[float | None]]
    sizes: dict[str, str]
    averages: dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Results:
    """One model's figures on one benchmark, in percent, and the folder that they were read from.

    `others` are figures of the same folder that the paper has no counterpart of.
    """

    benchmark: str
    model: str
    folder: Path
    scores: dict[str, float]
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A task or an average: our figure and each published one, in percent; None where the paper has none."""

    name: str
    ours: float
    theirs: dict[str, float | None]
    is_average: bool

    def difference(self, name: str) -> float | None:
        """How much ours is above theirs."""
        theirs = self.theirs[name]
        return None if theirs is None else self.ours - theirs


@dataclass(frozen=True, slots=True)
class Comparison:
    """Our results, row by row beside the published ones."""

    results: Results
    rows: list[Row]


@cache
def read_tables() -> dict[int, Table]:
    """The paper's tables by number.

    >>> read_tables()[3].rows["w/o MLM"]
    [66.2, 57.2]
    """
    values = json.loads(files("moca_rag").joinpath("paper.json").read_text(encoding="utf-8"))
    empty: dict[str, Any] = {"sizes": {}, "averages": {}}
    return {int(number): Table(**empty | table) for number, table in values["tables"].items()}


@cache
def published_scores(benchmark: str) -> dict[str, dict[str, float]]:
    """By model, what the paper says of `mmeb` or `vidore`: tasks and averages, or for an ablation the average alone.

    Where a model's tasks are printed its averages are taken over them: two printed ones do not follow from theirs
    (MMRet's IND and OOD are swapped, SigLIP's retrieval is 44.1), and CLIP's stand in table 1 for other weights.

    >>> published_scores("mmeb")["MoCa-3B"]["CIRR"], round(published_scores("mmeb")["MoCa-3B"]["Overall"], 1)
    (55.7, 67.5)
    """
    tables = read_tables()
    if benchmark == "mmeb":
        scores = {name: _pair(tables[1].columns, row) for name, row in tables[1].rows.items()}
        for place, name in enumerate(tables[4].columns):
            by_task = {task: row[place] for task, row in tables[4].rows.items()}
            scores[name] = _with_averages("mmeb", {task: score for task, score in by_task.items() if score is not None})
        whole, place = "Overall", 0
    else:
        settings = {name: _pair(tables[2].columns[:-1], row[:-1]) for name, row in tables[2].rows.items()}
        scores = {name: _with_averages("vidore", row) for name, row in settings.items()}
        whole, place = next(iter(VIDORE_AVERAGES)), 1
    ablations = {name: _pair([whole], [row[place]]) for name, row in tables[3].rows.items()}
    return ablations | scores


def _pair(columns: Sequence[str], row: Sequence[float | None]) -> dict[str, float]:
    return {name: score for name, score in zip(columns, row, strict=True) if score is not None}


def _with_averages(benchmark: str, scores: Scores) -> dict[str, float]:
    """The scores, and the averages that they are enough for."""
    if benchmark == "mmeb":
        return {**scores, **average_scores(scores)}
    whole = {name: parts for name, parts in VIDORE_AVERAGES.items() if all(part in scores for part in parts)}
    return {**scores, **{name: sum(scores[part] for part in parts) / len(parts) for name, parts in whole.items()}}


def _row_names(benchmark: str) -> list[str]:
    """Tasks and averages in the order of the paper's tables."""
    if benchmark == "vidore":
        return [*VIDORE_SETTINGS, *VIDORE_AVERAGES]
    categories = [name for category in CATEGORIES for name in (*GROUPS[category], category)]
    return [*categories, *(name for name in GROUPS if name not in CATEGORIES)]


def compare_results(paths: Iterable[Path], beside: Sequence[str] = BESIDE) -> list[Comparison]:
    """Every result in these files and folders beside the named models of the paper, for the tasks that ours has.

    Raises ConfigError on a path without results, and on a name that none of the paper's tables knows.
    """
    known = {**published_scores("mmeb"), **published_scores("vidore")}
    for name in beside:
        if name not in known:
            near = get_close_matches(name, known, 1, cutoff=0)[0]
            raise ConfigError(f"the paper has no {name!r}: did you mean {near!r}? It knows {', '.join(known)}")
    return [Comparison(results, _compare(results, beside)) for results in read_results(paths)]


def _compare(results: Results, beside: Sequence[str]) -> list[Row]:
    if not results.scores:
        return []
    published = published_scores(results.benchmark)
    names = [name for name in _row_names(results.benchmark) if name in results.scores]
    theirs = {name: {model: published.get(model, {}).get(name) for model in beside} for name in names}
    tasks = {*TASKS, *VIDORE_SETTINGS}
    return [Row(name, results.scores[name], theirs[name], name not in tasks) for name in names]


def read_results(paths: Iterable[Path]) -> list[Results]:
    """What `moca eval` left in these files and folders: MMEB's and a folder's own files, and mteb's layout for ViDoRe.

    The files of one folder are one model's. Raises ConfigError on a path that holds no results.
    """
    found: dict[tuple[str, Path], dict[Path, dict[str, Any]]] = {}
    for path in paths:
        files_here = [path] if path.is_file() else sorted(path.rglob("*.json"))
        results = {file: values for file in files_here if (values := _read_result(file)) is not None}
        if not results:
            raise ConfigError(f"{path} holds no results of `moca eval`: give their folder, or their JSON files")
        for file, values in results.items():
            found.setdefault((values.get("benchmark", "vidore"), file.resolve().parent), {})[file.resolve()] = values
    return [_gather(benchmark, folder, list(by_file.values())) for (benchmark, folder), by_file in found.items()]


def _read_result(path: Path) -> dict[str, Any] | None:
    """The object of a result file; None for any other JSON."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as JSON ({one_line(error)}): evaluate again") from error
    is_result = isinstance(values, dict) and ("benchmark" in values or {"task_name", "scores"} <= values.keys())
    return values if is_result else None


def _gather(benchmark: str, folder: Path, values: Sequence[dict[str, Any]]) -> Results:
    try:
        if benchmark == "mmeb":
            scores = {row["task"]: 100 * row["precision_at_1"] for row in values}
            return Results("mmeb", values[0]["model"]["name"], folder, _with_averages("mmeb", scores), ())
        if benchmark == "vidore":
            return _gather_vidore(folder, values)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"a result in {folder} lacks what is compared ({one_line(error)}): evaluate again") from error
    return Results(benchmark, folder.name, folder, {}, (f"{benchmark} {folder.name}",))


def _gather_vidore(folder: Path, values: Sequence[dict[str, Any]]) -> Results:
    """The paper's settings out of mteb's files, which lie in a folder for each model and revision."""
    tasks = {row["task_name"]: {part["hf_subset"]: part for part in row["scores"]["test"]} for row in values}
    scores = {
        setting: 100 * sum(tasks[task][subset]["ndcg_at_5"] for subset in subsets) / len(subsets)
        for setting, (task, subsets) in VIDORE_SETTINGS.items()
        if set(subsets) <= tasks.get(task, {}).keys()
    }
    others = tuple(sorted(tasks.keys() - {task for task, _ in VIDORE_SETTINGS.values()}))
    return Results("vidore", folder.parent.name.replace("__", "/"), folder, _with_averages("vidore", scores), others)
