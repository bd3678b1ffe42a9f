"""Finds how far a model's rankings are to be believed in hybrid search, on judged folders of pages with words and without."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import TypeAlias

from .catalog import Catalog
from .errors import ConfigError
from .fusion import DEPTH, fuse
from .judged import JudgedFolder, make_key
from .judging import Asked, IndexFunction, Opened, open_judged
from .metrics import paired_difference, score_run
from .progress import Reporter
from .ranking import text_pages
from .records import Encoder, FusionWeights, Query
from .scopes import Estimate
from .search import Request, check_request, first_files, rank_pages

Rankings: TypeAlias = dict[str, dict[int, float]]

TRIED: Mapping[str, tuple[float, ...]] = {
    "text": (0.8, 0.9, 1.0),
    "passages": (0.1, 0.2, 0.5),
    "vision": (0.0, 0.05, 0.2, 0.5, 0.8),
    "wordless": (0.8, 0.85, 0.9, 0.95),
}
MOST_COST = 0.01  # that pages with words may lose against words alone, at the lower end of the interval
MEASURE = "ndcg_cut_5"


@dataclass(frozen=True, slots=True)
class Found:
    """nDCG@5 on one folder: over all questions, those that pages with words answer, and those that pages without do.

    `gain` is the difference to words alone over the questions that pages with words answer.
    """

    every: Estimate
    with_words: Estimate
    without_words: Estimate
    gain: Estimate


@dataclass(frozen=True, slots=True)
class Weighed:
    """Weights, and what hybrid search finds with them, folder by folder."""

    weights: FusionWeights
    found: tuple[Found, ...]

    @property
    def mean(self) -> float:
        """Of the folders' means over all questions."""
        return mean(one.every.mean for one in self.found)

    @property
    def is_cheap(self) -> bool:
        """Whether pages with words lose next to nothing by them, in any folder."""
        return all(one.gain.low >= -MOST_COST for one in self.found)


@dataclass(frozen=True, slots=True)
class WeighedFolder:
    """How many questions pages with words answer, and how many pages without; `text` is what words alone reach over all."""

    path: Path
    with_words: int
    without_words: int
    text: Estimate


@dataclass(frozen=True, slots=True)
class Weighing:
    """What was tried on the questions of some folders."""

    folders: tuple[WeighedFolder, ...]
    model: str
    tried: list[Weighed]

    @property
    def best(self) -> Weighed | None:
        """The best of those that cost pages with words next to nothing; None where all cost more."""
        return max((one for one in self.tried if one.is_cheap), key=lambda one: one.mean, default=None)


def weigh_folders(
    folders: Sequence[JudgedFolder], index: IndexFunction, encoder: Encoder, cache: Path, reporter: Reporter
) -> Weighing:
    """Rank each question's pages once, and fuse them with all the weights that are tried.

    The folders are indexed as by `judge_folder`. Raises ConfigError where one lacks questions that pages with words
    answer, or questions that pages without words do: there is then nothing to weigh.
    """
    weighed = [_weigh_folder(judged, index, encoder, cache, reporter) for judged in folders]
    together = zip(*(found for _, found in weighed), strict=True)
    tried = [Weighed(weights, found) for weights, found in zip(list_weights(), together, strict=True)]
    return Weighing(tuple(folder for folder, _ in weighed), encoder.card.name, tried)


def list_weights() -> list[FusionWeights]:
    """All that are tried."""
    return [FusionWeights(*values) for values in product(*TRIED.values())]


def _weigh_folder(
    judged: JudgedFolder, index: IndexFunction, encoder: Encoder, cache: Path, reporter: Reporter
) -> tuple[WeighedFolder, list[Found]]:
    """One folder, and what is found in it with each of the weights."""
    with open_judged(judged, index, encoder, cache, reporter) as opened:
        catalog, asked = opened.collection.catalog, opened.asked
        wordy, wordless = _split_by_words(catalog, asked)
        if not wordy or not wordless:
            raise ConfigError(
                f"{judged.path}: pages with words answer {len(wordy)} of its questions and pages without {len(wordless)}: "
                "weighing needs both (moca data exam-pdfs makes such a folder)"
            )
        reporter.start("rankings", len(asked))
        rankings = [_rank(opened, one, reporter) for one in asked]
        pages = {page for found in rankings for scores in found.values() for page in scores}
        names, with_words = _name_pages(catalog, pages), text_pages(catalog, pages)
        share = catalog.share_without_words()
    text = _judge(asked, names, (found["text"] for found in rankings))
    results = []
    every = list_weights()
    reporter.start("weights", len(every))
    for weights in every:
        fused = (fuse(found, with_words, weights, share) for found in rankings)
        totals = ({page: sum(parts.values()) for page, parts in shares.items()} for shares in fused)
        results.append(_compare(_judge(asked, names, totals), text, wordy, wordless))
        reporter.advance("weights")
    return WeighedFolder(judged.path, len(wordy), len(wordless), Estimate.of(list(text.values()))), results


def _judge(asked: Sequence[Asked], names: Mapping[int, str], scored: Iterable[Mapping[int, float]]) -> dict[str, float]:
    """nDCG@5 of each question by the scores of its pages."""
    run = {
        one.key: {names[page]: score for page, score in pages.items()} for one, pages in zip(asked, scored, strict=True)
    }
    qrels = {one.key: one.grades for one in asked}
    return {key: scores[MEASURE] for key, scores in score_run(qrels, run, [MEASURE]).items()}


def _split_by_words(catalog: Catalog, asked: Sequence[Asked]) -> tuple[list[str], list[str]]:
    """The questions that only pages with words answer, and those that only pages without do."""
    files = first_files(catalog, [file.document_id for file in catalog.files()])
    documents = {make_key(file.name): document_id for document_id, file in files.items()}
    wordy, wordless = [], []
    for one in asked:
        places = [page.rpartition("#") for page, grade in one.grades.items() if grade > 0]
        found = {catalog.find_page(documents[name], int(number)) for name, _, number in places if name in documents}
        pages = {page_id for page_id in found if page_id is not None}
        with_words = text_pages(catalog, pages)
        if pages and with_words == pages:
            wordy.append(one.key)
        elif pages and not with_words:
            wordless.append(one.key)
    return wordy, wordless


def _rank(opened: Opened, one: Asked, reporter: Reporter) -> Rankings:
    request = check_request(Request(Query(one.query.text), DEPTH, "hybrid"), opened.collection.fingerprint)
    stores = opened.collection.stores()
    reporter.advance("rankings")
    collection, vector = opened.collection, opened.vectors[one.query.text]
    return rank_pages(collection.catalog, request, stores, vector, model=collection.fingerprint.model)


def _name_pages(catalog: Catalog, page_ids: Iterable[int]) -> dict[int, str]:
    """Pages by their keys, as `judge_folder` keeps them."""
    pages = catalog.pages(list(page_ids))
    files = first_files(catalog, list({page.document_id for page in pages.values()}))
    return {page_id: make_key(f"{files[page.document_id].name}#{page.number}") for page_id, page in pages.items()}


def _compare(
    found: Mapping[str, float], text: Mapping[str, float], wordy: Sequence[str], wordless: Sequence[str]
) -> Found:
    own, base = ([scores[key] for key in wordy] for scores in (found, text))
    return Found(
        Estimate.of(list(found.values())),
        Estimate.of(own),
        Estimate.of([found[key] for key in wordless]),
        Estimate(*paired_difference(own, base)),
    )
