"""Writes small copies of ViDoRe's data sets, in the layouts of the hub: pages are colours, and so are questions."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import numpy as np
import pytest
import pytrec_eval
from moca_rag.indexer.pipeline import index_documents
from PIL import Image

from moca_rag.records import Mode
from moca_rag.task_data import quiet
from moca_rag.vidore import VidoreReport, evaluate_vidore

# What is drawn on each page, and what its text would be.
PAGES = {
    "1": (("red",), "The harbour ferry carries timber."),
    "2": (("green",), "Copper prices fell after the harvest – 12 € a pound."),
    "3": (("blue",), "A pump needs oil every ninety days."),
    "4": (("red", "green"), "Rainfall in the northern valley was low."),
    "5": (("green", "blue"), "The library lent nine thousand novels."),
    "6": (("red", "blue"), "La pluie tombe sur la forêt à l'été."),
}
INKS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
# Query, its language, the grades of pages: some right pages are not the nearest ones.
QUERIES = {
    "10": ("red harbour ferry", "english", {"1": 2, "4": 1}),
    "11": ("green copper prices", "english", {"2": 2, "5": 1, "3": 1}),
    "12": ("blue pump oil", "english", {"5": 1}),
    "13": ("red pluie forêt", "french", {"6": 1}),
    "14": ("blue and green", "french", {"5": 2, "2": 1}),
}
LANGUAGES = ("english", "french", "german", "spanish", "italian", "portuguese")


def draw_page(colours: Sequence[str]) -> bytes:
    """A PNG of stripes in these colours below a white margin."""
    pixels = np.full((112, 56, 3), 255, np.uint8)
    for place, colour in enumerate(colours):
        pixels[28 + 28 * place : 28 + 28 * (place + 1)] = INKS[colour]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


Questions: TypeAlias = Mapping[str, tuple[str, str, dict[str, int]]]


def write_plain(folder: Path, *, languages: bool = False, questions: Questions = QUERIES) -> Path:
    """The layout of v1, or with `languages` of v2: one table each of pages, queries and qrels."""
    corpus = [{"corpus-id": int(page), "image": _picture(colours)} for page, (colours, _) in PAGES.items()]
    queries: list[dict[str, Any]] = []
    qrels: list[dict[str, Any]] = []
    for query, (text, language, grades) in (_ask() if languages else questions).items():
        queries.append({"query-id": int(query), "query": text} | ({"language": language} if languages else {}))
        qrels += [{"query-id": int(query), "corpus-id": int(page), "score": grade} for page, grade in grades.items()]
    return write_tables(folder, {"corpus": corpus, "queries": queries, "qrels": qrels})


def write_by_language(folder: Path, *, languages: Sequence[str] = LANGUAGES, with_text: bool = False) -> Path:
    """The layout of v3, or with its OCR text of v3.1: three tables for each language, the same pages in all of them."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for language in languages:
        asked = {query: row for query, row in _ask().items() if row[1] == language}
        tables[f"{language}-corpus"] = [
            {"id": page, "image": _picture(colours)} | ({"text": text} if with_text else {})
            for page, (colours, text) in PAGES.items()
        ]
        tables[f"{language}-queries"] = [{"id": query, "text": text} for query, (text, _, _) in asked.items()]
        tables[f"{language}-qrels"] = [
            {"query-id": query, "corpus-id": page, "score": grade}
            for query, (_, _, grades) in asked.items()
            for page, grade in grades.items()
        ]
    return write_tables(folder, tables)


def write_tables(folder: Path, tables: Mapping[str, list[dict[str, Any]]]) -> Path:
    """Parquet files and the README.md whose head names them, as a data set lies on the hub."""
    lines = ["---", "configs:"]
    for name, rows in tables.items():
        path = folder / name / "test-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        table = datasets.Dataset.from_list(rows)
        if "image" in table.column_names:
            table = table.cast_column("image", datasets.Image())
        with quiet():
            table.to_parquet(path)
        lines += [f"- config_name: {name}", "  data_files:", "  - split: test", f"    path: {name}/test-*"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
    return folder


def _picture(colours: Sequence[str]) -> dict[str, Any]:
    return {"bytes": draw_page(colours), "path": None}


def _ask() -> Questions:
    """The queries; in the benchmark's other languages the English ones stand in."""
    asked = dict(QUERIES)
    for place, language in enumerate(("german", "spanish", "italian", "portuguese"), 1):
        english = {query: row for query, row in QUERIES.items() if row[1] == "english"}
        asked |= {f"{place}{query}": (text, language, grades) for query, (text, _, grades) in english.items()}
    return asked


def stay_offline(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Keep the hub out of a test, and what datasets caches out of the home folder."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)


TASKS = {"v1": "VidoreArxivQARetrieval", "v2": "Vidore2ESGReportsRetrieval", "v3": "Vidore3HrRetrieval"}
OCR_TASK = "Vidore3HrRetrieval.v2"


def write_copies(folder: Path) -> Path:
    """Local copies of one task of each version, and of all of v2; named like the task, or like the data set."""
    write_plain(folder / TASKS["v1"])
    write_plain(folder / "esg_reports_human_labeled_v2")
    for name in ("esg_reports_v2", "economics_reports_v2", "vidore/biomedical_lectures_v2"):
        write_plain(folder / name, languages=True)
    write_by_language(folder / TASKS["v3"])
    write_by_language(folder / OCR_TASK, with_text=True)
    return folder


def use_encoder(monkeypatch: pytest.MonkeyPatch, encoder: Any) -> Any:
    """Let every name of a model stand for this encoder."""
    for module in ("mteb_models", "deferred"):  # in this order: the first imports from the second
        monkeypatch.setattr(f"moca_rag.{module}.DeferredEmbedder", lambda _: encoder)
    return encoder


def judge(version: str, data: Path, model: str | None = "colours", **options: Any) -> VidoreReport:
    """One task of a version, results kept in ./out."""
    options.setdefault("tasks", [TASKS[version]] if version in TASKS else [OCR_TASK])
    return evaluate_vidore(version, model, Path("out"), data=data, **options)


def judge_engine(data: Path, mode: Mode | None, model: str | None = "colours") -> VidoreReport:
    """The whole engine on pages with text."""
    return judge("v3.1", data, model, index=index_documents, mode=mode, languages=["english", "french"])


def rescore(path: Path, cut: int) -> float:
    """The whole way from a kept file to its score, with pytrec_eval alone."""
    kept = json.loads(path.read_text())
    evaluator = pytrec_eval.RelevanceEvaluator(kept["qrels"], {f"ndcg_cut.{cut}"})
    scores = evaluator.evaluate(kept["run"])
    return sum(row[f"ndcg_cut_{cut}"] for row in scores.values()) / len(kept["qrels"])
