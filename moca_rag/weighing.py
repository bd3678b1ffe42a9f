"""Finds how much a model's look should count in hybrid search, on a judged folder of pages with words and without."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from .catalog import Catalog
from .errors import ConfigError
from .fusion import DEPTH
from .judged import JudgedFolder, make_key
from .judging import Asked, IndexFunction, Opened, open_judged
from .metrics import Run, paired_difference, score_run
from .progress import Reporter
from .ranking import text_pages
from .records import Encoder, ModelCard, Query
from .scopes import Estimate
from .search import Request, check_request, first_files, rank_pages, share_scores

VISION_WEIGHTS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
WORDLESS_WEIGHTS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0)
MOST_COST = 0.01  # that pages with words may lose against words alone, at the lower end of the interval
MEASURE = "ndcg_cut_5"


@dataclass(frozen=True, slots=True)
class Weighed:
    """A pair of weights, and nDCG@5 with them: over all questions, those that pages with words answer, and the others.

    `gain` is the difference to words alone over the questions that pages with words answer.
    """

    vision_weight: float
    wordless_weight: float
    every: Estimate
    with_words: Estimate
    without_words: Estimate
    gain: Estimate

    @property
    def is_cheap(self) -> bool:
        """Whether pages with words lose next to nothing by it."""
        return self.gain.low >= -MOST_COST


@dataclass(frozen=True, slots=True)
class Weighing:
    """What was tried on how many questions; `text` is what words alone reach over all of them."""

    folder: Path
    kept: Path
    model: str
    with_words: int
    without_words: int
    text: Estimate
    tried: list[Weighed]

    @property
    def best(self) -> Weighed | None:
        """The best over all questions of those that cost pages with words next to nothing; None where all cost more."""
        return max((one for one in self.tried if one.is_cheap), key=lambda one: one.every.mean, default=None)


def weigh_folder(
    judged: JudgedFolder, index: IndexFunction, encoder: Encoder, cache: Path, reporter: Reporter
) -> Weighing:
    """Rank each question's pages once, and fuse them with every pair of weights.

    The folder is indexed as by `judge_folder`. Raises ConfigError where it lacks questions that pages with words answer,
    or questions that pages without words do: there is then nothing to weigh.
    """
    with open_judged(judged, index, encoder, cache, reporter) as opened:
        catalog, model = opened.collection.catalog, opened.collection.fingerprint.model
        assert model is not None
        wordy, wordless = _split_by_words(catalog, opened.asked)
        if not wordy or not wordless:
            raise ConfigError(
                f"{judged.path}: pages with words answer {len(wordy)} of its questions and pages without {len(wordless)}: "
                "weighing needs both (moca data exam-pdfs makes such a folder)"
            )
        reporter.start("rankings", len(opened.asked))
        rankings = [_rank(opened, one, reporter) for one in opened.asked]
        names = _name_pages(catalog, {page for found in rankings for scores in found.values() for page in scores})
        qrels = {one.key: one.grades for one in opened.asked}

        def judge(card: ModelCard | None, chosen: Iterable[str]) -> dict[str, float]:
            run: Run = {}
            for one, found in zip(opened.asked, rankings, strict=True):
                shares = share_scores(catalog, {name: found[name] for name in chosen}, card)
                run[one.key] = {names[page]: sum(parts.values()) for page, parts in shares.items()}
            return {key: scores[MEASURE] for key, scores in score_run(qrels, run, [MEASURE]).items()}

        text = judge(None, ["text"])
        pairs = list(product(VISION_WEIGHTS, WORDLESS_WEIGHTS))
        reporter.start("weights", len(pairs))
        tried = []
        for vision, share in pairs:
            found = judge(replace(model, vision_weight=vision, wordless_weight=share), rankings[0])
            tried.append(_weigh(vision, share, found, text, wordy, wordless))
            reporter.advance("weights")
    sizes = (len(wordy), len(wordless))
    return Weighing(judged.path, opened.kept, model.name, *sizes, Estimate.of(list(text.values())), tried)


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


def _rank(opened: Opened, one: Asked, reporter: Reporter) -> dict[str, dict[int, float]]:
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


def _weigh(
    vision: float,
    share: float,
    found: dict[str, float],
    text: dict[str, float],
    wordy: Sequence[str],
    wordless: Sequence[str],
) -> Weighed:
    own, base = ([scores[key] for key in wordy] for scores in (found, text))
    return Weighed(
        vision,
        share,
        Estimate.of(list(found.values())),
        Estimate.of(own),
        Estimate.of([found[key] for key in wordless]),
        Estimate(*paired_difference(own, base)),
    )
